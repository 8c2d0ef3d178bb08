"""Labels as people have them: one anomaly in two hundred, a tenth of them wrong."""

from __future__ import annotations

import random
from pathlib import Path

from agent.data.read_options import ReadOptions
from agent.pipeline.context import AppContext
from agent.training.evaluation import Evaluation, evaluate_file
from agent.training.learn import learn
from tests.conftest import make_settings

HEADER = "label,size,seconds,kind"


def _row(rng: random.Random, anomalous: bool) -> str:
    """Anomalous jobs take several times as long for their size; each number alone is nothing unusual."""
    size = rng.lognormvariate(8, 1)
    seconds = size / 100 * rng.lognormvariate(1.6 if anomalous else 0.0, 0.25)
    return f"{size:.0f},{seconds:.2f},{rng.choice('abc')}"


def _rows(n: int, share: float, seed: int, wrong: float = 0.0) -> list[str]:
    rng = random.Random(seed)
    rows = []
    for i in range(n):
        anomalous = i < n * share
        said = anomalous != (rng.random() < wrong)
        rows.append(f"{int(said)},{_row(rng, anomalous)}")
    rng.shuffle(rows)
    return [HEADER, *rows]


def _figures(folder: Path, learned: list[str], judged: list[str]) -> Evaluation:
    for name, rows in (("learn.csv", learned), ("judge.csv", judged)):
        (folder / name).write_text("\n".join(rows) + "\n", encoding="utf-8")
    context = AppContext(make_settings(folder / "home", model="none"))
    intake = ReadOptions(label="label")
    try:
        learn(context, [folder / "learn.csv"], "jobs", intake, brief="Jobs.")
        figures, failures = evaluate_file(context, folder / "judge.csv", "jobs", intake, lambda *_: None)
    finally:
        context.close()
    assert not failures
    return figures


def test_one_anomaly_in_two_hundred(tmp_path: Path) -> None:
    figures = _figures(tmp_path, _rows(2000, 0.005, 0), _rows(2000, 0.005, 1))
    assert figures.roc_auc is not None
    assert figures.roc_auc > 0.97
    assert figures.f1 > 0.4
    assert figures.ece < 0.02
    assert figures.selective_error is not None
    assert figures.selective_error < 0.02


def test_a_tenth_of_the_labels_is_wrong(tmp_path: Path) -> None:
    figures = _figures(tmp_path, _rows(1000, 0.2, 0, wrong=0.1), _rows(1000, 0.2, 1))
    assert figures.roc_auc is not None
    assert figures.roc_auc > 0.97
    assert figures.f1 > 0.85
