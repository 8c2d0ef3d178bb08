"""The search index, kept in step with the vectors in the store.

Each step marks what it has done. Whatever is interrupted, the next `SyncedIndex.sync` completes: it embeds keys
without a vector, and indexes vectors that the index does not hold.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine, and_, exists, func, select, update

from retrieval.encoding.source_encoder import SourceEncoder
from retrieval.errors import StoreFailure
from retrieval.index.chroma import VectorIndex
from retrieval.index.exact import TIE, ExactIndex
from retrieval.store.cases import SAME_KEY, unpacked
from retrieval.store.engine import insert_or_ignore
from retrieval.store.schema import cases, vectors
from retrieval.store.sources import SourceSnapshot
from retrieval.types import LABELS, Vector, stored_case

_CHUNK = 2_000
_EMBEDDED_TOGETHER = 512
# the step's name, how many are done, of how many
Progress = Callable[[str, int, int], None]


class SyncedIndex:
    """Nearest keys by ``index`` where this process owns it, else by exact search. Safe to share between threads."""

    def __init__(self, engine: Engine, index: VectorIndex, encoder: SourceEncoder) -> None:
        self._engine, self._index, self._encoder = engine, index, encoder
        self._exact = ExactIndex(engine)
        # by source: the version that was synced last, and whether into the index
        self._synced: dict[str, tuple[int, bool]] = {}
        self.lock = threading.RLock()

    def sync(self, source: SourceSnapshot, progress: Progress | None = None) -> None:
        """Embed and index what is missing; a no-op when nothing changed since the last call."""
        if source.representation is None or self._synced.get(source.name) == (source.version, True):
            return
        with self.lock:
            owned = self._index.owned()
            if self._synced.get(source.name) == (source.version, owned):
                return
            self._embed_missing(source, progress)
            if owned:
                for label in LABELS:
                    self._index_missing(source.name, label, progress)
            self._exact.forget(source.name)
            self._synced[source.name] = (source.version, owned)

    def own(self) -> None:
        """Take the index.

        Raises
        ------
        StoreFailure
            Another process has it.
        """
        if not self._index.owned():
            raise StoreFailure("another Precedent process has the casebook open: stop it first")

    def forget(self, name: str) -> None:
        """Drop all that the index holds of a source."""
        self._index.drop(name, LABELS)
        self._synced.pop(name, None)
        self._exact.forget(name)

    def discard(self, name: str, orphans: Sequence[tuple[str, str]]) -> None:
        """Remove single vectors, given as key and label, where this process owns the index."""
        with self.lock:
            if orphans and self._index.owned():
                for key, label in orphans:
                    self._index.delete(name, label, [key])

    def matrix(self, source: SourceSnapshot, label: str) -> tuple[list[str], Vector]:
        """All keys of a label in order, and their vectors, shape ``(n, dimensions)``."""
        return self._exact.get(source.name, label, source.version)

    def nearest_one(
        self, source: SourceSnapshot, label: str, queries: Vector
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """See `ExactIndex.nearest_one`."""
        return self._exact.nearest_one(source.name, label, source.version, queries)

    def candidates(self, source: SourceSnapshot, label: str, queries: Vector, k: int) -> list[list[str]]:
        """The keys of the ``k`` nearest vectors and of those that may be equally near, nearest first.

        An HNSW index returns equals in the order in which it was built. Where it holds more of them than are
        needed, the search is exact. What remains arbitrary is the recall of the index, which is below 1.

        Parameters
        ----------
        queries
            Unit vectors, shape ``(n, dimensions)``.

        Returns
        -------
        One list for each of the n queries.
        """
        with self.lock:
            if not self._synced.get(source.name, (0, False))[1]:
                return self._exact.nearest(source.name, label, source.version, queries, 2 * k)
            nearest = self._index.nearest(source.name, label, queries, 2 * k)
        out = [
            keys[: bisect_right(distances, distances[k - 1] + TIE)] if len(keys) > k else keys
            for keys, distances in nearest
        ]
        tied = [i for i, keys in enumerate(out) if len(keys) == 2 * k]
        if tied:
            exact = self._exact.nearest(source.name, label, source.version, queries[tied], 2 * k)
            for i, keys in zip(tied, exact, strict=True):
                out[i] = keys
        return out

    def _embed_missing(self, source: SourceSnapshot, progress: Progress | None) -> None:
        assert source.representation is not None
        missing = and_(cases.c.source == source.name, ~exists().where(SAME_KEY))
        ids = select(func.min(cases.c.id)).where(missing).group_by(cases.c.key, cases.c.label)
        with self._engine.connect() as connection:
            missing_ids = list(connection.scalars(ids.order_by(func.min(cases.c.id))))
        if missing_ids:
            self._encoder.check(source)
        done = 0

        def step(count: int) -> None:
            nonlocal done
            done += count
            if progress:
                progress("embedding", done, len(missing_ids))

        for start in range(0, len(missing_ids), _EMBEDDED_TOGETHER):
            chunk = select(cases).where(cases.c.id.in_(missing_ids[start : start + _EMBEDDED_TOGETHER]))
            with self._engine.connect() as connection:
                part = [stored_case(row) for row in connection.execute(chunk.order_by(cases.c.id))]
            matrix = self._encoder.encode_new(source.representation, part, step)
            rows = [
                {"source": source.name, "key": case.key, "label": case.label, "vector": v.tobytes(), "indexed": False}
                for case, v in zip(part, matrix, strict=True)
            ]
            with self._engine.begin() as connection:
                connection.execute(insert_or_ignore(self._engine, vectors), rows)

    def _index_missing(self, name: str, label: str, progress: Progress | None) -> None:
        of_label = and_(vectors.c.source == name, vectors.c.label == label)
        count = select(func.count()).select_from(vectors).where(of_label)
        with self._engine.begin() as connection:
            total = connection.scalar(count) or 0
            pending = connection.scalar(count.where(~vectors.c.indexed)) or 0
            if self._index.count(name, label) + pending != total:
                # lost, stale or half written: index everything again, the vectors are all in the store
                connection.execute(update(vectors).where(of_label).values(indexed=False))
                self._index.drop(name, [label])
                pending = total
        not_indexed = select(vectors.c.key, vectors.c.vector).where(of_label, ~vectors.c.indexed).limit(_CHUNK)
        for start in range(0, pending, _CHUNK):
            if progress:
                progress("indexing", start, pending)
            with self._engine.begin() as connection:
                chunk = connection.execute(not_indexed).all()
                if not chunk:
                    break
                keys = [key for key, _ in chunk]
                self._index.put(name, label, keys, np.stack([unpacked(blob) for _, blob in chunk]))
                connection.execute(update(vectors).where(of_label, vectors.c.key.in_(keys)).values(indexed=True))
