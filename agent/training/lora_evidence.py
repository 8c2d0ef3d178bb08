"""Whether an adapter helps: answers with and without it about cases of kinds that it was not trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agent.core.numerics import map_estimate
from retrieval.arrays import Bools, Floats, Ints

_FOLDS, _SEED = 5, 20_26
# standard errors by which the log-loss must be less: one in twenty adapters that do nothing would be kept by chance
_STANDARD_ERRORS = 1.645


@dataclass(frozen=True)
class AnswerFigures:
    """How good answers are. All but the AUC are of answers calibrated on other kinds of the held-out cases."""

    accuracy: float
    f1: float
    roc_auc: float
    log_loss: float


@dataclass(frozen=True)
class LoraEvidence:
    """Answers without and with the adapter about the same held-out cases.

    Attributes
    ----------
    before, after : AnswerFigures
    gain, standard_error : float
        By how much the mean log-loss is less, and how sure that is, a kind counting as one observation.
    cases, anomalous : int
    """

    before: AnswerFigures
    after: AnswerFigures
    gain: float
    standard_error: float
    cases: int
    anomalous: int

    @property
    def helps(self) -> bool:
        """Whether the log-loss is less by more than chance, and the AUC is no less."""
        return self.gain > _STANDARD_ERRORS * self.standard_error and self.after.roc_auc >= self.before.roc_auc


def evidence(before: Floats, after: Floats, anomalous: Bools, kinds: Ints) -> LoraEvidence:
    """Compare answers.

    Parameters
    ----------
    before, after : shape (n,)
        Log-odds without and with the adapter.
    anomalous, kinds : shape (n,)
    """
    (figures_before, losses_before), (figures_after, losses_after) = (
        _figures(answers, anomalous, kinds) for answers in (before, after)
    )
    gains = losses_before - losses_after
    sums = np.zeros(int(kinds.max()) + 1)
    np.add.at(sums, kinds, gains - gains.mean())
    return LoraEvidence(
        figures_before, figures_after, float(gains.mean()), float(np.sqrt((sums**2).sum()) / len(gains)),
        len(gains), int(anomalous.sum()),
    )  # fmt: skip


def _figures(answers: Floats, anomalous: Bools, kinds: Ints) -> tuple[AnswerFigures, Floats]:
    """The figures, and the log-loss of each case, shape (n,)."""
    from sklearn.metrics import f1_score, roc_auc_score

    calibrated = _calibrated(answers, anomalous, kinds)
    losses = np.logaddexp(0, calibrated) - anomalous * calibrated
    predicted = calibrated > 0
    return AnswerFigures(
        float(np.mean(predicted == anomalous)),
        float(f1_score(anomalous, predicted, zero_division=0)),
        float(roc_auc_score(anomalous, answers)),
        float(losses.mean()),
    ), losses


def _calibrated(answers: Floats, anomalous: Bools, kinds: Ints) -> Floats:
    """The answers with slope and bias (Platt 1999), each fold of kinds by those of the others; shape (n,).

    A model's own log-odds are centred anywhere, which fusion corrects too.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    count = min(_FOLDS, int(anomalous.sum()), int((~anomalous).sum()))
    groups = kinds if len(np.unique(kinds)) >= count else np.arange(len(kinds))
    folds = StratifiedGroupKFold(count, shuffle=True, random_state=_SEED)
    centred = answers - np.median(answers)
    x = np.stack([centred / max(float(centred.std()), 1e-6), np.ones(len(answers))], axis=1)
    out = np.zeros(len(answers))
    for rest, held_out in folds.split(x, anomalous, groups):
        # a prior of the strength of a few cases
        theta = map_estimate(x[rest], anomalous[rest].astype(float), np.ones(len(rest)), np.array([1.0, 0.0]))
        out[held_out] = x[held_out] @ theta
    return out
