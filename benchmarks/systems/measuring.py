"""One system on a split: trained, timed, and its answers about the same records against their labels."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from agent.core.errors import PrecedentError
from agent.core.records import Verdict
from agent.detectors.contrib import catalog
from agent.detectors.registry import fit_detectors
from agent.pipeline.context import AppContext
from agent.pipeline.pipeline import build
from agent.pipeline.service import judge_many
from agent.scoring.calibration import Objective
from agent.training.contrib_choice import fusions_alone
from agent.training.evaluation import calibration_error, classification_figures
from agent.training.leave_one_out import InstalledScores
from agent.training.refit import refit
from agent.training.tune_classifier import default_options, tune_classifier
from benchmarks.progress import Progress
from benchmarks.quality.baselines import Encode, embedded_regression, forest, tfidf_regression
from benchmarks.systems.split import Split
from retrieval.arrays import Floats

_FOLDS = 5
# scikit-learn with the labels of both kinds
SUPERVISED: Mapping[str, Callable[..., Any]] = {
    "random forest (fields)": forest,
    "logistic regression (embeddings)": embedded_regression,
    "logistic regression (TF-IDF)": tfidf_regression,
}
PRECEDENT, FUSED, TUNED = "Precedent", "Precedent with", "tuned"


@dataclass(frozen=True)
class Row:
    """A line of the table; a figure that is not known is None.

    Attributes
    ----------
    learned_from : str
        Which cases it was trained on.
    out_of_fold_auc : float or None
        On the learned cases, by which a detector for the fusion is chosen.
    weight : float or None
        Of the further detector in the fusion.
    """

    system: str
    learned_from: str
    accuracy: float | None = None
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None
    roc_auc: float | None = None
    average_precision: float | None = None
    ece: float | None = None
    training_seconds: float | None = None
    records_per_second: float | None = None
    labels: str = ""
    out_of_fold_auc: float | None = None
    weight: float | None = None
    note: str = ""


def figures(
    probability: Floats, predicted: NDArray[np.bool_], truth: NDArray[np.bool_], score: Floats | None = None
) -> dict[str, Any]:
    """The figures of n probabilities of *anomalous*, and of labels that were chosen by the system itself.

    ``score``: what ranks the records, where calibration makes probabilities equal; the probability by default.
    """
    score = probability if score is None else score
    return {**classification_figures(predicted, truth, score), "ece": calibration_error(probability, truth)}


def measure_detector(context: AppContext, split: Split, name: str) -> Row:
    """A detector of the catalog alone: its own fusion, fitted out of fold, gives probabilities and the threshold."""
    from sklearn.metrics import roc_auc_score

    resources = context.detector_resources(context.source(split.source))
    classes = catalog.detectors([name], resources)
    (base,) = classes
    cases = [(i, case) for i, case in enumerate(split.cases) if case.input.has(classes[base].needs)]
    anomalous = np.array([case.anomalous for _, case in cases])
    folds = np.random.default_rng(0).permutation(len(cases)) % _FOLDS
    started = time.perf_counter()
    fitted = fit_detectors(classes, [case for _, case in cases], [folds]) if cases else {}
    seconds = time.perf_counter() - started
    if base not in fitted:
        return Row(name, "", note=f"not fitted: it takes {catalog.entry(base).takes}")
    detector, (unseen,) = fitted[base]
    scores = {split.keys[i]: {base: float(value)} for (i, _), value in zip(cases, unseen, strict=True)}
    fusion = fusions_alone(InstalledScores((detector,), scores), context.settings.risk, Objective())[base]
    started = time.perf_counter()
    score = np.array([signal.log_odds or 0.0 for signal in detector.score(split.inputs)])
    scoring = time.perf_counter() - started
    log_odds = np.array([fusion.log_odds({base: value}) for value in score.tolist()])
    known = np.isfinite(unseen)
    both = len(set(anomalous[known].tolist())) == 2
    from_labels = "both labels" if base == TUNED else "no cases" if base in ("zeroshot", "nli") else "normal cases"
    return Row(
        name,
        from_labels,
        **figures(np.asarray(expit(log_odds)), log_odds > fusion.threshold, split.truth, score),
        training_seconds=seconds,
        records_per_second=len(split.inputs) / scoring,
        labels=_labels(split),
        out_of_fold_auc=float(roc_auc_score(anomalous[known], unseen[known])) if both else None,
    )


def measure_tuned(
    context: AppContext, split: Split, epochs: int, progress: Progress, say: Callable[[str], None]
) -> Row:
    """The fine-tuned classifier, with its training time."""
    try:
        result = tune_classifier(
            context, split.source, default_options(context, None, epochs=epochs), folds=2, resume=False,
            progress=progress, notify=say,
        )  # fmt: skip
    except PrecedentError as error:
        return Row(TUNED, "", note=str(error))
    row = measure_detector(context, split, TUNED)
    return replace(row, training_seconds=result.training_seconds, note=f"{epochs} epochs")


def measure_supervised(name: str, split: Split, encode: Encode) -> Row:
    """A classifier of scikit-learn on the same records."""
    if not split.anomalous_labels or split.anomalous_labels == len(split.learned):
        return Row(name, "", note="not fitted: it takes cases of both labels")
    fields = any(row.record.fields or row.record.events for row in split.learned)
    if name.endswith("(fields)") and not fields:
        return Row(name, "", note="not fitted: the records have no fields")
    started = time.perf_counter()
    probability = np.clip(SUPERVISED[name](split.learned, split.judged, encode), 0.0, 1.0).astype(np.float64)
    seconds = time.perf_counter() - started
    return Row(
        name, "both labels", **figures(probability, probability >= 0.5, split.truth), training_seconds=seconds,
        labels=_labels(split),
    )  # fmt: skip


def measure_precedent(context: AppContext, split: Split, detector: str | None, progress: Progress) -> Row:
    """Precedent itself, with a further detector or without: whole verdicts by the functions of the commands."""
    seconds, weight = split.seconds, None
    if detector is not None:
        started = time.perf_counter()
        fusion = refit(context, split.source, detectors=[detector]).without_llm
        weight = fusion.weights.get(catalog.split_option(detector)[0], 0.0)
        seconds += time.perf_counter() - started
    started = time.perf_counter()
    verdicts, truth = list[Verdict](), list[bool]()
    answers = judge_many(
        context, build(context), (row.record for row in split.judged), split.source, explain="none", keep=False
    )
    for number, (answer, row) in enumerate(zip(answers, split.judged, strict=True), start=1):
        if isinstance(answer, Verdict):
            verdicts.append(answer)
            truth.append(row.label == "anomalous")
        progress("judging", number, len(split.judged))
    judging = time.perf_counter() - started
    probability = np.array([verdict.probability for verdict in verdicts])
    threshold = np.array([verdict.threshold for verdict in verdicts])
    return Row(
        f"{FUSED} {detector}" if detector else PRECEDENT,
        "both labels" if split.anomalous_labels else "normal cases",
        **figures(probability, logit(np.clip(probability, 1e-12, 1 - 1e-12)) > threshold, np.array(truth)),
        training_seconds=seconds,
        records_per_second=len(verdicts) / judging,
        labels=_labels(split),
        weight=weight,
    )


def best_detectors(rows: Sequence[Row], most: int) -> list[str]:
    """The detectors with the best AUC out of fold on the learned cases; the judged ones choose nothing."""
    measured = [row for row in rows if row.out_of_fold_auc is not None]
    return [row.system for row in sorted(measured, key=lambda row: -(row.out_of_fold_auc or 0.0))[:most]]


def _labels(split: Split) -> str:
    return f"{len(split.learned):,} ({split.anomalous_labels:,})"
