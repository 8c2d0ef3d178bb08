"""Fitting fusion to cases: weights, the threshold, and the band in which a verdict is unsure."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from agent.core.numerics import logit, map_estimate
from agent.scoring.fusion import NARROWEST, Fusion, LogOdds
from retrieval.arrays import Bools, Floats, Ints

# The bias stands for the share of anomalies among the cases. More than this beyond it corrects detectors that are wrong
# about some kind of record (trees about kinds of anomaly that they have not seen), and so falsifies all other verdicts.
_MAX_CORRECTION = 1.0
_WIDEST = 2.2
_MARGIN = 1e-6
_FOLDS = 5
# cases below which threshold and band are not fitted
_MIN_CASES = 20
# range of the F1 threshold, and how many anomalous cases count as much as the plug-in estimate
_THRESHOLDS = (-2.2, 2.2)
_PLUG_IN_CASES = 25.0
# with at least this many anomalous cases, values of F1 that differ by at most this share count as equal
_MANY_ANOMALOUS, _F1_TOLERANCE = 100, 0.01


@dataclass(frozen=True)
class Objective:
    """What the threshold between normal and anomalous is chosen for.

    Parameters
    ----------
    f1 : bool
        The best F1 of *anomalous*; if False, the least expected cost.
    false_positive, false_negative : float
        Costs of a false alarm and of a missed anomaly; equal costs give the best accuracy.
    """

    f1: bool = True
    false_positive: float = 1.0
    false_negative: float = 1.0

    @classmethod
    def parse(cls, text: str) -> Objective:
        """``f1``, ``accuracy``, or ``cost:FP,FN`` with two positive numbers.

        Raises
        ------
        ValueError
            The text is none of them.
        """
        if text in ("f1", "accuracy"):
            return cls(f1=text == "f1")
        match = re.fullmatch(r"cost:([\d.]+),([\d.]+)", text)
        costs = [float(cost) for cost in match.groups()] if match else []
        if not costs or min(costs) <= 0:
            raise ValueError(f"{text!r} is none of f1, accuracy, cost:FP,FN (two positive numbers)")
        return cls(False, *costs)

    @property
    def least_cost(self) -> float:
        """The threshold on calibrated log-odds at which both errors have the same expected cost."""
        return math.log(self.false_positive / self.false_negative)


def fit(
    default: Fusion,
    rows: Sequence[LogOdds],
    anomalous: Sequence[bool],
    weights: Sequence[float],
    risk: float,
    objective: Objective = Objective(),
    rounds: int = 1,
) -> Fusion:
    """Fit a fusion to the out-of-fold signals of a source's cases.

    Signals that agree are never overruled by the bias: with no evidence (all signals 0) the verdict is unsure, because
    the band always reaches the bias (for an ``objective`` with costs, the bias less the threshold that costs imply).

    Parameters
    ----------
    default : Fusion
        Mean of the prior; returned as it is when the cases have only one label.
    rows : n mappings
        Log-odds of n cases by detector, each computed without that case; those of one round after those of another.
    anomalous : n booleans
        Labels of the cases.
    weights : n floats
        How many cases each counts as.
    risk : float
        Largest error among decided records; the unsure band follows from it.
    objective : Objective
        What the threshold is chosen for.
    rounds : int
        How many rows each case has: its signals under different conditions, which are no further evidence.
    """
    if len(set(anomalous)) < 2:
        return default
    cases = LabelledSignals.of(default, rows, anomalous, weights, rounds)
    theta = cases.estimate()
    fitted_weights = dict(zip(default.weights, (float(value) for value in theta[:-1]), strict=True))
    fusion = Fusion(fitted_weights, float(theta[-1]), default.half_width, objective.least_cost)
    y, w = cases.y, cases.w
    first = y[: len(y) // rounds]
    if len(first) < _MIN_CASES:
        # so few cannot show that the risk is kept
        return reaching_bias(replace(fusion, half_width=_WIDEST), objective)
    unseen = cases.out_of_fold(np.tile(np.argsort(np.argsort(first, kind="stable")) % _FOLDS, rounds))
    threshold = objective.least_cost
    if objective.f1:
        threshold = float(np.clip(_best_f1(unseen, y, w), fusion.bias - _WIDEST, fusion.bias + _WIDEST))
    half_width = _half_width(unseen - threshold, y > 0.5, w, risk)
    fusion = replace(fusion, threshold=threshold, half_width=min(half_width, _WIDEST), risk_kept=half_width <= _WIDEST)
    return reaching_bias(fusion, objective)


@dataclass(frozen=True)
class LabelledSignals:
    """The signals of n labelled cases as a logistic model is fitted to them, with its prior.

    Parameters
    ----------
    x : shape (n, signals + 1)
        The last column is 1, for the bias.
    y, w : shape (n,)
        1 for anomalous cases, and how many cases each counts as.
    start : shape (signals + 1,)
        Mean of the prior.
    bias_bounds : pair of float
    """

    x: Floats
    y: Floats
    w: Floats
    start: Floats
    bias_bounds: tuple[float, float]

    @classmethod
    def of(
        cls, default: Fusion, rows: Sequence[LogOdds], anomalous: Sequence[bool], weights: Sequence[float], rounds: int
    ) -> LabelledSignals:
        """The signals that ``default`` weighs; see `fit`."""
        names = list(default.weights)
        x = np.array([[row.get(name) or 0.0 for name in names] + [1.0] for row in rows]).reshape(len(rows), -1)
        y = np.asarray(anomalous, dtype=float)
        w = np.asarray(weights, dtype=float)
        w = w * (len(w) / rounds / w.sum())
        start = np.array([default.weights[name] for name in names] + [default.bias])
        base = logit(float(w @ y / w.sum()))
        return cls(x, y, w, start, (min(base, 0.0) - _MAX_CORRECTION, max(base, 0.0) + _MAX_CORRECTION))

    def estimate(self, chosen: Bools | slice = slice(None), evidence: float = 1.0) -> Floats:
        """Weights and, last, the bias, fitted to the cases ``chosen``: shape (signals + 1,).

        ``evidence``: how often each case counts against the prior.
        """
        return map_estimate(self.x[chosen], self.y[chosen], evidence * self.w[chosen], self.start, self.bias_bounds)

    def out_of_fold(self, folds: Ints, evidence: float = 1.0) -> Floats:
        """Log-odds of each fold by a fit on the others, shape (n,): the fit on all cases is too optimistic."""
        unseen = np.empty(len(self.y))
        for number in np.unique(folds):
            rest = folds != number
            unseen[~rest] = self.x[~rest] @ self.estimate(rest, evidence)
        return unseen


def reaching_bias(fusion: Fusion, objective: Objective) -> Fusion:
    """The fusion with a band that holds the bias, so that without evidence the verdict is unsure."""
    distance = abs(fusion.bias - (fusion.threshold - objective.least_cost))
    return replace(fusion, half_width=max(fusion.half_width, distance + _MARGIN))


def _best_f1(z: Floats, y: Floats, w: Floats) -> float:
    """The threshold on log-odds ``z`` with the best F1 of *anomalous*.

    With few anomalous cases, F1 by their labels alone is noisy, so each case counts in part as its probability (plug-in
    F1; Ye et al. 2012), the less the more anomalous cases there are. With many, the maximum of F1 is flat, and the most
    accurate of the thresholds there is taken.
    """
    from scipy.special import expit

    order = np.argsort(-z, kind="stable")
    z, y, w = z[order], y[order], w[order]
    anomalous = float((w * y).sum())
    share = _PLUG_IN_CASES / (_PLUG_IN_CASES + anomalous)
    truth = (1 - share) * y + share * expit(z)
    found = np.cumsum(w * truth)
    f1 = 2 * found / (np.cumsum(w) + found[-1])
    # a threshold lies between two different values
    f1[np.flatnonzero(z[:-1] == z[1:])] = -1.0
    errors = np.cumsum(w * (1 - truth)) - found
    candidates = np.flatnonzero(f1 >= f1.max() * (1 - (_F1_TOLERANCE if anomalous >= _MANY_ANOMALOUS else 0.0)))
    best = int(candidates[np.argmin(errors[candidates])])
    edge = z[best] if best + 1 == len(z) else (z[best] + z[best + 1]) / 2
    return float(np.clip(edge, *_THRESHOLDS))


def _half_width(z: Floats, y: Bools, w: Floats, risk: float) -> float:
    """The narrowest band that keeps the error of the decided cases, plus one more error, under ``risk``; else infinity.

    Selective classification with a guaranteed risk (Geifman & El-Yaniv 2017), in its simplest finite-sample form.
    """
    order = np.argsort(-np.abs(z))
    wrong = np.cumsum(((z > 0) != y)[order] * w[order])
    decided = np.cumsum(w[order])
    fine = np.flatnonzero((wrong + 1) / (decided + 1) <= risk)
    if len(fine) == 0:
        return math.inf
    last = fine[-1]
    return float(max(np.abs(z[order[last]]) if last + 1 < len(z) else 0.0, NARROWEST))
