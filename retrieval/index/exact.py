"""Exact search over the stored vectors: for processes that do not own the index, for ties, and for fitting."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine, and_, func, select

from retrieval.store.cases import unpacked
from retrieval.store.schema import vectors
from retrieval.types import LABELS, Vector

_BLOCK, _READ = 64, 10_000
# products and pairs that are computed at once
_PRODUCTS, _PAIRS = 1_000_000, 50_000
# vectors that are compared first where one near enough will do; times as many come next
_COMPARED, _GROWTH = 64, 8
# cosines that differ by less may be equal, whichever way they are computed; decimals by which cosines are compared
TIE, DECIMALS = 1e-5, 6


class ExactIndex:
    """All vectors of a source's label, cached for one version of its cases. Safe to share between threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._lock = engine, threading.RLock()
        self._cached: dict[tuple[str, str], tuple[int, list[str], Vector]] = {}

    def get(self, name: str, label: str, version: int) -> tuple[list[str], Vector]:
        """All keys of a label in order, and their vectors, shape ``(n, dimensions)``."""
        with self._lock:
            cached = self._cached.get((name, label))
            if cached is None or cached[0] != version:
                cached = self._cached[(name, label)] = (version, *self._read(name, label))
            return cached[1], cached[2]

    def _read(self, name: str, label: str) -> tuple[list[str], Vector]:
        of_label = and_(vectors.c.source == name, vectors.c.label == label)
        query = select(vectors.c.key, vectors.c.vector).where(of_label).order_by(vectors.c.key)
        keys, matrix = list[str](), np.zeros((0, 1), np.float32)
        # a part at a time: all rows beside the matrix would take twice its memory
        with self._engine.connect().execution_options(yield_per=_READ) as connection:
            count = connection.scalar(select(func.count()).select_from(vectors).where(of_label)) or 0
            for rows in connection.execute(query).partitions():
                part = np.stack([unpacked(blob) for _, blob in rows])
                if not keys:
                    matrix = np.zeros((count, part.shape[1]), np.float32)
                # another process may have added rows since they were counted
                part = part[: count - len(keys)]
                matrix[len(keys) : len(keys) + len(part)] = part
                keys += [key for key, _ in rows[: len(part)]]
        return keys, matrix[: len(keys)]

    def nearest(self, name: str, label: str, version: int, queries: Vector, k: int) -> list[list[str]]:
        """The keys of the ``k`` nearest vectors, all when there are fewer, nearest first, of equals the lesser key.

        Parameters
        ----------
        queries
            Unit vectors, shape ``(n, dimensions)``.

        Returns
        -------
        One list for each of the n queries.
        """
        keys, matrix = self.get(name, label, version)
        if not keys:
            return [[] for _ in queries]
        last, out = min(k, len(keys)) - 1, list[list[str]]()
        for start in range(0, len(queries), _BLOCK):
            block = queries[start : start + _BLOCK]
            for vector, rough in zip(block, block @ matrix.T, strict=True):
                # the rounding of a matrix product depends on its shape: the order comes from one product a pair
                near = np.flatnonzero(rough >= -np.partition(-rough, last)[last] - TIE)
                similarities = cosines(matrix[near], vector).round(DECIMALS)
                out.append([keys[i] for i in near[np.argsort(-similarities, kind="stable")[:k]]])
        return out

    def nearest_one(
        self, name: str, label: str, version: int, queries: Vector
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The place of each query's nearest vector among the keys, and its cosine; of equals the lesser key.

        Parameters
        ----------
        queries
            Unit vectors, shape ``(n, dimensions)``.

        Returns
        -------
        Shapes (n,); -1 and minus infinity where the label has no vectors.
        """
        _, matrix = self.get(name, label, version)
        place, cosine = np.full(len(queries), -1, np.int64), np.full(len(queries), -np.inf)
        for start, block, rough in _products(queries, matrix):
            # the order comes from one product a pair, as in `nearest`
            row, column = np.nonzero(rough >= rough.max(axis=1, keepdims=True) - TIE)
            exact = np.concatenate(
                [
                    cosines(matrix[column[i : i + _PAIRS]], block[row[i : i + _PAIRS]])
                    for i in range(0, len(row), _PAIRS)
                ]
            )
            order = np.lexsort((column, -exact.round(DECIMALS), row))
            first = order[np.unique(row[order], return_index=True)[1]]
            part = slice(start, start + len(block))
            place[part], cosine[part] = column[first], exact[first]
        return place, np.clip(cosine, -1.0, 1.0, where=place >= 0, out=cosine)

    def greatest_cosine(
        self, name: str, label: str, version: int, queries: Vector, enough: float
    ) -> NDArray[np.float64]:
        """The cosine of each query's nearest vector within `TIE`, shape (n,), in a fraction of `nearest_one`'s time.

        Minus infinity where the label has no vectors; of some vector where that has at least ``enough``.
        """
        _, matrix = self.get(name, label, version)
        cosine, rest = np.full(len(queries), -np.inf), np.arange(len(queries))
        start, size = 0, _COMPARED
        while start < len(matrix) and len(rest):
            for at, block, rough in _products(queries[rest], matrix[start : start + size]):
                indices = rest[at : at + len(block)]
                cosine[indices] = np.maximum(cosine[indices], rough.max(axis=1))
            rest = rest[cosine[rest] < enough]
            start, size = start + size, size * _GROWTH
        return cosine

    def forget(self, name: str) -> None:
        """Drop what is cached of a source."""
        with self._lock:
            for label in LABELS:
                self._cached.pop((name, label), None)


def _products(queries: Vector, matrix: Vector) -> Iterator[tuple[int, Vector, Vector]]:
    """The products of queries with a matrix, a part at a time: its first query, its queries, and the products."""
    size = max(1, _PRODUCTS // max(1, len(matrix)))
    for start in range(0, len(queries) if len(matrix) else 0, size):
        block = queries[start : start + size]
        yield start, block, block @ matrix.T


def cosines(left: Vector, right: Vector) -> NDArray[np.float32]:
    """The product of each pair of rows, shape (n,), which does not depend on the other pairs.

    Parameters
    ----------
    left
        Unit vectors, shape ``(n, dimensions)``.
    right
        As many, or one of shape ``(dimensions,)``.
    """
    return np.asarray(np.einsum("ij,ij->i", left, np.broadcast_to(right, left.shape)))
