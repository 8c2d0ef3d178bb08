"""The sources' rows, read at every verdict and so cached until their revision changes."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, func, select, update

from retrieval.encoding.representation import RecordLike, Representation
from retrieval.errors import StoreFailure
from retrieval.lru_cache import clear_caches
from retrieval.store.engine import insert_or_ignore
from retrieval.store.schema import cases, sources
from retrieval.types import LABELS

_FIRST_REVISIONS = 2**30


@dataclass(frozen=True)
class SourceSnapshot:
    """A source at one moment.

    ``version`` counts changes of the cases (the contract's ``casebook_version``); ``revision`` changes with every
    change of the source, its cases included. Of one source, equal revisions mean equal snapshots. ``source_model`` is
    an `agent.scoring.fusion.SourceModel` as JSON. ``counts``: how many cases there are of each label.
    """

    name: str
    brief: str
    brief_by: str
    version: int
    revision: int
    embedder: str | None
    representation: Representation | None
    reading: dict[str, Any] | None
    source_model: dict[str, Any] | None
    counts: dict[str, int]


class Sources:
    """Snapshots by name. Safe to share between threads; changes by other processes are noticed."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._snapshots: dict[str, SourceSnapshot] = {}
        self._erasures: dict[str, int] = {}

    def names(self) -> list[str]:
        """The names of all sources, sorted."""
        with self._engine.connect() as connection:
            return list(connection.scalars(select(sources.c.name).order_by(sources.c.name)))

    def readings(self) -> dict[str, dict[str, Any] | None]:
        """How the files of each source are read, by its name, sorted."""
        with self._engine.connect() as connection:
            rows = connection.execute(select(sources.c.name, sources.c.reading).order_by(sources.c.name))
            return {name: reading for name, reading in rows}  # noqa: C416

    def get(self, name: str) -> SourceSnapshot | None:
        """The source as it is now, None when there is none of that name."""
        with self._engine.connect() as connection:
            revision = connection.scalar(select(sources.c.revision).where(sources.c.name == name))
            cached = self._snapshots.get(name)
            if cached and cached.revision == revision:
                return cached
            row = connection.execute(select(sources).where(sources.c.name == name)).first()
            if row is None:
                return None
            by_label = select(cases.c.label, func.count()).where(cases.c.source == name).group_by(cases.c.label)
            counts: dict[str, int] = dict(connection.execute(by_label).all())
        if self._erasures.get(name, row.erasures) != row.erasures:
            # another process may have forgotten records that are cached in this one
            clear_caches()
        self._erasures[name] = row.erasures
        self._snapshots[name] = snapshot = SourceSnapshot(
            name=row.name,
            brief=row.brief,
            brief_by=row.brief_by,
            version=row.version,
            revision=row.revision,
            embedder=row.embedder,
            representation=Representation.from_json(row.representation) if row.representation else None,
            reading=row.reading,
            source_model=row.source_model,
            counts=dict.fromkeys(LABELS, 0) | counts,
        )
        return snapshot

    def create(self, name: str) -> None:
        """Create the source unless it exists."""
        values = {
            "name": name,
            "brief": "",
            "brief_by": "nobody",
            "version": 0,
            # a source that is removed and created again must not come back to a revision that it had
            "revision": secrets.randbelow(_FIRST_REVISIONS),
            "created_at": datetime.now(UTC),
        }
        with self._engine.begin() as connection:
            connection.execute(insert_or_ignore(self._engine, sources), values)

    def set(self, name: str, **values: Any) -> None:
        """Change columns of a source other than its name, version and revision."""
        with self._engine.begin() as connection:
            self.update(connection, name, **values)

    @staticmethod
    def update(connection: Connection, name: str, **values: Any) -> None:
        """As `set`, in the transaction of ``connection``; every change of a source or of its cases passes here."""
        row = update(sources).where(sources.c.name == name)
        connection.execute(row.values(revision=sources.c.revision + 1, **values))

    @classmethod
    def cases_changed(cls, connection: Connection, name: str) -> None:
        """Count a change of the cases, in the transaction of ``connection``."""
        cls.update(connection, name, version=sources.c.version + 1)

    def models(self, name: str) -> bytes | None:
        """The fitted models, as they were packed."""
        with self._engine.connect() as connection:
            return connection.scalar(select(sources.c.models).where(sources.c.name == name))

    def representation(self, connection: Connection, name: str, records: Sequence[RecordLike]) -> Representation:
        """The source's representation; fitted to ``records`` where it has none, unless another process was faster."""
        representation = select(sources.c.representation).where(sources.c.name == name)
        if (stored := connection.scalar(representation)) is None:
            fitted = Representation.fit(records).to_json()
            unset = update(sources).where(sources.c.name == name, sources.c.representation.is_(None))
            connection.execute(unset.values(representation=fitted, revision=sources.c.revision + 1))
            stored = connection.scalar(representation)
        if stored is None:
            raise StoreFailure(f"source {name!r} was removed while cases were added to it")
        return Representation.from_json(stored)
