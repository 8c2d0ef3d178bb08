"""From verdicts and labels to figures: `agent.training.evaluation`'s, and what only a comparison needs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from agent.core.numerics import logit
from agent.core.records import SIGNALS, Label, Provenance, Record, Verdict
from agent.training.evaluation import evaluate
from benchmarks.quality.baselines import Floats

Figures = dict[str, Any]
_CONFIDENT = 0.8
_PROVENANCE = Provenance(model=None, model_sha256=None, prompt_sha256="", casebook_version=0)


def of_verdicts(verdicts: Sequence[Verdict], anomalous: Sequence[bool]) -> Figures:
    """`agent.training.evaluation.Evaluation`'s, and ``error_at_80``: the error among the 80 % most confident."""
    order = _most_confident_first(verdicts)[: math.ceil(_CONFIDENT * len(verdicts))]
    confident = evaluate([verdicts[i] for i in order], [anomalous[i] for i in order], 0.0)
    figures = evaluate(verdicts, anomalous, 0.0).model_dump(exclude={"records_per_second"})
    return {**figures, "error_at_80": 1 - confident.accuracy}


def _most_confident_first(verdicts: Sequence[Verdict]) -> list[int]:
    """By the distance, on log-odds, from the middle of the unsure band; those that are equally far in random order."""

    def distance(verdict: Verdict) -> float:
        low, high = verdict.unsure_band
        return abs(logit(verdict.probability) - (logit(low) + logit(high)) / 2)

    shuffled = np.random.default_rng(0).permutation(len(verdicts))
    return sorted((int(i) for i in shuffled), key=lambda i: -distance(verdicts[i]))


def of_signal(
    signals: Sequence[float | None],
    probabilities: Sequence[float],
    anomalous: Sequence[bool],
    weights: Sequence[float] | None = None,
) -> Figures:
    """How well one signal's log-odds rank the ``n`` records that have it, and all fused rank the same ones.

    ``weights``: how many judged records each stands for. Figures are None where only one label occurs.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    there = [i for i, signal in enumerate(signals) if signal is not None]
    truth, score, fused = ([values[i] for i in there] for values in (anomalous, signals, probabilities))
    weight = None if weights is None else [weights[i] for i in there]
    both = len(set(truth)) == 2
    return {
        "n": len(there),
        "roc_auc": float(roc_auc_score(truth, score, sample_weight=weight)) if both else None,
        "average_precision": float(average_precision_score(truth, score, sample_weight=weight)) if both else None,
        "fused_roc_auc": float(roc_auc_score(truth, fused, sample_weight=weight)) if both else None,
    }


def of_baseline(probability: Floats, records: Sequence[Record], anomalous: Sequence[bool]) -> Figures:
    """The same figures as verdicts', of a method that is never unsure and tells by one half."""
    verdicts = [
        _plain_verdict(record, min(max(float(p), 0.0), 1.0)) for record, p in zip(records, probability, strict=True)
    ]
    figures = evaluate(verdicts, anomalous, 0.0)
    return figures.model_dump(include={"accuracy", "precision", "recall", "f1", "roc_auc", "average_precision"})


def _plain_verdict(record: Record, probability: float) -> Verdict:
    label: Label = "anomalous" if probability >= 0.5 else "normal"
    return Verdict(
        id="",
        source="baseline",
        label=label,
        probability=probability,
        unsure_band=(0.5, 0.5),
        explanation="",
        signals=dict.fromkeys(SIGNALS),
        record=record,
        provenance=_PROVENANCE,
        elapsed_ms=0.0,
    )


def mean(figures: Sequence[Any]) -> Any:
    """Figures of several draws as one, number by number; what is None in a draw is left out of the mean."""
    there = [one for one in figures if one is not None]
    if not there:
        return None
    if isinstance(there[0], dict):
        return {name: mean([one.get(name) for one in there]) for one in there for name in one}
    return statistics.fmean(there)
