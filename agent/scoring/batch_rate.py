"""The rate of anomalies in a batch of unlabelled records, and the fusion with that rate instead of the cases'.

Expectation-maximisation on the probabilities of the batch (Saerens, Latinne & Decaestecker 2002). It needs calibrated
probabilities; those of a fusion are, because it was fitted to out-of-fold signals with a bias of its own, which is what
bias-corrected temperature scaling (Alexandari, Kundaje & Shrikumar 2020) is for two labels.
"""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from agent.core.numerics import expit, logit
from agent.scoring.fusion import Fusion
from retrieval.arrays import Floats

# records of different content, and contents of cases of each label, that an estimate needs
_FEWEST_RECORDS, _FEWEST_CASES = 50, 15
# least and greatest change of the odds; less than the least is within the error of the estimate
_LEAST_CHANGE, _MOST_CHANGE = math.log(2), math.log(8)
# distinct records that are kept, and contents of each key that are counted
_MOST_KEPT, _MOST_CONTENTS = 20_000, 16
_ROUNDS, _TOLERANCE = 1_000, 1e-9


@dataclass(frozen=True)
class RateShift:
    """How the rate of anomalies in a batch differs from that of the cases.

    Parameters
    ----------
    cases, batch : float
        Share of anomalous ones among the contents of cases, and among the distinct records of the batch.
    records : int
        Distinct records, without those that are cases.
    """

    cases: float
    batch: float
    records: int

    @property
    def log_odds(self) -> float:
        """What the batch adds to the log-odds of a record."""
        return logit(self.batch) - logit(self.cases)

    def applied_to(self, fusion: Fusion) -> Fusion:
        """The fusion with the rate of the batch; threshold and band stay, because they are on calibrated log-odds."""
        return replace(fusion, bias=fusion.bias + self.log_odds)

    def __str__(self) -> str:
        times = f"{self.batch / self.cases:.1f}".removesuffix(".0")
        return (
            f"these records look {times} x as anomalous as the cases "
            f"({100 * self.batch:.2g} % of {self.records:,} of different content against {100 * self.cases:.2g} %)"
        )


@dataclass
class BatchProbabilities:
    """Probabilities of the distinct records of a batch by key; the same whatever the order of the records.

    Keys are hashes; of very many records those with the smallest are kept.
    """

    by_key: dict[str, float] = field(default_factory=dict)
    _contents: dict[str, set[str]] = field(default_factory=dict)
    _greatest: str | None = None

    def add(self, key: str, content_hash: str, probability: float) -> None:
        """Add a record; of those with the same key the most anomalous one counts."""
        known = self.by_key.get(key)
        if known is None or probability > known:
            self.by_key[key] = probability
        # a key that is a content has no other
        if key != content_hash:
            contents = self._contents.setdefault(key, set())
            if len(contents) < _MOST_CONTENTS:
                contents.add(content_hash)
        if len(self.by_key) > 2 * _MOST_KEPT:
            ordered = sorted(self.by_key)
            self._greatest = ordered[_MOST_KEPT - 1]
            for dropped in ordered[_MOST_KEPT:]:
                del self.by_key[dropped]
                self._contents.pop(dropped, None)

    def add_many(self, keys: Sequence[str], hashes: Sequence[str], probabilities: Sequence[float]) -> None:
        """Add records, by the ``hashes`` of their contents."""
        for key, content_hash, probability in zip(keys, hashes, probabilities, strict=True):
            # a greater one would be dropped again
            if self._greatest is None or key < self._greatest:
                self.add(key, content_hash, probability)

    def missing_contents(self, key: str) -> int:
        """How many more different contents of a key are counted."""
        return _MOST_CONTENTS - len(self._contents.get(key, ()))

    def merge(self, other: BatchProbabilities) -> None:
        """Add the records of another batch."""
        for key, probability in other.by_key.items():
            for content_hash in other._contents.get(key, (key,)):
                self.add(key, content_hash, probability)

    def contents(self, key: str) -> int:
        """How many different contents have the key; of very many not all are counted."""
        return len(self._contents.get(key, (key,)))

    def keys_outside(self, cases: Container[str]) -> list[str]:
        """The keys that are none of the ``cases``."""
        return sorted(key for key in self.by_key if key not in cases)[:_MOST_KEPT]


def rate_shift(probabilities: Floats, normal: int, anomalous: int) -> RateShift | None:
    """The change of the rate of anomalies; None if it is small, or cannot be estimated.

    Parameters
    ----------
    probabilities : shape (n,)
        Of distinct records that are no cases.
    normal, anomalous : int
        Distinct contents of the cases by label, without those that have both.
    """
    if len(probabilities) < _FEWEST_RECORDS or min(normal, anomalous) < _FEWEST_CASES:
        return None
    cases = anomalous / (normal + anomalous)
    change = logit(_rate(probabilities, cases)) - logit(cases)
    if abs(change) < _LEAST_CHANGE:
        return None
    batch = expit(logit(cases) + max(-_MOST_CHANGE, min(_MOST_CHANGE, change)))
    return RateShift(cases, batch, len(probabilities))


def _rate(probabilities: Floats, prior: float) -> float:
    # as `scipy.special.logit` and `expit`, whose import takes a quarter of a second
    probabilities = np.clip(probabilities, 1e-9, 1 - 1e-9)
    evidence = np.log(probabilities) - np.log1p(-probabilities) - logit(prior)
    rate = prior
    for _ in range(_ROUNDS):
        before, rate = rate, float((1 / (1 + np.exp(-(evidence + logit(rate))))).mean())
        if abs(rate - before) < _TOLERANCE:
            break
    return rate
