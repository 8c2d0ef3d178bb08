"""The search index, kept in step with the vectors in the store.

A source of few vectors is searched exactly: that is faster than to open and query an index. Of a larger one, the
embedded index belongs to one process, which searches it; the others search the stored vectors exactly. An index on a
server is shared: it may be lost, restored from an old copy, or changed by another process at any time. So before each
search of it the number of its vectors is compared with what this process knows, and as long as the index is behind or
does not answer, the stored vectors are searched exactly, while a thread brings it up to date.
"""

from __future__ import annotations

import logging
import threading
from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import nullcontext

from sqlalchemy import Engine, func, select

from retrieval.arrays import Floats, Ints
from retrieval.encoding.source_encoder import SourceEncoder
from retrieval.errors import NotWritable, RetrievalError, StoreFailure
from retrieval.index import indexing
from retrieval.index.chroma import VectorIndex
from retrieval.index.exact import TIE, ExactIndex
from retrieval.index.indexing import Progress
from retrieval.store.engine import alone
from retrieval.store.schema import sources, vectors
from retrieval.store.sources import SourceSnapshot
from retrieval.types import LABELS, Vector

# vectors that are searched exactly, and that a search waits for to be indexed
_SMALL, _AT_ONCE = 5_000, 2_000
# seconds between attempts to reach the server, and to get its lock
_RETRY, _LOCK_RETRY = 1.0, 0.1
_logger = logging.getLogger("precedent.index")


class SyncedIndex:
    """Nearest keys by ``index`` where this process may use it, else by exact search. Safe to share between threads."""

    def __init__(self, engine: Engine, index: VectorIndex, encoder: SourceEncoder) -> None:
        self._engine, self._index, self._encoder = engine, index, encoder
        self._exact = ExactIndex(engine)
        self._small: dict[str, bool] = {}  # whether a source is searched exactly in any case
        # by source: the version that was synced last, and whether into the index
        self._synced: dict[str, tuple[int, bool]] = {}
        self.lock = threading.RLock()
        # which parts were compared with the store; of a shared index: how many vectors it must hold, who catches up
        self._sizes: dict[tuple[str, str], int] = {}
        self._compared: set[tuple[str, str]] = set()
        self._failing: set[str] = set()
        self._threads: dict[str, threading.Thread] = {}
        self._closed = threading.Event()

    def sync(self, source: SourceSnapshot, progress: Progress | None = None) -> None:
        """Embed and index what is missing; a no-op when nothing changed since the last call.

        A shared index that fails is brought up to date when it answers again.
        """
        if source.representation is None or self._synced.get(source.name) == (source.version, True):
            return
        with self.lock:
            if self._index.shared:
                self._embed(source, progress)
                self._catch_up(source.name, progress=progress)
                return
            # an index that cannot be written to is brought up to date by a thread
            usable = source.name not in self._failing and self._is_owned(source.name)
            if self._synced.get(source.name) == (source.version, usable):
                return
            self._embed(source, progress)
            if usable:
                self._index_own(source, progress)

    def sync_for_search(self, source: SourceSnapshot) -> None:
        """As `sync`, but the index is not asked where exact search is faster.

        Where a shared index is far behind, a thread brings it up to date, and searches are exact meanwhile.
        """
        state = self._synced.get(source.name)
        if source.representation is None or state == (source.version, True):
            return
        with self.lock:
            if state is None or state[0] != source.version or source.name not in self._small:
                self._embed(source)
                self._small[source.name] = self._size(source.name) <= _SMALL
            if self._small[source.name]:
                return
            if self._index.shared:
                self._catch_up(source.name, most=_AT_ONCE)
            else:
                self.sync(source)

    def _is_owned(self, name: str) -> bool:
        try:
            return self._index.owned()
        except StoreFailure as error:
            if not self._can_wait(error):
                raise
            self._lose(name, error)
            return False

    def _index_own(self, source: SourceSnapshot, progress: Progress | None) -> None:
        """Bring the embedded index up to date."""
        try:
            self._index_all(source.name, progress)
        except StoreFailure as error:
            if not self._can_wait(error):
                raise
            self._lose(source.name, error)
        else:
            self._synced[source.name] = (source.version, True)

    def _size(self, name: str) -> int:
        with self._engine.connect() as connection:
            return connection.scalar(select(func.count()).select_from(vectors).where(vectors.c.source == name)) or 0

    def _embed(self, source: SourceSnapshot, progress: Progress | None = None) -> None:
        indexing.embed_missing(self._engine, self._encoder, source, progress)
        self._exact.forget(source.name)
        self._synced[source.name] = (source.version, False)

    def own(self) -> None:
        """Take the index.

        Raises
        ------
        StoreFailure
            Another process has it.
        NotWritable
            Its folder is read-only.
        """
        if not self._index.owned():
            if reason := self._index.reason_not_writable:
                raise NotWritable(f"the vector index {self._index.folder} cannot be used: {reason}")
            raise StoreFailure("another Precedent process has the casebook open: stop it first")

    def forget(self, name: str) -> None:
        """Drop all that the index holds of a source."""
        self._index.drop(name, LABELS)
        self._synced.pop(name, None)
        self._exact.forget(name)

    def reindex(self, source: SourceSnapshot, progress: Progress | None = None) -> None:
        """Make the index, which this process must be able to own, hold the source's vectors and nothing else."""
        with self.lock:
            self.own()
            self.forget(source.name)
            indexing.mark_not_indexed(self._engine, vectors.c.source == source.name)
            self.sync(source, progress)

    def erase(self, name: str, erased: Callable[[], list[tuple[str, str]]]) -> None:
        """Call what erases rows of the store and returns the keys and labels of their vectors; erase these here too.

        The embedded index keeps the bytes of what it deletes: it is deleted whole, and made again at its next use.
        Nothing is erased where another process has it.
        """
        with self.lock:
            self.own()
            orphans = erased()
            if self._index.shared:
                for key, label in orphans:
                    self._index.delete(name, label, [key])
            elif orphans:
                self._index.delete_folder()
                indexing.mark_not_indexed(self._engine)
                self._synced.clear()
            self._synced.pop(name, None)
            self._exact.forget(name)

    def discard(self, name: str, orphans: Sequence[tuple[str, str]]) -> None:
        """Remove single vectors, given as key and label, where this process may use the index."""
        with self.lock:
            if not orphans:
                return
            try:
                if name not in self._failing and self._index.owned():
                    for key, label in orphans:
                        self._index.delete(name, label, [key])
            except StoreFailure as error:
                if not self._can_wait(error):
                    raise
                # what is left there is found by its number, and removed
                self._lose(name, error)

    def matrix(self, source: SourceSnapshot, label: str) -> tuple[list[str], Vector]:
        """All keys of a label in order, and their vectors, shape ``(n, dimensions)``."""
        return self._exact.get(source.name, label, source.version)

    def nearest_one(self, source: SourceSnapshot, label: str, queries: Vector) -> tuple[Ints, Floats]:
        """See `ExactIndex.nearest_one`."""
        return self._exact.nearest_one(source.name, label, source.version, queries)

    def greatest_cosine(self, source: SourceSnapshot, label: str, queries: Vector, enough: float) -> Floats:
        """See `ExactIndex.greatest_cosine`."""
        return self._exact.greatest_cosine(source.name, label, source.version, queries, enough)

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
            nearest = self._indexed_neighbours(source, label, queries, 2 * k)
        if nearest is None:
            return self._exact.nearest(source.name, label, source.version, queries, 2 * k)
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

    def close(self) -> None:
        """End the threads, and close the index."""
        self._closed.set()
        for thread in list(self._threads.values()):
            thread.join()
        self._index.close()

    def _indexed_neighbours(
        self, source: SourceSnapshot, label: str, queries: Vector, n: int
    ) -> list[tuple[list[str], list[float]]] | None:
        """What the index gives; None where it must not be used."""
        name = source.name
        version, indexed = self._synced.get(name, (0, False))
        if not indexed or (self._index.shared and version != source.version):
            return None
        try:
            if self._index.shared and self._index.count(name, label) != self._sizes[name, label]:
                # changed by another process, or lost
                self._synced[name] = (version, False)
                self._catch_up(name, most=_AT_ONCE)
                return None
            return self._index.nearest(name, label, queries, n)
        except StoreFailure as error:
            if not self._can_wait(error):
                raise
            self._lose(name, error)
            return None

    def _can_wait(self, error: StoreFailure) -> bool:
        """Whether the index may be usable again without anybody rebuilding it."""
        if self._index.shared or isinstance(error, NotWritable):
            return True
        if not self._index.drop_damaged():
            return False
        # it was damaged, and is made again from the store
        self._synced.clear()
        return True

    def _index_all(self, name: str, progress: Progress | None = None, most: int | None = None) -> bool:
        """Index what is missing; False if another process is at it, or where it is more than ``most``."""
        if not self._index.shared:
            for label in LABELS:
                if self._index.left_open and (name, label) not in self._compared:
                    indexing.compare_with_store(self._engine, self._index, name, label)
                    self._compared.add((name, label))
                indexing.index_missing(self._engine, self._index, name, label, progress)
            return True
        with alone(self._engine, f"index of {name}") as is_alone:
            if not is_alone:
                return False
            for label in LABELS:
                total, waiting = indexing.pending(self._engine, name, label)
                held = self._index.count(name, label)
                if held + waiting != total or (name, label) not in self._compared:
                    lacking = indexing.compare_with_store(self._engine, self._index, name, label)
                    self._compared.add((name, label))
                    waiting += lacking
                if most is not None and waiting > most:
                    return False
                indexing.index_missing(self._engine, self._index, name, label, progress)
                self._sizes[name, label] = self._index.count(name, label)
        return True

    def _is_catching_up(self, name: str) -> bool:
        return name in self._threads and self._threads[name].is_alive()

    def _catch_up(self, name: str, most: int | None = None, progress: Progress | None = None) -> None:
        """Bring the index up to date: here where that is no more than ``most``, else by a thread."""
        if self._is_catching_up(name):
            return
        try:
            if not self._catch_up_once(name, most, progress):
                self._start(name)
        except StoreFailure as error:
            self._lose(name, error)

    def _catch_up_once(self, name: str, most: int | None = None, progress: Progress | None = None) -> bool:
        with self._engine.connect() as connection:
            version = connection.scalar(select(sources.c.version).where(sources.c.name == name))
        if version is None:
            return True
        with nullcontext() if self._index.shared else self.lock:
            if not (self._index.owned() and self._index_all(name, progress, most)):
                return False
        with self.lock:
            self._failing.discard(name)
            if self._synced.get(name) == (version, False):
                self._synced[name] = (version, True)
        return True

    def _lose(self, name: str, error: StoreFailure) -> None:
        """Search the source exactly until the index answers again."""
        if name not in self._failing:
            _logger.warning(
                "the stored vectors of source %r are searched exactly until the index is usable again: %s", name, error
            )
        self._failing.add(name)
        self._index.disconnect()
        self._compared = {part for part in self._compared if part[0] != name}
        if name in self._synced:
            self._synced[name] = (self._synced[name][0], False)
        self._start(name)

    def _start(self, name: str) -> None:
        if not self._is_catching_up(name) and not self._closed.is_set():
            self._threads[name] = threading.Thread(target=self._keep_trying, args=(name,), name="index", daemon=True)
            self._threads[name].start()

    def _keep_trying(self, name: str) -> None:
        while not self._closed.is_set():
            try:
                if self._index.reason_not_writable is None and self._catch_up_once(name):
                    _logger.info("the index of source %r is up to date", name)
                    return
                self._closed.wait(_LOCK_RETRY if self._index.shared else _RETRY)
            except RetrievalError:
                # the store, or the index
                self._index.disconnect()
                self._closed.wait(_RETRY)
