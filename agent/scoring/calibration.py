"""Fitting fusion to cases: weights, the threshold, and the band in which a verdict is unsure."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from agent.core.numerics import map_estimate
from agent.scoring.fusion import NARROWEST, Fusion, LogOdds

_WIDEST = 2.2
_FOLDS = 5
_ENOUGH = 20
# where a threshold for F1 may lie, and how many anomalous cases count as much as what probabilities expect
_THRESHOLDS = (-2.2, 2.2)
_RAGGED = 25.0
# with so many anomalous cases, F1 that differs by no more than this share is as good
_MANY, _AS_GOOD = 100, 0.01


@dataclass(frozen=True)
class Objective:
    """What the threshold between normal and anomalous is chosen for.

    ``f1``: the best F1 of *anomalous*; else the least cost, a false alarm costing ``false_positive`` and a missed
    anomaly ``false_negative`` (equal costs: the best accuracy).
    """

    f1: bool = True
    false_positive: float = 1.0
    false_negative: float = 1.0

    @classmethod
    def parse(cls, said: str) -> Objective:
        """``f1``, ``accuracy``, or ``cost:FP,FN`` with two positive numbers.

        Raises:
            ValueError: it is none of them.
        """
        if said in ("f1", "accuracy"):
            return cls(f1=said == "f1")
        found = re.fullmatch(r"cost:([\d.]+),([\d.]+)", said)
        costs = [float(cost) for cost in found.groups()] if found else []
        if not costs or min(costs) <= 0:
            raise ValueError(f"{said!r} is none of f1, accuracy, cost:FP,FN (two positive numbers)")
        return cls(False, *costs)

    @property
    def least_cost(self) -> float:
        """The threshold on calibrated log-odds at which both mistakes are expected to cost the same."""
        return math.log(self.false_positive / self.false_negative)


def fit(
    default: Fusion,
    rows: Sequence[LogOdds],
    anomalous: Sequence[bool],
    weights: Sequence[float],
    risk: float,
    objective: Objective = Objective(),
) -> Fusion:
    """The default pulled towards what the cases say.

    ``rows``: signals of n cases, each made without that case; ``weights``: how many cases each stands for.
    ``risk``: the error to stay under among decided records, from which the unsure band follows.
    ``objective``: what the threshold is chosen for.
    """
    names = list(default.weights)
    if len(set(anomalous)) < 2:
        return default
    x = np.array([[row.get(name) or 0.0 for name in names] + [1.0] for row in rows]).reshape(len(rows), -1)
    y = np.asarray(anomalous, dtype=float)
    w = np.asarray(weights, dtype=float)
    w = w * (len(w) / w.sum())
    start = np.array([default.weights[name] for name in names] + [default.bias])
    theta = map_estimate(x, y, w, start)
    learned = dict(zip(names, (float(value) for value in theta[:-1]), strict=True))
    fused = Fusion(learned, float(theta[-1]), default.half_width, objective.least_cost)
    if len(y) < _ENOUGH:
        return fused
    # each fold's log-odds by a fit without it: the fit's own would promise too much
    unseen = np.empty(len(y))
    fold = np.argsort(np.argsort(y, kind="stable")) % _FOLDS
    for one in range(_FOLDS):
        rest = fold != one
        unseen[~rest] = x[~rest] @ map_estimate(x[rest], y[rest], w[rest], start)
    threshold = _best_f1(unseen, y, w) if objective.f1 else objective.least_cost
    return replace(fused, threshold=threshold, half_width=_half_width(unseen - threshold, y > 0.5, w, risk))


def _best_f1(z: NDArray[np.float64], y: NDArray[np.float64], w: NDArray[np.float64]) -> float:
    """The threshold on log-odds ``z`` with the best F1 of *anomalous*.

    With few anomalous cases their own labels make a ragged choice, so that each case counts in part as what its
    probability expects of it (plug-in F1; Ye et al. 2012), the less the more anomalous cases there are. With many,
    the top of F1 is flat, and the most accurate of the thresholds there is taken.
    """
    order = np.argsort(-z, kind="stable")
    z, y, w = z[order], y[order], w[order]
    anomalous = float((w * y).sum() / w.mean())
    share = _RAGGED / (_RAGGED + anomalous)
    truth = (1 - share) * y + share / (1 + np.exp(-z))
    found = np.cumsum(w * truth)
    f1 = 2 * found / (np.cumsum(w) + found[-1])
    # a threshold stands between two different values
    f1[np.flatnonzero(z[:-1] == z[1:])] = -1.0
    mistakes = np.cumsum(w * (1 - truth)) - found
    as_good = np.flatnonzero(f1 >= f1.max() * (1 - (_AS_GOOD if anomalous >= _MANY else 0.0)))
    best = int(as_good[np.argmin(mistakes[as_good])])
    edge = z[best] if best + 1 == len(z) else (z[best] + z[best + 1]) / 2
    return float(np.clip(edge, *_THRESHOLDS))


def _half_width(z: NDArray[np.float64], y: NDArray[np.bool_], w: NDArray[np.float64], risk: float) -> float:
    """Narrowest band that keeps the decided cases' error, one more mistake added, under ``risk``.

    Selective classification with a guaranteed risk (Geifman & El-Yaniv 2017), in its plainest finite-sample form.
    """
    order = np.argsort(-np.abs(z))
    wrong = np.cumsum(((z > 0) != y)[order] * w[order])
    decided = np.cumsum(w[order])
    fine = np.flatnonzero((wrong + 1) / (decided + 1) <= risk)
    if len(fine) == 0:
        return _WIDEST
    last = fine[-1]
    return float(np.clip(np.abs(z[order[last]]) if last + 1 < len(z) else 0.0, NARROWEST, _WIDEST))
