"""How good probabilities are, as curves: calibration, and error by coverage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.core.numerics import logit
from agent.core.records import Verdict

_BINS, _POINTS = 10, 100


@dataclass(frozen=True)
class CalibrationPoint:
    """Records of similar probability: the mean of it, and the share that is anomalous."""

    predicted: float
    observed: float
    records: int


def calibration(probabilities: Sequence[float], anomalous: Sequence[bool]) -> list[CalibrationPoint]:
    """Up to ten groups of n records with as many records each, by ascending probability."""
    p, y = np.asarray(probabilities, float), np.asarray(anomalous, float)
    order = np.argsort(p, kind="stable")
    groups = [group for group in np.array_split(order, min(_BINS, max(1, len(p)))) if len(group)]
    return [CalibrationPoint(float(p[group].mean()), float(y[group].mean()), len(group)) for group in groups]


def risk_by_coverage(verdicts: Sequence[Verdict], anomalous: Sequence[bool]) -> list[tuple[float, float]]:
    """Error among the most certain records, for up to 100 shares of them; both between 0 and 1."""
    distance = np.array([abs(logit(verdict.probability) - verdict.threshold) for verdict in verdicts])
    wrong = np.array([(v.leans == "anomalous") != y for v, y in zip(verdicts, anomalous, strict=True)], float)
    order: NDArray[np.intp] = np.argsort(-distance, kind="stable")
    error = np.cumsum(wrong[order]) / np.arange(1, len(order) + 1)
    if not len(order):
        return []
    places = np.unique(np.linspace(0, len(order) - 1, min(_POINTS, len(order))).astype(int))
    return [(float((i + 1) / len(order)), float(error[i])) for i in places]
