"""The sources' rows: brief, space, reading, judge; read at every verdict, so kept until something in them changes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, Engine, Text, cast, func, select, update

from retrieval.encoding.representation import RecordLike, Representation
from retrieval.store.schema import cases, insert_or_ignore, sources
from retrieval.types import LABELS


@dataclass(frozen=True)
class SourceRow:
    name: str
    brief: str
    brief_by: str
    version: int
    embedder: str | None
    space: Representation | None
    reading: dict[str, Any] | None
    judge: dict[str, Any] | None
    counts: dict[str, int]

    @cached_property
    def revision(self) -> int:
        """Changes whenever the source does."""
        content = json.dumps([self.version, self.brief, self.embedder, self.judge], sort_keys=True)
        return int.from_bytes(hashlib.sha256(content.encode()).digest()[:8])


class Sources:
    """Rows by name. Safe to share between threads, and between processes: what another has changed is noticed."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._kept: dict[str, tuple[tuple[Any, ...], SourceRow]] = {}
        # a judge is many numbers: a server is asked for their digest, SQLite is at hand and has none
        judge = cast(sources.c.judge, Text)
        self._head = select(
            sources.c.version,
            sources.c.brief,
            sources.c.embedder,
            func.md5(judge) if engine.dialect.name == "postgresql" else judge,
        )

    def names(self) -> list[str]:
        with self._engine.connect() as connection:
            return list(connection.scalars(select(sources.c.name).order_by(sources.c.name)))

    def get(self, name: str) -> SourceRow | None:
        """The source's row as it is now."""
        with self._engine.connect() as connection:
            found = connection.execute(self._head.where(sources.c.name == name)).first()
            if found is None:
                return None
            head, kept = tuple(found), self._kept.get(name)
            if kept and kept[0] == head:
                return kept[1]
            row = connection.execute(select(sources).where(sources.c.name == name)).first()
            if row is None:
                return None
            by_label = select(cases.c.label, func.count()).where(cases.c.source == name).group_by(cases.c.label)
            fresh = SourceRow(
                row.name,
                row.brief,
                row.brief_by,
                row.version,
                row.embedder,
                Representation.from_json(row.space) if row.space else None,
                row.reading,
                row.judge,
                dict.fromkeys(LABELS, 0) | {found.label: found[1] for found in connection.execute(by_label)},
            )
        self._kept[name] = (head, fresh)
        return fresh

    def create(self, name: str) -> None:
        """Make the source when it is not there."""
        values = {"name": name, "brief": "", "brief_by": "nobody", "version": 0, "created_at": datetime.now(UTC)}
        with self._engine.begin() as connection:
            connection.execute(insert_or_ignore(self._engine, sources), values)

    def set(self, name: str, **values: Any) -> None:
        """Change columns of a source: ``brief``, ``brief_by``, ``reading``, ``judge`` or ``models``."""
        with self._engine.begin() as connection:
            connection.execute(update(sources).where(sources.c.name == name).values(**values))
        self.forget(name)

    def models(self, name: str) -> bytes | None:
        """The fitted models, as they were packed."""
        with self._engine.connect() as connection:
            return connection.scalar(select(sources.c.models).where(sources.c.name == name))

    def space(self, connection: Connection, name: str, records: Sequence[RecordLike]) -> Representation:
        """The source's space; where it has none yet, ``records`` decide, and whoever writes first has decided."""
        mine = sources.c.name == name
        for _ in range(2):
            there = connection.scalar(select(sources.c.space).where(mine))
            if there:
                return Representation.from_json(there)
            space = Representation.fit(records).to_json()
            connection.execute(update(sources).where(mine, sources.c.space.is_(None)).values(space=space))
        raise AssertionError(f"source {name!r} was removed meanwhile")

    def forget(self, name: str) -> None:
        """Read the row anew next time."""
        self._kept.pop(name, None)
