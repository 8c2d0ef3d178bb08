"""How good verdicts are, against labels: the figures of `precedent evaluate`."""

from __future__ import annotations

import math
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from agent.core.errors import InputError
from agent.core.progress import Progress
from agent.core.records import JudgeError, Record, Verdict
from agent.data.read_options import ReadOptions
from agent.data.readers import RowError
from agent.pipeline.context import AppContext
from agent.pipeline.pipeline import build
from agent.pipeline.service import judge_many
from agent.scoring.batch_rate import BatchProbabilities
from agent.training.batch_reference import reference_of_files
from agent.training.evaluation_report import EvaluationDetails
from agent.training.rate_note import note_on_rate
from agent.training.series_evaluation import SeriesVerdicts
from retrieval.encoding.representation import Representation

_CALIBRATION_BINS = 10
# content hashes that are looked up in the casebook at once
_HASHES_AT_ONCE = 5_000


def _is_none(value: float | None) -> bool:
    return value is None


class Evaluation(BaseModel):
    """Figures over ``n`` labelled records.

    Attributes
    ----------
    accuracy, precision, recall, f1 : float
        Over all records, of the class *anomalous*; an unsure verdict counts by its side of the threshold.
    roc_auc, average_precision : float or None
        Of the probabilities; None if only one label occurs.
    ece : float
        Expected calibration error over ten bins of equal width (Naeini et al. 2015).
    coverage : float
        Share of records that were decided, i.e. whose label is not *unsure*.
    selective_error : float or None
        Error among the decided records; None if there are none.
    records_per_second : float
    n : int
    llm_calls, llm_changed : int
        Answers of the language model, and how many of them changed the label of a record.
    learned : int
        Records that are cases of the source: their verdicts are no test.
    vus_pr, point_f1, event_f1 : float or None
        Of the points of time series, see `agent.training.series_evaluation`; the others are of windows.
    """

    accuracy: float
    precision: float
    recall: float
    f1: float
    roc_auc: float | None
    average_precision: float | None
    ece: float
    coverage: float
    selective_error: float | None
    records_per_second: float
    n: int
    llm_calls: int = 0
    llm_changed: int = 0
    learned: int = Field(default=0, exclude=True)
    vus_pr: float | None = Field(default=None, exclude_if=_is_none)
    point_f1: float | None = Field(default=None, exclude_if=_is_none)
    event_f1: float | None = Field(default=None, exclude_if=_is_none)


class VerdictScores:
    """What the figures need of each verdict, eleven bytes a record."""

    def __init__(self) -> None:
        self._probability = array("d")
        self._leans_anomalous, self._decided, self._anomalous = bytearray(), bytearray(), bytearray()

    def __len__(self) -> int:
        return len(self._probability)

    def add(self, verdict: Verdict, anomalous: bool) -> None:
        """Add a verdict and its record's true label."""
        self._probability.append(verdict.probability)
        self._leans_anomalous.append(verdict.leans == "anomalous")
        self._decided.append(verdict.label != "unsure")
        self._anomalous.append(anomalous)

    def evaluation(self, seconds: float) -> Evaluation:
        """The figures.

        Parameters
        ----------
        seconds : float
            The time that judging took.

        Raises
        ------
        ValueError
            No verdict was added.
        """
        if not self._probability:
            raise ValueError("nothing to evaluate: no record was judged")
        probability = np.frombuffer(self._probability)
        predicted, decided, truth = (
            np.frombuffer(flags, dtype=bool) for flags in (self._leans_anomalous, self._decided, self._anomalous)
        )
        wrong = predicted != truth
        return Evaluation(
            **classification_figures(predicted, truth, probability),
            ece=calibration_error(probability, truth),
            coverage=float(decided.mean()),
            selective_error=float(wrong[decided].mean()) if decided.any() else None,
            records_per_second=len(self) / seconds if seconds > 0 else math.inf,
            n=len(self),
        )


def evaluate(verdicts: Iterable[Verdict], anomalous: Iterable[bool], seconds: float) -> Evaluation:
    """The figures of verdicts; see `VerdictScores.evaluation`.

    Parameters
    ----------
    verdicts : Iterable[Verdict]
    anomalous : Iterable[bool]
        The true labels, as many as verdicts.
    seconds : float
        The time that judging took.
    """
    scores = VerdictScores()
    for verdict, label in zip(verdicts, anomalous, strict=True):
        scores.add(verdict, label)
    return scores.evaluation(seconds)


def classification_figures(
    predicted: NDArray[np.bool_], truth: NDArray[np.bool_], score: NDArray[np.float64]
) -> dict[str, Any]:
    """Accuracy, precision, recall and F1 of n labels, and how well n scores rank; that is None with one label only."""
    from sklearn import metrics

    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        truth, predicted, average="binary", zero_division=0.0
    )
    both = bool(truth.any()) and not bool(truth.all())
    return {
        "accuracy": float(1 - (predicted != truth).mean()),
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
        "roc_auc": float(metrics.roc_auc_score(truth, score)) if both else None,
        "average_precision": float(metrics.average_precision_score(truth, score)) if both else None,
    }


def calibration_error(probability: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    """The expected calibration error of n probabilities: over ten bins, how far they are from what is observed."""
    bins = np.minimum((probability * _CALIBRATION_BINS).astype(int), _CALIBRATION_BINS - 1)
    return float(np.abs(np.bincount(bins, weights=probability - truth)).sum() / len(probability))


def evaluate_file(
    context: AppContext,
    path: str | Path,
    source: str,
    intake: ReadOptions,
    progress: Progress,
    notify: Callable[[str], None] | None = None,
    rate: float | None = None,
    details: EvaluationDetails | None = None,
) -> tuple[Evaluation, list[RowError | JudgeError]]:
    """Judge a file's labelled records; no label is learned, and no verdict is kept in memory or in the history.

    Parameters
    ----------
    context, path, source, intake, progress
        What is judged, and how it is read.
    notify : callable, optional
        Takes notes for a person.
    rate : float, optional
        See `agent.training.batch_reference.set_batch_reference`.
    details : EvaluationDetails, optional
        Collects what a report shows.

    Returns
    -------
    evaluation : Evaluation
    failures : list[RowError | JudgeError]
        What could not be read or judged.

    Raises
    ------
    InputError
        The file cannot be read, or none of its records could be judged.
    """
    note = reference_of_files(context, source, [str(path)], intake.read, rate=rate, progress=progress)
    if note and notify:
        notify(note)
    failures: list[RowError | JudgeError] = []
    # of the records that are read and not judged yet
    anomalous: deque[bool] = deque()
    scores, hashes, learned = VerdictScores(), list[str](), 0
    representation, batch = context.source(source).representation or Representation(), BatchProbabilities()
    windows = SeriesVerdicts()

    def records() -> Iterator[Record]:
        for item in intake.read(path, context.settings.max_record_chars):
            if isinstance(item, RowError):
                failures.append(item)
            else:
                anomalous.append(item.label == "anomalous")
                yield item.record

    def cases_among_hashes() -> int:
        found = context.casebook.hashes_of_cases(source, hashes)
        count = sum(content_hash in found for content_hash in hashes)
        hashes.clear()
        return count

    started = time.perf_counter()
    chain = build(context)
    answers = judge_many(context, chain, records(), source, explain="none", keep=False)
    for number, answer in enumerate(answers, start=1):
        label = anomalous.popleft()
        if isinstance(answer, Verdict):
            scores.add(answer, label)
            windows.add(answer)
            if details is not None:
                details.add(answer, "anomalous" if label else "normal")
            hashes.append(answer.record.content_hash)
            content = answer.record.content_hash
            batch.add(representation.key(answer.record, content), content, answer.probability)
        else:
            failures.append(answer)
        if len(hashes) == _HASHES_AT_ONCE:
            learned += cases_among_hashes()
        progress("judging", number, 0)
    if not scores:
        raise InputError("none of its records could be judged", str(path))
    figures = scores.evaluation(time.perf_counter() - started)
    if notify and (note := note_on_rate(context, source, batch)):
        notify(note)
    pipeline = chain.pipeline
    calls = {"llm_calls": pipeline.llm_answers, "llm_changed": pipeline.llm_changed}
    of_points = windows.figures(intake, path, context.settings.max_record_chars, notify)
    if details is not None:
        details.explain(context, chain, source)
    return figures.model_copy(update={**calls, **of_points, "learned": learned + cases_among_hashes()}), failures
