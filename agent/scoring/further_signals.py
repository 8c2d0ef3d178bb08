"""Which further signals are weighed: those that make verdicts better on cases that their weights were not fitted to.

A weight that is fitted to noise is small but not 0, and it moves probabilities, the threshold and the band. So a
further signal is tested first, and without proof the fusion is the one without it, to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from agent.scoring.calibration import LabelledSignals
from agent.scoring.fusion import Fusion, LogOdds
from retrieval.arrays import Bools, Floats, Ints

# probability with which a signal that adds nothing is taken to add something, however many are tested
_CHANCE = 0.05
# a stronger prior leaves log-odds of the built-in signals too small, which a signal that repeats them could mend
_WEAK_PRIOR = 20.0


@dataclass(frozen=True)
class Conditions:
    """How n cases are held out, and which of them are no independent evidence.

    Parameters
    ----------
    folds : shape (n,)
        Numbers of the cases' folds.
    groups : arrays of shape (n,)
        For each condition under which the cases' signals were computed (their kind is known; it is new), numbers of
        the groups of cases that may be right or wrong together.
    """

    folds: Ints
    groups: tuple[Ints, ...]


def signals_that_help(
    default: Fusion,
    further: Sequence[str],
    rows: Sequence[LogOdds],
    anomalous: Sequence[bool],
    weights: Sequence[float],
    rounds: int,
    conditions: Conditions,
) -> tuple[str, ...]:
    """The further signals to weigh beside those of ``default``, the most useful first.

    They are added one by one, each beside those before it, so that of two equal signals one is added.

    Parameters
    ----------
    further : sequence of str
        Names of signals that ``default`` does not weigh.
    default, rows, anomalous, weights, rounds
        See `agent.scoring.calibration.fit`; the rows of one condition follow those of another.
    conditions : Conditions
    """
    accepted: list[str] = []
    if len(set(anomalous)) < 2:
        return ()

    def cases(names: Sequence[str]) -> LabelledSignals:
        weighed = {**default.weights, **dict.fromkeys(names, 0.0)}
        return LabelledSignals.of(replace(default, weights=weighed), rows, anomalous, weights, rounds)

    while remaining := [name for name in further if name not in accepted]:
        without, chance = cases(accepted), _CHANCE / len(further)
        gains = {name: least_gain(without, cases([*accepted, name]), conditions, chance) for name in remaining}
        best = max(remaining, key=lambda name: gains[name])
        if gains[best] <= 0:
            break
        accepted.append(best)
    return tuple(accepted)


def least_gain(without: LabelledSignals, with_signal: LabelledSignals, conditions: Conditions, chance: float) -> float:
    """Lower confidence bound of the decrease of log-loss by a signal, the least of all conditions.

    Both fusions are fitted to some folds and compared on the others. A signal has no gain under a condition where it
    does not rank the cases better, by more than the standard error.
    """
    tiled = np.tile(conditions.folds, len(conditions.groups))
    before, after = without.out_of_fold(tiled, _WEAK_PRIOR), with_signal.out_of_fold(tiled, _WEAK_PRIOR)
    gains = _log_loss(without, before) - _log_loss(with_signal, after)
    least, n = np.inf, len(conditions.folds)
    for number, groups in enumerate(conditions.groups):
        rows = slice(number * n, (number + 1) * n)
        bound = _lower_bound(gains[rows], groups, chance)
        ranks_better = _least_gain_of_auc(before[rows], after[rows], without.y[rows] > 0.5) > 0
        least = min(least, bound if ranks_better else min(bound, 0.0))
    return float(least)


def _least_gain_of_auc(before: Floats, after: Floats, anomalous: Bools) -> float:
    """The increase of the area under the ROC curve, less its standard error (DeLong, DeLong & Clarke-Pearson 1988)."""

    def shares_below(values: Floats, others: Floats) -> Floats:
        others = np.sort(others)
        return np.asarray(np.searchsorted(others, values, "left") + np.searchsorted(others, values, "right")) / (
            2 * len(others)
        )

    of_anomalous, of_normal = (
        shares_below(after[mask], after[~mask]) - shares_below(before[mask], before[~mask])
        for mask in (anomalous, ~anomalous)
    )
    variance = sum(float(part.var()) / max(len(part) - 1, 1) for part in (of_anomalous, of_normal))
    return float(of_anomalous.mean() - np.sqrt(variance))


def _log_loss(cases: LabelledSignals, log_odds: Floats) -> Floats:
    return np.asarray(cases.w * (np.logaddexp(0, log_odds) - cases.y * log_odds))


def _lower_bound(gains: Floats, groups: Ints, chance: float) -> float:
    """Lower confidence bound of the sum of n gains, of which those of a group are one observation.

    Student's t with Satterthwaite's degrees of freedom: a few groups may make nearly all of the variance.
    """
    from scipy.stats import t

    of_group = np.bincount(np.unique(groups, return_inverse=True)[1], gains)
    squares = (of_group - of_group.mean()) ** 2
    if len(of_group) < 2 or not squares.any():
        return 0.0
    error = np.sqrt(squares.sum() * len(of_group) / (len(of_group) - 1))
    freedom = max(squares.sum() ** 2 / (squares**2).sum() - 1, 1.0)
    return float(gains.sum() - t.ppf(1 - chance, freedom) * error)
