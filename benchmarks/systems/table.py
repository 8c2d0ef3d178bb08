"""The rows as Markdown, one section a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.systems.measuring import Row

_COLUMNS = {
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "roc_auc": "AUC",
    "average_precision": "AP",
    "ece": "ECE",
}
# of papers, on the same test split; never measured here
PUBLISHED: Mapping[str, Sequence[Row]] = {
    "genome": (
        Row(
            "BERT fine-tuned (published)",
            "both labels",
            accuracy=0.8143,
            f1=0.7212,
            training_seconds=805.0,
            labels="the whole training split",
            note="published: PoSeiDon workflows, on a GPU",
        ),
    ),
}
INTRODUCTION = """\
# The field's systems

Made by `precedent bench systems --write`: every system learns the same records and judges the same others. *AUC* is the
area under the ROC curve, *AP* average precision, *ECE* expected calibration error; accuracy, precision, recall and F1
are of *anomalous*, at the threshold that each system chose on what it learned.

- *learned from*: the cases that a system is trained on. Outlier models get the normal ones only, zero-shot ones none;
  the labels of all learned cases then calibrate their scores and choose their threshold, out of fold. scikit-learn's
  classifiers decide at one half.
- *labels*: learned records, in brackets the anomalous ones.
- *s to train* and *records/s* of a detector are without the embedding of texts, which all share. Of Precedent they are
  of `learn` and of whole verdicts, without a language model; of scikit-learn's classifiers training is with judging.
- *Precedent with NAME*: fused with the detector that is best on the learned cases, out of fold.
- *published*: figures of papers, not measured here.
"""


def section(name: str, protocol: str, judged: int, anomalous: int, limit: int | None, rows: Sequence[Row]) -> str:
    """A data set's heading, what was done, and its table; best AUC first, what was not measured last."""
    order = sorted(rows, key=lambda row: (row.roc_auc is None, row.accuracy is None, -(row.roc_auc or 0.0)))
    head = ["system", "learned from", *_COLUMNS.values(), "s to train", "records/s", "labels", "note"]
    lines = [head, ["---"] * len(head), *map(_cells, [*order, *PUBLISHED.get(name, ())])]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    sampled = f" Both sides are seeded samples of at most {limit:,}." if limit else ""
    return f"## {name}\n\n{protocol}{sampled} {judged:,} judged, {anomalous:,} of them anomalous.\n\n{table}"


def _cells(row: Row) -> list[str]:
    name = f"**{row.system}**" if row.system.startswith("Precedent") else row.system
    shown = [_share(getattr(row, column)) for column in _COLUMNS]
    seconds = "" if row.training_seconds is None else f"{row.training_seconds:,.1f}"
    rate = "" if row.records_per_second is None else f"{row.records_per_second:,.0f}"
    return [name, row.learned_from, *shown, seconds, rate, row.labels, row.note]


def _share(value: float | None) -> str:
    """Three digits; nothing where a figure is not known."""
    return "" if value is None else f"{value:.3f}".replace("0.", ".", 1) if value < 1 else f"{value:.3f}"
