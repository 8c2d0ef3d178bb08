"""The casebook: all cases of every source, searchable by meaning.

Cases are committed to the relational store first, then embedded, then indexed; each step marks what it has
done. Whatever is interrupted, `Casebook.sync` finishes: it embeds keys without a vector and indexes
vectors that the index does not hold.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, and_, delete, exists, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from retrieval.embedder import Embedder
from retrieval.failures import EmbedderMismatch, StoreFailure
from retrieval.field_space import features
from retrieval.index import VectorIndex
from retrieval.masking import words
from retrieval.space import RecordLike, Space
from retrieval.store import cases, open_store, sources, vectors, verdicts

LABELS = ("normal", "anomalous")
_CHUNK = 2_000
Vector = NDArray[np.float32]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class NewCase:
    """A case on its way into the casebook."""

    record: RecordLike
    content_hash: str
    label: str
    file: str | None = None
    line: int | None = None
    time: str | None = None


@dataclass(frozen=True)
class StoredCase:
    case_id: str
    key: str
    content_hash: str
    label: str
    text: str
    fields: dict[str, Any]
    events: tuple[str, ...]
    given_by: str


@dataclass(frozen=True)
class Neighbour:
    case: StoredCase
    similarity: float


@dataclass(frozen=True)
class Found:
    """What memory holds on one record.

    ``nearest`` has up to k cases of each label, nearest first; ``same_template`` and ``same_content`` count
    the cases of each label with the record's key, and with exactly its content.
    """

    nearest: tuple[Neighbour, ...]
    same_template: dict[str, int]
    same_content: dict[str, int]


@dataclass(frozen=True)
class SourceRow:
    name: str
    brief: str
    brief_by: str
    version: int
    embedder: str | None
    space: Space | None
    reading: dict[str, Any] | None
    judge: dict[str, Any] | None
    counts: dict[str, int]


class Casebook:
    """Sources and their cases. ``embedder`` is called when a text must be embedded for the first time."""

    def __init__(
        self, home: Path, store_url: str, embedder: Callable[[], Embedder], chroma_url: str | None = None
    ) -> None:
        self.engine = open_store(store_url)
        self._index = VectorIndex(home / "index", chroma_url)
        self._index_folder = home / "index"
        self._embedder = embedder
        self._matrices: dict[tuple[str, str], tuple[int, list[str], Vector]] = {}
        self._synced: dict[str, int] = {}
        self._rows: dict[str, SourceRow] = {}
        self._lock = threading.RLock()

    # sources

    def names(self) -> list[str]:
        with self.engine.connect() as connection:
            return list(connection.scalars(select(sources.c.name).order_by(sources.c.name)))

    def source(self, name: str) -> SourceRow | None:
        """The source's row as it is now; kept until its version or brief changes."""
        with self.engine.connect() as connection:
            return self._source(connection, name)

    def _source(self, connection: Connection, name: str) -> SourceRow | None:
        head = connection.execute(
            select(sources.c.version, sources.c.brief, sources.c.judge.is_(None)).where(sources.c.name == name)
        ).first()
        if head is None:
            return None
        kept = self._rows.get(name)
        if kept and (kept.version, kept.brief, kept.judge is None) == tuple(head):
            return kept
        row = connection.execute(select(sources).where(sources.c.name == name)).one()
        counted = connection.execute(
            select(cases.c.label, func.count()).where(cases.c.source == name).group_by(cases.c.label)
        )
        self._rows[name] = SourceRow(
            row.name,
            row.brief,
            row.brief_by,
            row.version,
            row.embedder,
            Space.from_json(row.space) if row.space else None,
            row.reading,
            row.judge,
            dict.fromkeys(LABELS, 0) | {label: count for label, count in counted},
        )
        return self._rows[name]

    def create(self, name: str) -> None:
        """Make the source when it is not there."""
        with self.engine.begin() as connection:
            values = {"name": name, "brief": "", "brief_by": "nobody", "version": 0, "created_at": _now()}
            connection.execute(self._insert_or_ignore(sources, [values]))

    def set(self, name: str, **values: Any) -> None:
        """Change columns of a source: ``brief``, ``brief_by``, ``reading``, ``judge`` or ``field_model``."""
        with self.engine.begin() as connection:
            connection.execute(update(sources).where(sources.c.name == name).values(**values))
        self._rows.pop(name, None)

    def field_model(self, name: str) -> bytes | None:
        with self.engine.connect() as connection:
            return connection.scalar(select(sources.c.field_model).where(sources.c.name == name))

    def remove(self, name: str) -> None:
        """Forget a source with all its cases, verdicts and vectors."""
        with self._lock:
            if not self._index.owned():
                raise StoreFailure("another Precedent process has the casebook open: stop it first")
            with self.engine.begin() as connection:
                for table in (verdicts, vectors, cases):
                    connection.execute(delete(table).where(table.c.source == name))
                connection.execute(delete(sources).where(sources.c.name == name))
            self._index.drop(name, LABELS)
            self._forget(name)

    # cases

    def add(self, name: str, new: Iterable[NewCase], given_by: str) -> int:
        """Commit cases that are not there yet, in batches; returns how many. Call `sync` after it.

        Raises:
            EmbedderMismatch: the source's vectors were made by another embedding model.
        """
        added, batch = 0, list[NewCase]()
        for case in new:
            batch.append(case)
            if len(batch) == _CHUNK:
                added += self._commit(name, batch, given_by)
                batch = []
        return added + self._commit(name, batch, given_by)

    def _commit(self, name: str, batch: Sequence[NewCase], given_by: str) -> int:
        if not batch:
            return 0
        self.create(name)
        with self.engine.begin() as connection:
            row = self._source(connection, name)
            assert row is not None
            space = row.space
            if space is None:
                space = Space.fit([case.record for case in batch])
                connection.execute(update(sources).where(sources.c.name == name).values(space=space.to_json()))
            before = self._count(connection, name)
            rows = [self._row(name, case, space, given_by) for case in batch]
            connection.execute(self._insert_or_ignore(cases, rows))
            added = self._count(connection, name) - before
            if added:
                self._bump(connection, name)
        self._rows.pop(name, None)
        return added

    def relabel(self, name: str, case: NewCase, given_by: str) -> str:
        """Make ``case`` the only case with its content, whatever label it had; returns its id."""
        self.create(name)
        with self.engine.begin() as connection:
            row = self._source(connection, name)
            assert row is not None
            space = row.space or Space.fit([case.record])
            if row.space is None:
                connection.execute(update(sources).where(sources.c.name == name).values(space=space.to_json()))
            same = and_(cases.c.source == name, cases.c.hash == case.content_hash)
            connection.execute(delete(cases).where(same))
            connection.execute(insert(cases).values(self._row(name, case, space, given_by)))
            orphaned = and_(
                vectors.c.source == name,
                ~exists().where(
                    cases.c.source == vectors.c.source,
                    cases.c.key == vectors.c.key,
                    cases.c.label == vectors.c.label,
                ),
            )
            gone = connection.execute(select(vectors.c.key, vectors.c.label).where(orphaned)).all()
            connection.execute(delete(vectors).where(orphaned))
            number = connection.scalar(select(cases.c.id).where(same))
            self._bump(connection, name)
        with self._lock:
            self._rows.pop(name, None)
            if gone and self._index.owned():
                for key, label in gone:
                    self._index.delete(name, label, [key])
        return f"c{number}"

    def sync(self, name: str, progress: Progress | None = None) -> None:
        """Embed and index whatever is not yet; a no-op when nothing changed since the last call."""
        row = self.source(name)
        if row is None or row.space is None or self._synced.get(name) == row.version:
            return
        with self._lock:
            self._embed_missing(row, progress)
            if self._index.owned():
                self._index_missing(row, progress)
            self._synced[name] = row.version

    def _embed_missing(self, row: SourceRow, progress: Progress | None) -> None:
        assert row.space is not None
        lacking = and_(
            cases.c.source == row.name,
            ~exists().where(
                vectors.c.source == cases.c.source,
                vectors.c.key == cases.c.key,
                vectors.c.label == cases.c.label,
            ),
        )
        one_each = select(func.min(cases.c.id)).where(lacking).group_by(cases.c.key, cases.c.label)
        with self.engine.connect() as connection:
            if row.space.axes is None:
                self._check_embedder(row)
            todo = list(connection.scalars(one_each.order_by(func.min(cases.c.id))))
        for start in range(0, len(todo), _CHUNK):
            with self.engine.connect() as connection:
                part = [
                    _stored(case)
                    for case in connection.execute(select(cases).where(cases.c.id.in_(todo[start : start + _CHUNK])))
                ]
            matrix = self._vectors_of(row.space, part, progress, start, len(todo))
            rows = [
                {
                    "source": row.name,
                    "key": case.key,
                    "label": case.label,
                    "vector": v.tobytes(),
                    "indexed": False,
                }
                for case, v in zip(part, matrix, strict=True)
            ]
            with self.engine.begin() as connection:
                connection.execute(self._insert_or_ignore(vectors, rows))

    def _vectors_of(
        self, space: Space, part: Sequence[StoredCase], progress: Progress | None, done: int, total: int
    ) -> Vector:
        if space.axes is not None:
            if progress:
                progress("embedding", done + len(part), total)
            return np.stack([space.axes.vector(features(case.fields, case.events)) for case in part])
        seen = done

        def step(count: int) -> None:
            nonlocal seen
            seen += count
            if progress:
                progress("embedding", seen, total)

        return self._embedder().encode([words(space.masked(case)) for case in part], step)

    def _index_missing(self, row: SourceRow, progress: Progress | None) -> None:
        mine = vectors.c.source == row.name
        for label in LABELS:
            of_label = and_(mine, vectors.c.label == label)
            with self.engine.connect() as connection:
                stored = connection.scalar(select(func.count()).select_from(vectors).where(of_label)) or 0
                pending = connection.execute(
                    select(vectors.c.key, vectors.c.vector).where(of_label, ~vectors.c.indexed)
                ).all()
                if self._index.count(row.name, label) + len(pending) != stored:
                    # lost, stale or half written: everything again, the vectors are all in the store
                    self._index.drop(row.name, [label])
                    pending = connection.execute(select(vectors.c.key, vectors.c.vector).where(of_label)).all()
            if pending:
                if progress:
                    progress("indexing", len(pending), len(pending))
                keys = [key for key, _ in pending]
                self._index.put(row.name, label, keys, np.stack([_vector(blob) for _, blob in pending]))
                with self.engine.begin() as connection:
                    for start in range(0, len(keys), _CHUNK):
                        some = vectors.c.key.in_(keys[start : start + _CHUNK])
                        connection.execute(update(vectors).where(of_label, some).values(indexed=True))

    def rebuild(self, name: str, progress: Progress | None = None) -> None:
        """Make the source's vectors and index anew from its cases, with the present embedding model."""
        with self._lock:
            try:
                owned = self._index.owned()
            except StoreFailure:
                # the index itself is damaged; every source's part of it can be made again
                shutil.rmtree(self._index_folder)
                owned = self._index.owned()
            if not owned:
                raise StoreFailure("another Precedent process has the casebook open: stop it first")
            row = self.source(name)
            with self.engine.begin() as connection:
                connection.execute(delete(vectors).where(vectors.c.source == name))
                if row is not None and row.space is not None and row.space.axes is not None:
                    everything = connection.execute(select(cases).where(cases.c.source == name))
                    space = Space.fit([_stored(case) for case in everything])
                    connection.execute(update(sources).where(sources.c.name == name).values(space=space.to_json()))
                connection.execute(update(sources).where(sources.c.name == name).values(embedder=None))
                self._bump(connection, name)
            self._index.drop(name, LABELS)
            self._forget(name)
            self.sync(name, progress)

    # search

    def find(self, name: str, record: RecordLike, content_hash: str, k: int) -> Found:
        """What the casebook holds on ``record``: ``k`` nearest keys of each label, one case for each."""
        self.sync(name)
        row = self.source(name)
        if row is None or row.space is None:
            return Found((), dict.fromkeys(LABELS, 0), dict.fromkeys(LABELS, 0))
        key = row.space.key(record, content_hash)
        with self.engine.connect() as connection:
            templates = self._counts(connection, name, cases.c.key == key)
            contents = self._counts(connection, name, cases.c.hash == content_hash)
        vector = self.vector(row, record)
        nearest = [near for label in LABELS for near in self._nearest(row, label, vector, k, key, content_hash)]
        return Found(tuple(sorted(nearest, key=lambda near: -near.similarity)), templates, contents)

    def vector(self, row: SourceRow, record: RecordLike) -> Vector:
        """The record's unit vector in its source's space."""
        assert row.space is not None
        if row.space.axes is not None:
            return row.space.axes.vector(features(record.fields, record.events))
        self._check_embedder(row)
        return self._embedder().encode_one(words(row.space.masked(record)))

    def matrix(self, row: SourceRow, label: str) -> tuple[list[str], Vector]:
        """All keys and vectors of a label, ordered by key, shape ``(n, dimensions)``."""
        with self._lock:
            kept = self._matrices.get((row.name, label))
            if kept is None or kept[0] != row.version:
                with self.engine.connect() as connection:
                    found = connection.execute(
                        select(vectors.c.key, vectors.c.vector)
                        .where(vectors.c.source == row.name, vectors.c.label == label)
                        .order_by(vectors.c.key)
                    ).all()
                stacked = np.stack([_vector(blob) for _, blob in found]) if found else np.zeros((0, 1), np.float32)
                kept = self._matrices[(row.name, label)] = (row.version, [key for key, _ in found], stacked)
            return kept[1], kept[2]

    def _nearest(
        self, row: SourceRow, label: str, vector: Vector, k: int, key: str, content_hash: str
    ) -> list[Neighbour]:
        with self._lock:
            if self._index.owned():
                keys = self._index.nearest(row.name, label, vector, k)
            else:
                every, matrix = self.matrix(row, label)
                keys = [every[i] for i in np.argsort(-(matrix @ vector), kind="stable")[:k]] if every else []
        if not keys:
            return []
        mine = and_(cases.c.source == row.name, cases.c.label == label)
        with self.engine.connect() as connection:
            stored = connection.execute(
                select(vectors.c.key, vectors.c.vector).where(
                    vectors.c.source == row.name, vectors.c.label == label, vectors.c.key.in_(keys)
                )
            ).all()
            # similarities come from the stored vectors, so that they are the same with and without Chroma
            similarity = {found: _clip(float(_vector(blob) @ vector)) for found, blob in stored}
            eldest = select(func.min(cases.c.id)).where(mine, cases.c.key.in_(keys)).group_by(cases.c.key)
            chosen = {row.key: _stored(row) for row in connection.execute(select(cases).where(cases.c.id.in_(eldest)))}
            if key in chosen:
                same = connection.execute(select(cases).where(mine, cases.c.hash == content_hash)).first()
                if same is not None:
                    chosen[key] = _stored(same)
        near = [
            Neighbour(chosen[found], similarity[found]) for found in keys if found in chosen and found in similarity
        ]
        return sorted(near, key=lambda one: (-one.similarity, one.case.key))

    def holds(self, name: str, content_hash: str) -> bool:
        """Whether a case has exactly this content."""
        query = select(cases.c.id).where(cases.c.source == name, cases.c.hash == content_hash).limit(1)
        with self.engine.connect() as connection:
            return connection.scalar(query) is not None

    def cases(self, name: str) -> list[StoredCase]:
        """Every case of a source, oldest first."""
        with self.engine.connect() as connection:
            rows = connection.execute(select(cases).where(cases.c.source == name).order_by(cases.c.id))
            return [_stored(row) for row in rows]

    def close(self) -> None:
        self._index.close()
        self.engine.dispose()

    # the rest

    def _check_embedder(self, row: SourceRow) -> None:
        mine = self._embedder().fingerprint
        if row.embedder is None:
            self.set(row.name, embedder=mine)
        elif row.embedder != mine:
            raise EmbedderMismatch(
                f"the vectors of source {row.name!r} were made by another embedding model "
                f"({row.embedder[:12]}…, this one is {mine[:12]}…): `precedent sources rebuild {row.name}`"
            )

    def _row(self, name: str, case: NewCase, space: Space, given_by: str) -> dict[str, Any]:
        return {
            "source": name,
            "hash": case.content_hash,
            "key": space.key(case.record, case.content_hash),
            "label": case.label,
            "text": case.record.text,
            "fields": dict(case.record.fields),
            "events": list(case.record.events),
            "file": case.file,
            "line": case.line,
            "time": case.time,
            "given_by": given_by,
            "given_at": _now(),
        }

    def _insert_or_ignore(self, table: Any, rows: Sequence[dict[str, Any]]) -> Any:
        dialect = postgresql if self.engine.dialect.name == "postgresql" else sqlite
        return dialect.insert(table).values(list(rows)).on_conflict_do_nothing()

    @staticmethod
    def _count(connection: Connection, name: str) -> int:
        return connection.scalar(select(func.count()).select_from(cases).where(cases.c.source == name)) or 0

    @staticmethod
    def _counts(connection: Connection, name: str, condition: Any) -> dict[str, int]:
        query = select(cases.c.label, func.count()).where(cases.c.source == name, condition).group_by(cases.c.label)
        return dict.fromkeys(LABELS, 0) | {label: count for label, count in connection.execute(query)}

    @staticmethod
    def _bump(connection: Connection, name: str) -> None:
        connection.execute(update(sources).where(sources.c.name == name).values(version=sources.c.version + 1))

    def _forget(self, name: str) -> None:
        self._rows.pop(name, None)
        self._synced.pop(name, None)
        for label in LABELS:
            self._matrices.pop((name, label), None)


def _stored(row: Any) -> StoredCase:
    return StoredCase(f"c{row.id}", row.key, row.hash, row.label, row.text, row.fields, tuple(row.events), row.given_by)


def _vector(blob: bytes) -> Vector:
    return np.frombuffer(blob, dtype=np.float32)


def _clip(cosine: float) -> float:
    return max(-1.0, min(1.0, cosine))


def _now() -> datetime:
    return datetime.now(UTC)
