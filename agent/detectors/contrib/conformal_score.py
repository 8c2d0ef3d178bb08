"""Anomaly scores of any scale to log-odds, by their conformal p-value among normal cases that were not fitted on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from agent.core.records import Signal
from agent.detectors.conformal import ConformalTail
from retrieval.arrays import Bools, Floats, Ints

# rows to fit on, rows to score -> scores, higher is more anomalous
Score = Callable[[Ints, Ints], Floats]
_SEED = 20_26


def cross_scores(fitted: Bools, score: Score, folds: int = 5) -> Floats:
    """Scores of n cases, each by a scorer fitted on other folds of the ``fitted`` cases: shape (n,).

    The other cases, which no scorer is fitted on, are spread over the same scorers: two scorers may differ in scale, so
    scores of one kind of case by one of them cannot be compared with scores of another kind by another.
    """
    numbers, random = np.empty(len(fitted), dtype=np.int64), np.random.default_rng(_SEED)
    most = min(folds, int(fitted.sum()))
    for indices in (np.flatnonzero(fitted), np.flatnonzero(~fitted)):
        numbers[indices] = random.permutation(len(indices)) % most
    out = np.empty(len(fitted))
    for fold in range(most):
        held_out = np.flatnonzero(numbers == fold)
        out[held_out] = finite(score(np.flatnonzero(fitted & (numbers != fold)), held_out))
    return out


def finite(scores: Any) -> Floats:
    """Scores as doubles; what is not a number is the least, an overflow the greatest."""
    return np.nan_to_num(np.asarray(scores, dtype=np.float64).reshape(-1), nan=0.0, posinf=1e30, neginf=-1e30)


def signals(name: str, tail: ConformalTail, scores: Floats) -> list[Signal]:
    """The signals of scores, shape (n,), with a fact for each: how many normal cases have such a score."""
    at_least = len(tail.values) - np.searchsorted(tail.values, scores, side="left")
    return [
        Signal(
            log_odds=float(log_odds),
            facts=(f"{name}: {count:,} of {len(tail.values):,} normal cases score as high",),
        )
        for log_odds, count in zip(tail.log_odds(scores), at_least.tolist(), strict=True)
    ]
