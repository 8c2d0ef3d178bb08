"""The templates of a batch of records, and how many records each has."""

from __future__ import annotations

import hashlib
import heapq
from dataclasses import dataclass, field

_KEPT = 20_000


@dataclass
class TemplateCounts:
    """Templates of a batch, and how many records each has; the same whatever the order of the records.

    Of very many templates those with the smallest hashes are kept, whose counts are exact.
    """

    most: int = _KEPT
    records: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    _largest: list[tuple[int, str]] = field(default_factory=list)

    def add(self, masked: str) -> None:
        """Count one record."""
        self.records += 1
        if masked in self.counts:
            self.counts[masked] += 1
            return
        entry = (-_hash(masked), masked)
        if len(self.counts) < self.most:
            heapq.heappush(self._largest, entry)
        elif entry > self._largest[0]:
            del self.counts[heapq.heapreplace(self._largest, entry)[1]]
        else:
            return
        self.counts[masked] = 1

    def sample(self, size: int) -> tuple[list[str], list[float]]:
        """At most ``size`` templates and their weights: the most frequent, and some of the others for all of these."""
        ranked = self.most_frequent(len(self.counts))
        certain = ranked if len(ranked) <= size else ranked[: size // 2]
        rest = sorted(ranked[len(certain) :], key=_hash)[: size - len(certain)]
        stands_for = sum(self.counts[masked] for masked in ranked[len(certain) :]) / max(
            1, sum(self.counts[masked] for masked in rest)
        )
        weights = [float(self.counts[masked]) for masked in certain]
        return certain + rest, weights + [self.counts[masked] * stands_for for masked in rest]

    def most_frequent(self, size: int) -> list[str]:
        """The ``size`` most frequent templates."""
        return sorted(self.counts, key=lambda masked: (-self.counts[masked], _hash(masked)))[:size]


def _hash(masked: str) -> int:
    return int.from_bytes(hashlib.sha256(masked.encode()).digest()[:8])
