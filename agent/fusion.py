"""Signals to one calibrated probability, and to a label or "unsure".

Log-odds add up: a logistic model with non-negative weights, so that no witness can argue backwards. With no
labels the weights are the defaults below; a source's own cases pull away from them by maximum a posteriori
fitting, as strongly as they are many. Templates that the casebook already holds need no inference: there the
label counts speak alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.records import WITNESSES, VerdictLabel

_PRIOR_STRENGTH = 10.0
_DEFAULT_HALF_WIDTH = 0.6
_NARROWEST, _WIDEST = 0.2, 2.2
_FOLDS = 5
_ENOUGH = 20
# where a threshold for F1 may lie, and how many anomalous cases count as much as what probabilities expect
_THRESHOLDS = (-2.2, 2.2)
_RAGGED = 25.0
# with so many anomalous cases, F1 that differs by no more than this share is as good
_MANY, _AS_GOOD = 100, 0.01
# how far costs may move the threshold for what the casebook holds: one label, doubted, is worth 2.6 or more
_SETTLED = 1.9
LogOdds = Mapping[str, float | None]


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


@dataclass(frozen=True)
class Fusion:
    """``log-odds = bias + Σ weight · signal``; a signal that was not heard adds nothing.

    On the log-odds scale, ``threshold`` parts normal from anomalous, and the unsure band reaches ``half_width`` to
    both sides of it.
    """

    weights: dict[str, float]
    bias: float
    half_width: float = _DEFAULT_HALF_WIDTH
    threshold: float = 0.0

    def log_odds(self, signals: LogOdds) -> float:
        return self.bias + sum(self.weights[name] * (signals.get(name) or 0.0) for name in self.weights)

    @property
    def band(self) -> tuple[float, float]:
        return sigmoid(self.threshold - self.half_width), sigmoid(self.threshold + self.half_width)

    def unsure_of(self, probability: float) -> Fusion:
        """This fusion with a band that reaches over ``probability`` too, around the same threshold."""
        z = math.log(probability / (1 - probability))
        return replace(self, half_width=max(self.half_width, abs(z - self.threshold) + _NARROWEST))

    def label(self, probability: float) -> VerdictLabel:
        low, high = self.band
        if low < probability < high:
            return "unsure"
        return "anomalous" if probability >= high else "normal"


# what fitting starts from, and stays near with few cases
DEFAULT_FULL = Fusion({"language": 0.8, "neighbours": 0.5, "novelty": 0.15, "fields": 0.6}, bias=-0.5)
DEFAULT_CHEAP = Fusion({"neighbours": 0.8, "novelty": 0.25, "fields": 1.0}, bias=-0.3)
# without cases of both labels one record in twenty is taken to be anomalous; a word of the model is worth less than it
# seems, and of an ordinary record about +1 above that of an empty one (measured on the demo's log and on SMS)
UNTAUGHT_FULL = Fusion({"language": 0.7, "novelty": 0.4, "fields": 0.6}, bias=-3.0, threshold=-1.4)
UNTAUGHT_CHEAP = Fusion({"novelty": 0.8, "fields": 1.0}, bias=-3.0, threshold=-1.4)
# tables and sessions: what trees learned, and how odd the record is; without anomalous cases, oddness alone is `fields`
FIELDS = Fusion({"fields": 1.0, "novelty": 0.1}, bias=0.0)
# nobody has shown it what is anomalous, so that its band is wide
ODDNESS = Fusion({"fields": 1.0}, bias=0.0, half_width=1.2)
KNOWN = Fusion({"neighbours": 1.0}, bias=0.0)


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


def map_estimate(
    x: NDArray[np.float64], y: NDArray[np.float64], w: NDArray[np.float64], start: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Weights (non-negative) and bias, shape ``(columns,)``: logistic, with a Gaussian prior around ``start``."""
    from scipy.optimize import minimize

    pull_strength = np.r_[np.full(len(start) - 1, _PRIOR_STRENGTH), _PRIOR_STRENGTH / 10]

    def loss(theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        z = x @ theta
        pull = theta - start
        value = float(w @ (np.logaddexp(0, z) - y * z) + 0.5 * pull_strength @ pull**2)
        gradient = x.T @ (w * (1 / (1 + np.exp(-z)) - y)) + pull_strength * pull
        return value, gradient

    bounds = [(0.0, None)] * (len(start) - 1) + [(None, None)]
    theta: NDArray[np.float64] = minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B").x
    return theta


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
    return float(np.clip(np.abs(z[order[last]]) if last + 1 < len(z) else 0.0, _NARROWEST, _WIDEST))


@dataclass(frozen=True)
class Way:
    """How a language model is asked: by which of `agent.signals.language.WORDINGS`, and whether near precedents help.

    ``reference``: its log-odds for an empty record, None where that was not asked.
    """

    wording: str = "belongs"
    reference: float | None = None
    examples: bool = False


@dataclass(frozen=True)
class Judge:
    """What a source's cases have taught: two fusions (with and without the language model) and references.

    ``lonely``: quantiles of the cases' leave-one-out distances; ``keys``: how many distinct templates;
    ``way``: how the language model named in ``model`` is asked;
    ``language_auc``: how well it alone told the sampled cases apart, None when it was not tried on enough of them;
    ``language_range``: log-odds between which its word nearly always lies;
    ``by_text``: whether what it says of an unknown template hangs on what masking hides.
    """

    full: Fusion = UNTAUGHT_FULL
    cheap: Fusion = UNTAUGHT_CHEAP
    lonely: tuple[float, ...] = ()
    keys: int = 0
    way: Way = Way()
    model: str | None = None
    language_auc: float | None = None
    language_range: tuple[float, float] = (-8.0, 8.0)
    normal_axes: dict[str, Any] | None = None
    fitted_on: int = 0
    objective: str = "f1"
    by_text: bool = False

    @classmethod
    def unfitted(cls, counts: Mapping[str, int]) -> Judge:
        """Of a source with so many cases of each label that were never fitted."""
        return cls(DEFAULT_FULL, DEFAULT_CHEAP) if all(counts.values()) else cls()

    @classmethod
    def of(cls, said: Mapping[str, Any] | None, counts: Mapping[str, int]) -> Judge:
        """That which a source's row has ``said``, or the one of a source that was never fitted."""
        return cls.from_json(said) if said else cls.unfitted(counts)

    def fusion_for(self, signals: LogOdds, known: bool) -> Fusion:
        if known:
            # whatever mistakes cost, one label that a person gave to this very content settles it
            return replace(KNOWN, threshold=max(-_SETTLED, min(_SETTLED, self.cheap.threshold)))
        return self.full if signals.get("language") is not None else self.cheap

    def way_for(self, model: str) -> Way:
        return self.way if model == self.model else Way()

    def language_may_decide(self, signals: LogOdds) -> bool:
        """Whether hearing the language model could change the label that the other witnesses give, or make it sure.

        Its weight is not negative, so the ends of its range bound whatever it may say (value of information).
        """
        if not self.full.weights.get("language"):
            return False
        probability, fusion = fused(self, {**signals, "language": None}, known=False)
        label = fusion.label(probability)
        words = (fused(self, {**signals, "language": word}, known=False) for word in self.language_range)
        return label == "unsure" or any(fusion.label(probability) != label for probability, fusion in words)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Judge:
        return cls(
            **{
                **data,
                "full": Fusion(**data["full"]),
                "cheap": Fusion(**data["cheap"]),
                "way": Way(**data["way"]),
                "lonely": tuple(data["lonely"]),
                "language_range": tuple(data["language_range"]),
            }
        )


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z)) if z >= 0 else math.exp(z) / (1 + math.exp(z))


def fused(judge: Judge, signals: LogOdds, known: bool) -> tuple[float, Fusion]:
    """The probability of *anomalous*, and the fusion that gave it. With no signal: the threshold, hence unsure."""
    fusion = judge.fusion_for(signals, known)
    if all(signals.get(name) is None for name in WITNESSES):
        return sigmoid(fusion.threshold), fusion
    return sigmoid(fusion.log_odds(signals)), fusion
