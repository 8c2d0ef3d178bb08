"""Exact search over the stored vectors: for whoever does not own the index, and for fitting the judge."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine, and_, func, select

from retrieval.store.schema import vectors
from retrieval.types import LABELS

Vector = NDArray[np.float32]
_BLOCK, _READ = 64, 10_000
# cosines that differ by less may be equal, whichever way they are computed; decimals by which cosines are compared
TIE, DECIMALS = 1e-5, 6


def unpacked(blob: bytes) -> Vector:
    """A vector as it lies in the store."""
    return np.frombuffer(blob, dtype=np.float32)


class ExactIndex:
    """All vectors of a source's label, kept for the casebook's version. Safe to share between threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._lock = engine, threading.RLock()
        self._kept: dict[tuple[str, str], tuple[int, list[str], Vector]] = {}

    def get(self, name: str, label: str, version: int) -> tuple[list[str], Vector]:
        """All keys and vectors of a label, ordered by key, shape ``(n, dimensions)``."""
        with self._lock:
            kept = self._kept.get((name, label))
            if kept is None or kept[0] != version:
                kept = self._kept[(name, label)] = (version, *self._read(name, label))
            return kept[1], kept[2]

    def _read(self, name: str, label: str) -> tuple[list[str], Vector]:
        mine = and_(vectors.c.source == name, vectors.c.label == label)
        query = select(vectors.c.key, vectors.c.vector).where(mine).order_by(vectors.c.key)
        keys, stacked = list[str](), np.zeros((0, 1), np.float32)
        # a part at a time: all rows beside the matrix would take twice its memory
        with self._engine.connect().execution_options(yield_per=_READ) as connection:
            there = connection.scalar(select(func.count()).select_from(vectors).where(mine)) or 0
            for some in connection.execute(query).partitions():
                part = np.stack([unpacked(blob) for _, blob in some])
                if not keys:
                    stacked = np.zeros((there, part.shape[1]), np.float32)
                part = part[: there - len(keys)]
                stacked[len(keys) : len(keys) + len(part)] = part
                keys += [key for key, _ in some[: len(part)]]
        return keys, stacked[: len(keys)]

    def nearest(self, name: str, label: str, version: int, vectors: Vector, k: int) -> list[list[str]]:
        """The keys of the ``k`` nearest vectors, all when there are fewer, nearest first, of equals the lesser key.

        Parameters
        ----------
        vectors : shape ``(n, dimensions)``, unit vectors.

        Returns
        -------
        One list for each of the n vectors.
        """
        keys, matrix = self.get(name, label, version)
        if not keys:
            return [[] for _ in vectors]
        last, out = min(k, len(keys)) - 1, []
        for start in range(0, len(vectors), _BLOCK):
            block = vectors[start : start + _BLOCK]
            for vector, rough in zip(block, block @ matrix.T, strict=True):
                # the rounding of a matrix product depends on its shape: the order comes from one product a pair
                near = np.flatnonzero(rough >= -np.partition(-rough, last)[last] - TIE)
                similarities = np.einsum("ij,j->i", matrix[near], vector).round(DECIMALS)
                out.append([keys[i] for i in near[np.argsort(-similarities, kind="stable")[:k]]])
        return out

    def forget(self, name: str) -> None:
        with self._lock:
            for label in LABELS:
                self._kept.pop((name, label), None)
