"""The vector index: one Chroma collection for each source and label, cosine distance.

Embedded Chroma serves one process well; a second one that opens it can hang. So one process owns the index by a lock
file; others search the stored vectors exactly, without Chroma. A Chroma server serves many.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from retrieval.disk import probe
from retrieval.errors import NotWritable, StoreFailure
from retrieval.index.cleared_memory import cleared_memory
from retrieval.seal import Seal

_BATCH, _PAGE = 1_000, 5_000
# of a request to a Chroma server; that it is there is known sooner
_TIMEOUT, _PROBE_TIMEOUT = 30.0, 3.0
_logger = logging.getLogger("precedent.index")


class VectorIndex:
    """Chroma, embedded in ``folder`` or at the server ``url``; opened at first use.

    Every method but `close` raises `StoreFailure` when Chroma fails.
    """

    def __init__(self, folder: Path, url: str | None = None) -> None:
        self.folder, self._url = folder, url
        # held by the process, whichever of its threads took it
        self._lock = FileLock(folder.with_name(folder.name + ".lock"), thread_local=False)
        self._seal = Seal(folder.with_name(folder.name + ".seal"))
        # whether the embedded index was not closed by its last process: what it holds is to be compared with the store
        self.left_open = False
        self._client: Any = None
        self._dropped = False
        self._collections: dict[str, Any] = {}

    def owned(self) -> bool:
        """Whether this process may use the index; it takes the index when no other process has it."""
        if self._client is not None:
            return True
        if self._url is None and not self._lock.is_locked:
            try:
                self.folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._lock.acquire(timeout=0)
            except (Timeout, OSError):
                # another process has it, or it cannot be locked where nothing can be written
                return False
        if reason := self.reason_not_writable:
            # a client that could not open the index keeps the process from opening it later
            raise NotWritable(f"the vector index {self.folder} cannot be used: {reason}")
        if self._url is None:
            self._drop_if_damaged()
        with self._failures():
            self._client = self._open()
        return True

    def _drop_if_damaged(self) -> None:
        """Delete the embedded index if it is not as it was closed: it is made again from the vectors in the store."""
        if self.folder.exists() and (name := self._seal.broken(self._files())) is not None:
            _logger.warning(
                "the vector index is damaged (%s is not as it was left): it is made again from the store",
                self.folder / name,
            )
            shutil.rmtree(self.folder)
        self.left_open = self.folder.exists() and self._seal.read() is None
        self._seal.remove()

    def drop_damaged(self) -> bool:
        """Delete the embedded index, which fails; whether that was done, as it is once in a process."""
        if self._url is not None or self._dropped or not self._lock.is_locked:
            return False
        self._dropped = True
        self.delete_folder()
        return True

    def delete_folder(self) -> None:
        """Delete the embedded index, which this process must own; the next use makes a new one."""
        self.disconnect()
        self.left_open = False
        if self.folder.exists():
            shutil.rmtree(self.folder)

    def _files(self) -> dict[str, Path]:
        files = (path for path in self.folder.rglob("*") if path.is_file())
        return {path.relative_to(self.folder).as_posix(): path for path in files}

    @property
    def shared(self) -> bool:
        """Whether the index is on a server, which other processes use too."""
        return self._url is not None

    @property
    def locked(self) -> bool:
        """Whether this process holds the lock of the embedded index, even where it could not be opened."""
        return bool(self._lock.is_locked)

    @property
    def reason_not_writable(self) -> str | None:
        """Why nothing can be written to the embedded index; None where that is possible, and of a server."""
        return None if self._url else probe(self.folder.parent)

    def _open(self) -> Any:
        import chromadb
        from chromadb.config import Settings

        logging.getLogger("chromadb.telemetry").setLevel(logging.CRITICAL)
        settings = Settings(anonymized_telemetry=False)
        if self._url is None:
            return chromadb.PersistentClient(str(self.folder), settings=settings)
        server = urlsplit(self._url)
        import httpx

        # Chroma's client waits without end for a server that takes the connection and does not answer
        httpx.get(f"{self._url.rstrip('/')}/api/v2/heartbeat", timeout=_PROBE_TIMEOUT).raise_for_status()
        client = chromadb.HttpClient(
            server.hostname or "127.0.0.1", server.port or 8000, server.scheme == "https", settings=settings
        )
        client._server._session.timeout = _TIMEOUT
        return client

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """Raise `StoreFailure` for whatever Chroma raises: it has no common class for its errors."""
        try:
            with nullcontext() if self._url else cleared_memory():
                yield
        except BaseException as error:
            # a panic of its Rust code is no Exception
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            if reason := self.reason_not_writable:
                raise NotWritable(f"the vector index {self.folder} cannot be used: {reason}") from error
            raise StoreFailure(
                f"the vector index {self._url or self.folder} cannot be used ({error}); "
                "it can be rebuilt from the store",
                "`precedent sources rebuild NAME` does that",
            ) from error

    def _collection(self, source: str, label: str) -> Any:
        name = _collection_name(source, label)
        if name not in self._collections:
            self._collections[name] = self._client.get_or_create_collection(
                name,
                configuration={"hnsw": {"space": "cosine", "ef_construction": 200, "ef_search": 200}},
                embedding_function=None,
            )
        return self._collections[name]

    def put(self, source: str, label: str, keys: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Add or replace vectors, shape ``(len(keys), dimensions)``."""
        with self._failures():
            collection = self._collection(source, label)
            for start in range(0, len(keys), _BATCH):
                part = slice(start, start + _BATCH)
                collection.upsert(ids=list(keys[part]), embeddings=vectors[part])

    def delete(self, source: str, label: str, keys: Sequence[str]) -> None:
        """Remove the vectors of ``keys``."""
        with self._failures():
            self._collection(source, label).delete(ids=list(keys))

    def nearest(
        self, source: str, label: str, queries: NDArray[np.float32], k: int
    ) -> list[tuple[list[str], list[float]]]:
        """The ``k`` nearest vectors, all when there are fewer.

        Parameters
        ----------
        queries
            Unit vectors, shape ``(n, dimensions)``.

        Returns
        -------
        For each of the n queries the keys and their cosine distances as the index computes them, nearest first.
        """
        with self._failures():
            # Chroma returns as many as there are; counting them first takes longer than the query
            result = self._collection(source, label).query(query_embeddings=queries, n_results=k, include=["distances"])
        return list(zip(result["ids"], result["distances"], strict=True))

    def count(self, source: str, label: str) -> int:
        """How many vectors the index holds."""
        with self._failures():
            return int(self._collection(source, label).count())

    def contents(self, source: str, label: str) -> Iterator[tuple[list[str], NDArray[np.float32] | None]]:
        """All that the index holds, in parts: n keys and, if embedded, their vectors, shape ``(n, dimensions)``."""
        include, offset = [] if self.shared else ["embeddings"], 0
        while True:
            with self._failures():
                part = self._collection(source, label).get(limit=_PAGE, offset=offset, include=include)
                if not (keys := part["ids"]):
                    return
                # of a damaged index they may be of several lengths
                held = None if self.shared else np.asarray(part["embeddings"], np.float32).reshape(len(keys), -1)
            yield keys, held
            offset += len(keys)

    def drop(self, source: str, labels: Sequence[str]) -> None:
        """Remove a source's collections."""
        from chromadb.errors import NotFoundError

        for label in labels:
            name = _collection_name(source, label)
            self._collections.pop(name, None)
            with self._failures(), suppress(NotFoundError):
                self._client.delete_collection(name)

    def disconnect(self) -> None:
        """Connect to the server anew at the next use: collections that it had may be gone."""
        self._collections.clear()
        client, self._client = self._client, None
        if client is not None:
            with cleared_memory():
                client.close()

    def close(self) -> None:
        """Close Chroma and let another process take the index."""
        was_open = self._client is not None
        self.disconnect()
        if was_open and self._url is None:
            self._seal.write(self._files())
        self._lock.release()


class NoIndex(VectorIndex):
    """An index that no process owns: the stored vectors are searched exactly."""

    @property
    def shared(self) -> bool:
        """Never."""
        return False

    def owned(self) -> bool:
        """Never."""
        return False


def _collection_name(source: str, label: str) -> str:
    """The collection's name; Chroma does not take two dots in a row."""
    if ".." in source:
        source = "dots-" + hashlib.sha256(source.encode()).hexdigest()
    return f"{source}.{label}"
