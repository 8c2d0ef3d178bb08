"""Exact search over the stored vectors: for whoever does not own the index, and for fitting the judge."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine, select

from retrieval.cases import LABELS
from retrieval.store import vectors

Vector = NDArray[np.float32]


def unpacked(blob: bytes) -> Vector:
    """A vector as it lies in the store."""
    return np.frombuffer(blob, dtype=np.float32)


class Matrices:
    """All vectors of a source's label, kept for the casebook's version. Safe to share between threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._lock = engine, threading.RLock()
        self._kept: dict[tuple[str, str], tuple[int, list[str], Vector]] = {}

    def get(self, name: str, label: str, version: int) -> tuple[list[str], Vector]:
        """All keys and vectors of a label, ordered by key, shape ``(n, dimensions)``."""
        with self._lock:
            kept = self._kept.get((name, label))
            if kept is None or kept[0] != version:
                query = select(vectors.c.key, vectors.c.vector).order_by(vectors.c.key)
                mine = query.where(vectors.c.source == name, vectors.c.label == label)
                with self._engine.connect() as connection:
                    found = connection.execute(mine).all()
                stacked = np.stack([unpacked(blob) for _, blob in found]) if found else np.zeros((0, 1), np.float32)
                kept = self._kept[(name, label)] = (version, [key for key, _ in found], stacked)
            return kept[1], kept[2]

    def nearest(self, name: str, label: str, version: int, vector: Vector, k: int) -> list[str]:
        """Keys of the ``k`` nearest vectors, nearest first; fewer when there are fewer."""
        keys, matrix = self.get(name, label, version)
        return [keys[i] for i in np.argsort(-(matrix @ vector), kind="stable")[:k]] if keys else []

    def forget(self, name: str) -> None:
        with self._lock:
            for label in LABELS:
                self._kept.pop((name, label), None)
