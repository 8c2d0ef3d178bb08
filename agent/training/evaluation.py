"""How good verdicts are, against labels: the figures of `precedent evaluate`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from agent.core.errors import InputError
from agent.core.records import JudgeError, Record, Verdict
from agent.data.read_options import ReadOptions
from agent.data.readers import RowError
from agent.pipeline.context import AppContext
from agent.pipeline.pipeline import build
from agent.pipeline.service import judge_many

_BINS = 10
# contents that the store is asked for at once
_BLOCK = 5_000
Progress = Callable[[str, int, int], None]


class Evaluation(BaseModel):
    """Figures over n labelled records.

    accuracy, precision, recall and f1 (of *anomalous*) take every record, an unsure one at the source's threshold;
    ``coverage`` is the share of records that were decided, ``selective_error`` the error among those; ``ece``
    the expected calibration error over ten equal bins. None: not defined, because only one label occurs.
    ``learned``: how many of the records are cases themselves, so that their verdicts are no test.
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
    learned: int = Field(default=0, exclude=True)


def evaluate(verdicts: Sequence[Verdict], anomalous: Sequence[bool], seconds: float) -> Evaluation:
    """The figures; ``anomalous`` are the true labels, ``seconds`` the time that judging took.

    Raises:
        ValueError: there is nothing to evaluate.
    """
    if not verdicts:
        raise ValueError("nothing to evaluate: no record was judged")
    from sklearn import metrics

    truth = np.asarray(anomalous, dtype=bool)
    probability = np.asarray([verdict.probability for verdict in verdicts])
    told = np.asarray([verdict.leans == "anomalous" for verdict in verdicts])
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(truth, told, average="binary", zero_division=0.0)
    decided = np.asarray([verdict.label != "unsure" for verdict in verdicts])
    wrong = np.asarray([(verdict.label == "anomalous") != true for verdict, true in zip(verdicts, truth, strict=True)])
    both = bool(truth.any()) and not bool(truth.all())
    return Evaluation(
        accuracy=float((told == truth).mean()),
        precision=float(precision),
        recall=float(recall),
        f1=float(f1),
        roc_auc=float(metrics.roc_auc_score(truth, probability)) if both else None,
        average_precision=float(metrics.average_precision_score(truth, probability)) if both else None,
        ece=_ece(probability, truth),
        coverage=float(decided.mean()),
        selective_error=float(wrong[decided].mean()) if decided.any() else None,
        records_per_second=len(verdicts) / seconds if seconds > 0 else math.inf,
        n=len(verdicts),
    )


def _ece(probability: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    bins = np.minimum((probability * _BINS).astype(int), _BINS - 1)
    total = 0.0
    for one in range(_BINS):
        inside = bins == one
        if inside.any():
            total += inside.mean() * abs(float(probability[inside].mean()) - float(truth[inside].mean()))
    return float(total)


def evaluate_file(
    context: AppContext, path: str | Path, source: str, intake: ReadOptions, progress: Progress
) -> tuple[Evaluation, list[RowError | JudgeError]]:
    """Judge a file's labelled records, learning and keeping nothing; the figures, and what could not be judged.

    Raises:
        InputError: the file cannot be read, or none of its records could be judged.
    """
    failures: list[RowError | JudgeError] = []
    verdicts: list[Verdict] = []
    truths: list[bool] = []
    anomalous: list[bool] = []

    def records() -> Iterator[Record]:
        for item in intake.read(path, context.settings.max_record_chars):
            if isinstance(item, RowError):
                failures.append(item)
            else:
                truths.append(item.label == "anomalous")
                yield item.record

    started = time.perf_counter()
    answers = judge_many(context, build(context), records(), source, explain="none", keep=False)
    for number, answer in enumerate(answers):
        if isinstance(answer, Verdict):
            verdicts.append(answer)
            anomalous.append(truths[number])
        else:
            failures.append(answer)
        progress("judging", number + 1, 0)
    if not verdicts:
        raise InputError("none of its records could be judged", str(path))
    figures = evaluate(verdicts, anomalous, time.perf_counter() - started)
    hashes, learned = [verdict.record.content_hash for verdict in verdicts], 0
    for start in range(0, len(hashes), _BLOCK):
        some = hashes[start : start + _BLOCK]
        held = context.casebook.held(source, some)
        learned += sum(one in held for one in some)
    return figures.model_copy(update={"learned": learned}), failures
