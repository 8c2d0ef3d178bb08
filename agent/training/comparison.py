"""Two fits on the same labelled records: figures of both, and whether one is worse beyond chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel

from agent.core.records import Verdict
from agent.training.evaluation import evaluate
from retrieval.arrays import Bools, Floats

# an outcome that a probability rules out costs ln 1,000
_CLIP = 1e-3
# records of different templates that a test needs; chance at which a test takes one fit for worse where none is
_FEWEST, _CHANCE = 10, 0.025
_RESAMPLES, _SEED = 4_999, 20_26
# cases of a client that are compared with those of all others; the chance at which one is taken for outlying
_FEWEST_OF_CLIENT, _OUTLYING = 5, 0.01
# how `given_by` begins of a case that corrects a verdict; the verdict's id follows
FEEDBACK = "feedback on "
Outcome = Literal["better", "worse", "alike", "too few"]


class FitFigures(BaseModel):
    """How good the verdicts of a fit are; see `agent.training.evaluation.Evaluation`. Log-loss is in nats."""

    log_loss: float
    roc_auc: float | None
    f1: float
    error_among_decided: float | None
    coverage: float


class PairedTest(BaseModel):
    """The fits on some of the records.

    Attributes
    ----------
    templates : int
        Different templates among the records; each counts once.
    gain : float
        Mean log-loss that the challenger saves, in nats.
    p_value : float or None
        Two-sided, by a sign-flip permutation test; None of too few templates.
    """

    templates: int
    gain: float
    p_value: float | None
    outcome: Outcome


def figures(verdicts: Sequence[Verdict], anomalous: Sequence[bool]) -> FitFigures:
    """The figures of n verdicts on records with these labels."""
    found = evaluate(verdicts, anomalous, 0.0)
    return FitFigures(
        log_loss=float(log_losses(verdicts, anomalous).mean()),
        roc_auc=found.roc_auc,
        f1=found.f1,
        error_among_decided=found.selective_error,
        coverage=found.coverage,
    )


def log_losses(verdicts: Sequence[Verdict], anomalous: Sequence[bool]) -> Floats:
    """The log-loss of each of n verdicts, shape (n,)."""
    probability = np.clip([verdict.probability for verdict in verdicts], _CLIP, 1 - _CLIP)
    return np.asarray(-np.log(np.where(anomalous, probability, 1 - probability)))


def paired_test(gains: Floats, keys: Sequence[str]) -> PairedTest:
    """Whether the challenger's log-loss is lower or higher beyond chance.

    Parameters
    ----------
    gains : shape (n,)
        Log-loss of the champion less that of the challenger, by record.
    keys : n strings
        The records' templates: records of one template are no independent evidence, so that their mean counts.
    """
    from scipy.stats import permutation_test

    _, place = np.unique(np.asarray(keys), return_inverse=True)
    by_key = np.bincount(place, weights=gains) / np.bincount(place) if len(gains) else np.zeros(0)
    gain = float(by_key.mean()) if len(by_key) else 0.0
    if len(by_key) < _FEWEST:
        return PairedTest(templates=len(by_key), gain=gain, p_value=None, outcome="too few")
    if not by_key.any():
        return PairedTest(templates=len(by_key), gain=0.0, p_value=1.0, outcome="alike")
    rng = np.random.default_rng(_SEED)
    found = permutation_test(
        (by_key,), np.mean, permutation_type="samples", vectorized=True, n_resamples=_RESAMPLES, rng=rng
    )
    p_value = float(found.pvalue)
    outcome: Outcome = "alike" if p_value >= 2 * _CHANCE else "better" if gain > 0 else "worse"
    return PairedTest(templates=len(by_key), gain=gain, p_value=p_value, outcome=outcome)


def decided_worse(champion: Sequence[Verdict], challenger: Sequence[Verdict], anomalous: Sequence[bool]) -> bool:
    """Whether the challenger decides more records wrongly, beyond chance (McNemar's exact test, one-sided)."""
    from scipy.stats import binomtest

    wrong = [np.array([_is_wrong(v, y) for v, y in zip(of, anomalous, strict=True)]) for of in (champion, challenger)]
    only_champion, only_challenger = int((wrong[0] & ~wrong[1]).sum()), int((wrong[1] & ~wrong[0]).sum())
    differing = only_champion + only_challenger
    return differing > 0 and bool(binomtest(only_challenger, differing, alternative="greater").pvalue < _CHANCE)


def _is_wrong(verdict: Verdict, anomalous: bool) -> bool:
    return verdict.label != "unsure" and (verdict.label == "anomalous") != anomalous


def outlying_clients(clients: Sequence[str], contradicts: Bools) -> dict[str, tuple[int, int]]:
    """Clients whose labels contradict the verdicts more often than those of all others, beyond chance.

    Parameters
    ----------
    clients : n strings
        Who gave each label.
    contradicts : shape (n,)
        Whether it contradicts the verdict.

    Returns
    -------
    Of each such client how many of its labels contradict, and how many it gave (Fisher's exact test with Bonferroni's
    correction).
    """
    from scipy.stats import fisher_exact

    names, outlying = np.asarray(clients), dict[str, tuple[int, int]]()
    distinct = sorted(set(clients))
    for client in distinct:
        is_own = names == client
        given, others = int(is_own.sum()), int((~is_own).sum())
        wrong, wrong_others = int(contradicts[is_own].sum()), int(contradicts[~is_own].sum())
        if min(given, others) < _FEWEST_OF_CLIENT:
            continue
        table = np.array([[wrong, given - wrong], [wrong_others, others - wrong_others]])
        if fisher_exact(table, alternative="greater").pvalue * len(distinct) < _OUTLYING:
            outlying[client] = (wrong, given)
    return outlying


def client_of(given_by: str) -> str:
    """Who gave a label, from the ``given_by`` of its case."""
    if not given_by.startswith(FEEDBACK):
        return given_by
    return given_by.partition(", ")[2] or "a person"
