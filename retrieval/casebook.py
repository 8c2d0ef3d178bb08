"""The casebook: all cases of every source, searchable by meaning.

Cases are committed to the relational store first, then embedded, then indexed; each step marks what it has
done. Whatever is interrupted, `Casebook.sync` finishes: it embeds keys without a vector and indexes
vectors that the index does not hold.
"""

from __future__ import annotations

import shutil
import threading
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from sqlalchemy import Connection, Text, and_, bindparam, cast, delete, exists, func, insert, select, update

from retrieval.encoding.field_encoder import features
from retrieval.encoding.representation import RecordLike, Representation
from retrieval.encoding.text_embedder import Embedder
from retrieval.errors import EmbedderMismatch, StoreFailure
from retrieval.index.chroma import VectorIndex
from retrieval.index.exact import DECIMALS, TIE, ExactIndex, Vector, unpacked
from retrieval.store.cases import case_row, cases_of_keys, counts_and_vectors, insert_cases, vectors_of_keys
from retrieval.store.schema import cases, insert_or_ignore, open_store, remembered, sources, vectors, verdicts
from retrieval.store.sources import SourceRow, Sources
from retrieval.text.masking import strip_placeholders
from retrieval.types import LABELS, Neighbour, NewCase, RetrievalResult, StoredCase, stored_case

__all__ = ["Casebook", "Neighbour", "NewCase", "RetrievalResult", "SourceRow", "StoredCase"]

_CHUNK = 2_000
_EMBEDDED_AT_ONCE = 512
Progress = Callable[[str, int, int], None]


class Casebook:
    """Sources and their cases. ``embedder`` is called when a text must be embedded for the first time."""

    def __init__(
        self, home: Path, store_url: str, embedder: Callable[[], Embedder], chroma_url: str | None = None
    ) -> None:
        self.engine = open_store(store_url)
        self._sources = Sources(self.engine)
        self.names, self.source = self._sources.names, self._sources.get
        self.create, self.set, self.models = self._sources.create, self._sources.set, self._sources.models
        self._index = VectorIndex(home / "index", chroma_url)
        self._index_folder = home / "index"
        self._embedder = embedder
        self._matrices = ExactIndex(self.engine)
        # by source: the version that was synced last, and whether into the index
        self._synced: dict[str, tuple[int, bool]] = {}
        self._lock = threading.RLock()

    def remove(self, name: str) -> None:
        """Forget a source with all its cases, verdicts and vectors."""
        with self._lock:
            if not self._index.owned():
                raise StoreFailure("another Precedent process has the casebook open: stop it first")
            with self.engine.begin() as connection:
                for table in (remembered, verdicts, vectors, cases):
                    connection.execute(delete(table).where(table.c.source == name))
                connection.execute(delete(sources).where(sources.c.name == name))
            self._index.drop(name, LABELS)
            self._forget(name)

    # cases

    def add(self, name: str, new: Iterable[NewCase], given_by: str) -> int:
        """Commit cases that are not there yet, in batches; returns how many. Call `sync` after it.

        Content that comes with the same label again is one case, which counts as often as it came in one call.
        """
        seen: Counter[tuple[str, str]] = Counter()
        added, batch = 0, list[NewCase]()
        for case in new:
            seen[case.content_hash, case.label] += 1
            batch.append(case)
            if len(batch) == _CHUNK:
                added += self._commit(name, batch, seen, given_by)
                batch = []
        return added + self._commit(name, batch, seen, given_by)

    def _commit(self, name: str, batch: Sequence[NewCase], seen: Counter[tuple[str, str]], given_by: str) -> int:
        if not batch:
            return 0
        self.create(name)
        with self.engine.begin() as connection:
            space = self._sources.space(connection, name, [case.record for case in batch])
            added, oftener = insert_cases(connection, name, batch, space, given_by, seen)
            if added or oftener:
                self._bump(connection, name)
        self._sources.forget(name)
        return added

    def relabel(self, name: str, case: NewCase, given_by: str) -> str:
        """Make ``case`` the only case with its content, whatever label it had; returns its id."""
        self.create(name)
        with self.engine.begin() as connection:
            space = self._sources.space(connection, name, [case.record])
            same = and_(cases.c.source == name, cases.c.hash == case.content_hash)
            keys = connection.scalars(select(cases.c.key).where(same)).all()
            connection.execute(delete(cases).where(same))
            connection.execute(insert(cases).values(case_row(name, case, space, given_by)))
            orphaned = and_(
                vectors.c.source == name,
                vectors.c.key.in_(keys),
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
            self._sources.forget(name)
            if gone and self._index.owned():
                for key, label in gone:
                    self._index.delete(name, label, [key])
        return f"c{number}"

    def sync(self, name: str, progress: Progress | None = None) -> None:
        """Embed and index whatever is not yet; a no-op when nothing changed since the last call.

        Raises:
            EmbedderMismatch: the source's vectors were made by another embedding model.
        """
        row = self.source(name)
        if row is None or row.space is None or self._synced.get(name) == (row.version, True):
            return
        with self._lock:
            owned = self._index.owned()
            if self._synced.get(name) == (row.version, owned):
                return
            self._embed_missing(row, progress)
            if owned:
                self._index_missing(row, progress)
            self._matrices.forget(name)
            self._synced[name] = (row.version, owned)

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
            if row.space.field_encoder is None:
                self._check_embedder(row)
            todo = list(connection.scalars(one_each.order_by(func.min(cases.c.id))))
        for start in range(0, len(todo), _EMBEDDED_AT_ONCE):
            with self.engine.connect() as connection:
                part = [
                    stored_case(case)
                    for case in connection.execute(
                        select(cases).where(cases.c.id.in_(todo[start : start + _EMBEDDED_AT_ONCE]))
                    )
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
                connection.execute(insert_or_ignore(self.engine, vectors), rows)

    def _vectors_of(
        self, space: Representation, part: Sequence[StoredCase], progress: Progress | None, done: int, total: int
    ) -> Vector:
        if space.field_encoder is not None:
            if progress:
                progress("embedding", done + len(part), total)
            return space.field_encoder.vectors([features(case.fields, case.events) for case in part])
        seen = done

        def step(count: int) -> None:
            nonlocal seen
            seen += count
            if progress:
                progress("embedding", seen, total)

        return self._embedder().encode([strip_placeholders(space.masked(case)) for case in part], step)

    def _index_missing(self, row: SourceRow, progress: Progress | None) -> None:
        mine = vectors.c.source == row.name
        for label in LABELS:
            of_label = and_(mine, vectors.c.label == label)
            with self.engine.connect() as connection:
                kept = connection.scalar(select(func.count()).select_from(vectors).where(of_label)) or 0
                missing = select(func.count()).select_from(vectors).where(of_label, ~vectors.c.indexed)
                pending = connection.scalar(missing) or 0
                if self._index.count(row.name, label) + pending != kept:
                    # lost, stale or half written: everything again, the vectors are all in the store
                    connection.execute(update(vectors).where(of_label).values(indexed=False))
                    connection.commit()
                    self._index.drop(row.name, [label])
                    pending = kept
            next_ones = select(vectors.c.key, vectors.c.vector).where(of_label, ~vectors.c.indexed).limit(_CHUNK)
            for start in range(0, pending, _CHUNK):
                if progress:
                    progress("indexing", start, pending)
                with self.engine.begin() as connection:
                    some = connection.execute(next_ones).all()
                    if not some:
                        break
                    keys = [key for key, _ in some]
                    self._index.put(row.name, label, keys, np.stack([unpacked(blob) for _, blob in some]))
                    connection.execute(update(vectors).where(of_label, vectors.c.key.in_(keys)).values(indexed=True))

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
            everything = self.cases(name)
            space = Representation.fit(everything)
            keys = [{"case": int(one.case_id[1:]), "now": space.key(one, one.content_hash)} for one in everything]
            with self.engine.begin() as connection:
                connection.execute(delete(vectors).where(vectors.c.source == name))
                if keys:
                    rekeyed = update(cases).where(cases.c.id == bindparam("case")).values(key=bindparam("now"))
                    connection.execute(rekeyed, keys)
                    connection.execute(update(sources).where(sources.c.name == name).values(space=space.to_json()))
                connection.execute(update(sources).where(sources.c.name == name).values(embedder=None))
                self._bump(connection, name)
            self._index.drop(name, LABELS)
            self._forget(name)
            self.sync(name, progress)

    # search

    def find(self, name: str, record: RecordLike, content_hash: str, k: int) -> RetrievalResult:
        """What the casebook holds on ``record``: ``k`` nearest keys of each label, one case for each."""
        return self.find_many(name, [(record, content_hash)], k)[0]

    def find_many(self, name: str, asked: Sequence[tuple[RecordLike, str]], k: int) -> list[RetrievalResult]:
        """As `find`, of many records with their content's hashes: each step is one query for all of them."""
        self.sync(name)
        row = self.source(name)
        if row is None or row.space is None:
            return [RetrievalResult((), dict.fromkeys(LABELS, 0), dict.fromkeys(LABELS, 0)) for _ in asked]
        hashes = [content_hash for _, content_hash in asked]
        keys = [row.space.key(record, content_hash) for record, content_hash in asked]
        counted, kept = counts_and_vectors(self.engine, name, keys, hashes)
        unknown = iter(self.vectors(row, [asked[i][0] for i, key in enumerate(keys) if key not in kept]))
        own_vectors = np.stack([kept[key] if key in kept else next(unknown) for key in keys])
        nearest = {label: self._candidates(row, label, own_vectors, k) for label in LABELS}
        for i, (key, (templates, _)) in enumerate(zip(keys, counted, strict=True)):
            for label, cases_of_template in templates.items():
                if cases_of_template and key not in nearest[label][i]:
                    nearest[label][i] = [*nearest[label][i], key]
        stored = vectors_of_keys(
            self.engine, name, {key for found in nearest.values() for near in found for key in near}
        )
        # by record: key, label and similarity of its precedents
        ranked = [
            [
                (key, label, similarity)
                for label, candidates in nearest.items()
                for key, similarity in _rank(
                    {key: stored[key, label] for key in candidates[i] if (key, label) in stored}, own_key, vector, k
                )
            ]
            for i, (own_key, vector) in enumerate(zip(keys, own_vectors, strict=True))
        ]
        same = {one for one, (_, contents) in zip(hashes, counted, strict=True) if any(contents.values())}
        chosen = cases_of_keys(self.engine, name, {key for near in ranked for key, _, _ in near}, same)
        out = []
        for i, (templates, contents) in enumerate(counted):
            neighbours = []
            for key, label, similarity in ranked[i]:
                if (key, label) in chosen:
                    eldest, by_hash = chosen[key, label]
                    neighbours.append(Neighbour(by_hash.get(hashes[i], eldest), similarity))
            neighbours.sort(
                key=lambda near: (
                    -round(near.similarity, DECIMALS),
                    near.case.key != keys[i],
                    near.case.label,
                    near.case.key,
                )
            )
            out.append(RetrievalResult(tuple(neighbours), templates, contents, own_vectors[i]))
        return out

    def vectors(self, row: SourceRow, records: Sequence[RecordLike]) -> list[Vector]:
        """The records' unit vectors in their source's space."""
        assert row.space is not None
        if row.space.field_encoder is not None:
            return list(row.space.field_encoder.vectors([features(record.fields, record.events) for record in records]))
        if not records:
            return []
        self._check_embedder(row)
        return self._embedder().remembered([strip_placeholders(row.space.masked(record)) for record in records])

    def matrix(self, row: SourceRow, label: str) -> tuple[list[str], Vector]:
        """All keys and vectors of a label, ordered by key, shape ``(n, dimensions)``."""
        return self._matrices.get(row.name, label, row.version)

    def nearest_keys(self, row: SourceRow, label: str, asked: Vector, k: int) -> list[list[str]]:
        """The keys of the ``k`` nearest vectors, nearest first, for each of n unit vectors, shape (n, dimensions)."""
        return [keys[:k] for keys in self._candidates(row, label, asked, k)]

    def _candidates(self, row: SourceRow, label: str, asked: Vector, k: int) -> list[list[str]]:
        """For each vector the keys of the ``k`` nearest, and of those that may be equally near.

        The order in which an HNSW index finds equals depends on how it was built: where it holds more of them than
        were asked for, the search is exact.
        """
        with self._lock:
            if not self._synced.get(row.name, (0, False))[1]:
                return self._matrices.nearest(row.name, label, row.version, asked, 2 * k)
            found = self._index.nearest_with_distances(row.name, label, asked, 2 * k)
        out = [
            keys[: bisect_right(distances, distances[k - 1] + TIE) if len(keys) > k else k] for keys, distances in found
        ]
        tied = [i for i, keys in enumerate(out) if len(keys) == 2 * k]
        if tied:
            exact = self._matrices.nearest(row.name, label, row.version, asked[tied], 2 * k)
            for i, keys in zip(tied, exact, strict=True):
                out[i] = keys
        return out

    def held(self, name: str, hashes: Collection[str]) -> set[str]:
        """Those of the contents' ``hashes`` that a case has."""
        if not hashes:
            return set()
        query = select(cases.c.hash).where(cases.c.source == name, cases.c.hash.in_(hashes)).distinct()
        with self.engine.connect() as connection:
            return set(connection.scalars(query))

    def texts(self, name: str) -> list[str]:
        """What the cases say that have neither fields nor events, each text once."""
        # as the store writes them: reading a million as JSON takes seconds
        no_fields, no_events = cast(cases.c.fields, Text) == "{}", cast(cases.c.events, Text) == "[]"
        query = select(cases.c.text).where(cases.c.source == name, no_fields, no_events)
        with self.engine.connect() as connection:
            return list(dict.fromkeys(connection.scalars(query.execution_options(yield_per=_CHUNK))))

    def templates(self, name: str) -> dict[str, int]:
        """How many cases each key of a source has."""
        counted = select(cases.c.key, func.count().label("n")).where(cases.c.source == name).group_by(cases.c.key)
        with self.engine.connect() as connection:
            return {found.key: found.n for found in connection.execute(counted)}

    def by_template(self, name: str) -> dict[tuple[str, str], tuple[StoredCase, int]]:
        """Of each key and label the newest case, and how many there are; in the order in which they first came."""
        newest, eldest, count = func.max(cases.c.id), func.min(cases.c.id), func.count()
        each = select(newest.label("newest"), eldest.label("eldest"), count.label("n")).where(cases.c.source == name)
        of = each.group_by(cases.c.key, cases.c.label).subquery()
        query = select(cases, of.c.n).join(of, cases.c.id == of.c.newest).order_by(of.c.eldest)
        with self.engine.connect().execution_options(yield_per=_CHUNK) as connection:
            return {(row.key, row.label): (stored_case(row), row.n) for row in connection.execute(query)}

    def cases(self, name: str) -> list[StoredCase]:
        """Every case of a source, oldest first."""
        with self.engine.connect() as connection:
            rows = connection.execute(select(cases).where(cases.c.source == name).order_by(cases.c.id))
            return [stored_case(row) for row in rows]

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

    @staticmethod
    def _bump(connection: Connection, name: str) -> None:
        connection.execute(update(sources).where(sources.c.name == name).values(version=sources.c.version + 1))

    def _forget(self, name: str) -> None:
        self._sources.forget(name)
        self._synced.pop(name, None)
        self._matrices.forget(name)


def _rank(candidates: Mapping[str, Vector], own_key: str, vector: Vector, k: int) -> list[tuple[str, float]]:
    """The ``k`` nearest keys and their cosines: the record's own template first among equals, then by key."""
    similarities = [(key, max(-1.0, min(1.0, float(other @ vector)))) for key, other in candidates.items()]
    return sorted(similarities, key=lambda near: (-round(near[1], DECIMALS), near[0] != own_key, near[0]))[:k]
