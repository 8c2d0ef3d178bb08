"""The vector index: one Chroma collection per source and label, cosine space.

Embedded Chroma serves one process well; a second opener can hang (design, section 6). So one process owns the
index, by a lock file; whoever comes second searches the stored vectors exactly, without Chroma.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from retrieval.errors import StoreFailure

_BATCH = 4_000


class VectorIndex:
    """Chroma, embedded in ``folder`` or at the server ``url``; opened at first use."""

    def __init__(self, folder: Path, url: str | None = None) -> None:
        self._folder, self._url = folder, url
        # held by the process, whichever of its threads took it
        self._lock = FileLock(folder.with_name(folder.name + ".lock"), thread_local=False)
        self._client: Any = None
        self._collections: dict[str, Any] = {}

    def owned(self) -> bool:
        """Whether this process may use the index; taking it when nobody has it."""
        if self._client is not None:
            return True
        if self._url is None and not self._lock.is_locked:
            self._folder.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                return False
        self._client = self._open()
        return True

    def _open(self) -> Any:
        import chromadb
        from chromadb.config import Settings

        logging.getLogger("chromadb.telemetry").setLevel(logging.CRITICAL)
        quiet = Settings(anonymized_telemetry=False)
        try:
            if self._url is None:
                return chromadb.PersistentClient(str(self._folder), settings=quiet)
            server = urlsplit(self._url)
            return chromadb.HttpClient(
                server.hostname or "127.0.0.1", server.port or 8000, server.scheme == "https", settings=quiet
            )
        except Exception as error:
            where = self._url or str(self._folder)
            raise StoreFailure(
                f"the vector index {where} cannot be opened ({error}); "
                "`precedent sources rebuild NAME` makes it anew from the store"
            ) from error

    def _collection(self, source: str, label: str) -> Any:
        name = _name(source, label)
        if name not in self._collections:
            self._collections[name] = self._client.get_or_create_collection(
                name,
                configuration={"hnsw": {"space": "cosine", "ef_construction": 200, "ef_search": 200}},
                embedding_function=None,
            )
        return self._collections[name]

    def put(self, source: str, label: str, keys: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Add or replace ``len(keys)`` vectors, shape ``(len(keys), dimensions)``."""
        collection = self._collection(source, label)
        for start in range(0, len(keys), _BATCH):
            part = slice(start, start + _BATCH)
            collection.upsert(ids=list(keys[part]), embeddings=vectors[part])

    def delete(self, source: str, label: str, keys: Sequence[str]) -> None:
        self._collection(source, label).delete(ids=list(keys))

    def nearest(self, source: str, label: str, vectors: NDArray[np.float32], k: int) -> list[list[str]]:
        """The keys of the ``k`` nearest vectors, all when there are fewer, nearest first.

        Parameters
        ----------
        vectors : shape ``(n, dimensions)``, unit vectors.

        Returns
        -------
        One list for each of the n vectors.
        """
        return [keys for keys, _ in self.nearest_with_distances(source, label, vectors, k)]

    def nearest_with_distances(
        self, source: str, label: str, vectors: NDArray[np.float32], k: int
    ) -> list[tuple[list[str], list[float]]]:
        """As `nearest`, each with the keys' cosine distances as the index computes them."""
        # Chroma returns as many as there are; counting them first takes longer than the query
        found = self._collection(source, label).query(query_embeddings=vectors, n_results=k, include=["distances"])
        return [(list(keys), list(distances)) for keys, distances in zip(found["ids"], found["distances"], strict=True)]

    def count(self, source: str, label: str) -> int:
        return int(self._collection(source, label).count())

    def drop(self, source: str, labels: Sequence[str]) -> None:
        """Forget a source's collections."""
        from chromadb.errors import NotFoundError

        for label in labels:
            self._collections.pop(_name(source, label), None)
            with suppress(NotFoundError):
                self._client.delete_collection(_name(source, label))

    def close(self) -> None:
        self._collections.clear()
        if self._client is not None:
            self._client.close()
        self._client = None
        self._lock.release()


def _name(source: str, label: str) -> str:
    """The collection's name; Chroma takes no two dots in a row."""
    if ".." in source:
        source = "dots-" + hashlib.sha256(source.encode()).hexdigest()
    return f"{source}.{label}"
