"""Label share: how good verdicts are with few labels and with many."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agent.data.readers import ParsedRow
from agent.pipeline.context import AppContext
from agent.training.evaluation import calibration_error, classification_figures
from benchmarks.demonstrations.inputs import Data, chosen_data, label_numbers, sample
from benchmarks.demonstrations.learning import empty_context, judge_rows, learn_rows
from benchmarks.demonstrations.report import WORST, Row, Table
from benchmarks.progress import Progress, progress_lines
from benchmarks.quality.baselines import (
    Baseline,
    Encode,
    embedded_regression,
    encoding_once,
    field_regression,
    forest,
    tfidf_regression,
)
from benchmarks.systems.split import add_file_options

NAME, TITLE = "labels", "Label share: quality by the number of labels"
SHOWS = """\
Some records of the learned side get their labels, the others are left out; the same records are judged each time. Means
over draws, the worst draw in brackets. A classifier of scikit-learn decides every record at one half; where a draw has
one label only, it cannot be fitted (*draws* says how many could).
"""
CONCLUDES = """\
From fifty labels on verdicts keep the error among decided records low by deciding fewer of them; with more labels
they decide more. A classifier without an unsure band is wrong about as often as these would have been unsure. Limits:
three draws; with ten labels of a table far too much is decided, and more than a quarter of it is wrong.
"""
DEFAULT = ("genome", "sms")
# by the shape of the records
BASELINES: Mapping[str, Mapping[str, Baseline]] = {
    "fields": {"random forest": forest, "logistic regression": field_regression},
    "events": {"random forest": forest, "logistic regression": field_regression},
    "text": {"logistic regression (embeddings)": embedded_regression, "logistic regression (TF-IDF)": tfidf_regression},
}
# of the figures, the one that is worst
_WORST: Mapping[str, Callable[[Sequence[float]], float]] = {
    "roc_auc": min,
    "f1": min,
    "ece": max,
    "coverage": min,
    "decided_error": max,
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add_file_options(parser, "LEARN", "JUDGE", DEFAULT)
    parser.add_argument("--labels", default="10,50,200,500", metavar="N,N,all", help="how many labels [%(default)s]")
    parser.add_argument("--draws", type=int, default=3, metavar="N", help="draws of each number [%(default)s]")
    parser.add_argument("--limit", type=int, default=1_000, metavar="N", help="most records of a side [%(default)s]")


def measure(options: argparse.Namespace, folder: Path) -> Iterator[Table]:
    """A table for each data set."""
    numbers = label_numbers(options.labels)
    for data in chosen_data(options, DEFAULT, folder):
        context = empty_context(folder / f"home-{data.name}", options.model)
        encode = encoding_once(context.embedder().encode)
        rows = list[Row]()
        for number in numbers:
            size = min(number or len(data.learned), len(data.learned))
            if any(row["labels"] == size for row in rows):
                continue
            draws = 1 if size == len(data.learned) else max(1, options.draws)
            rows += _of_number(context, data, size, draws, encode, progress_lines(data.name))
        context.close()
        anomalous = sum(row.label == "anomalous" for row in data.judged)
        yield Table(data.name, f"{data.about} {len(data.judged):,} judged, {anomalous:,} of them anomalous.", rows)


def _of_number(
    context: AppContext, data: Data, size: int, draws: int, encode: Encode, progress: Progress
) -> Iterator[Row]:
    """Rows of the systems with so many labels."""
    found: dict[str, list[Row]] = {"**Precedent**": [], **{name: [] for name in BASELINES[data.shape]}}
    for seed in range(draws):
        progress(f"{size} labels", seed, draws)
        labelled, source = sample(data.learned, size, seed), f"labels-{size}-{seed}"
        learn_rows(context, source, labelled, data.options, data.brief)
        found["**Precedent**"].append(judge_rows(context, source, data.judged).figures())
        context.casebook.remove(source)
        if len({row.label for row in labelled}) == 2:
            for name, baseline in BASELINES[data.shape].items():
                found[name].append(baseline_figures(baseline, labelled, data.judged, encode))
    for name, of_draws in found.items():
        shown = Row()
        for figure, worst in _WORST.items():
            known = [row[figure] for row in of_draws if row[figure] is not None]
            shown[figure] = statistics.fmean(known) if known else None
            shown[figure + WORST] = worst(known) if len(known) > 1 else None
        yield {"labels": size, "system": name, **shown, "draws": f"{len(of_draws)} of {draws}"}


def baseline_figures(
    baseline: Baseline, learned: Sequence[ParsedRow], judged: Sequence[ParsedRow], encode: Encode
) -> dict[str, Any]:
    """The figures of a classifier that is never unsure."""
    probability = np.clip(baseline(learned, judged, encode), 0.0, 1.0).astype(np.float64)
    truth = np.array([row.label == "anomalous" for row in judged])
    predicted = probability >= 0.5
    figures = classification_figures(predicted, truth, probability)
    return {
        "roc_auc": figures["roc_auc"],
        "f1": figures["f1"],
        "ece": calibration_error(probability, truth),
        "coverage": 1.0,
        "decided_error": 1 - figures["accuracy"],
    }
