"""A map of 64-bit hashes to numbers of groups, for many hashes at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# most hashes of a table; the number of a hash that it does not have
MAX_HASHES, MISSING = 2_000_000, -1
GroupNumbers = NDArray[np.int32]
Hashes = NDArray[np.uint64]


class HashTable:
    """A map of hashes to group numbers, which is emptied when it is full."""

    def __init__(self) -> None:
        self._hashes, self._numbers = np.zeros(0, np.uint64), np.zeros(0, np.int32)

    def __len__(self) -> int:
        return len(self._hashes)

    def contains(self, hashes: Hashes) -> NDArray[np.bool_]:
        """Whether each of n hashes is in the table, shape (n,); it may be changed by another thread meanwhile."""
        table = self._hashes
        if not len(table):
            return np.zeros(len(hashes), np.bool_)
        found: NDArray[np.bool_] = table[np.minimum(np.searchsorted(table, hashes), len(table) - 1)] == hashes
        return found

    def get(self, hashes: Hashes) -> tuple[GroupNumbers, NDArray[np.bool_]]:
        """The numbers of n hashes, and whether each is in the table: shapes (n,)."""
        if not len(self._hashes):
            return np.full(len(hashes), MISSING, np.int32), np.zeros(len(hashes), np.bool_)
        at = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
        return self._numbers[at], self._hashes[at] == hashes

    def replace(self, hashes: Hashes, numbers: GroupNumbers) -> None:
        """Set the numbers of n hashes, shapes (n,), some of which may be in the table."""
        kept = ~np.isin(self._hashes, hashes)
        self._hashes, self._numbers = self._hashes[kept], self._numbers[kept]
        self.put(hashes, numbers)

    def put(self, hashes: Hashes, numbers: GroupNumbers) -> None:
        """Add n hashes with their group numbers, shapes (n,)."""
        if len(self._hashes) + len(hashes) > MAX_HASHES:
            self._hashes, self._numbers = np.zeros(0, np.uint64), np.zeros(0, np.int32)
        merged = np.concatenate([self._hashes, hashes])
        order = np.argsort(merged)
        self._hashes, self._numbers = merged[order], np.concatenate([self._numbers, numbers])[order]
