"""Figures of verdicts against labels, one by one and over a whole file."""

from __future__ import annotations

import csv
import gc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics

from agent.core.errors import InputError
from agent.core.records import Provenance, Record, Verdict, VerdictLabel
from agent.data.read_options import ReadOptions
from agent.pipeline.context import AppContext
from agent.training.evaluation import evaluate, evaluate_file
from agent.training.learn import learn
from tests.conftest import make_settings


def verdict(probability: float, band: tuple[float, float] = (0.4, 0.6)) -> Verdict:
    label: VerdictLabel = "unsure" if band[0] < probability < band[1] else "normal"
    return Verdict(
        id="v",
        source="s",
        label="anomalous" if probability >= band[1] else label,
        probability=probability,
        unsure_band=band,
        explanation="",
        signals=dict.fromkeys(("language", "neighbours", "novelty", "fields")),
        record=Record(text="x"),
        provenance=Provenance(model=None, model_sha256=None, prompt_sha256="", casebook_version=1),
        elapsed_ms=1.0,
    )


def test_the_figures_are_those_of_their_definitions() -> None:
    rng = np.random.default_rng(3)
    truth = rng.random(400) < 0.3
    probability = np.clip(0.5 + 0.25 * (truth - 0.5) + 0.2 * rng.standard_normal(400), 0.01, 0.99)
    figures = evaluate([verdict(float(p)) for p in probability], [bool(label) for label in truth], 2.0)
    decided = (probability <= 0.4) | (probability >= 0.6)
    assert figures.roc_auc == pytest.approx(metrics.roc_auc_score(truth, probability))
    assert figures.average_precision == pytest.approx(metrics.average_precision_score(truth, probability))
    assert figures.f1 == pytest.approx(metrics.f1_score(truth, probability >= 0.5))
    assert figures.accuracy == pytest.approx(((probability >= 0.5) == truth).mean())
    assert figures.coverage == pytest.approx(decided.mean())
    assert figures.selective_error == pytest.approx(((probability >= 0.5) != truth)[decided].mean())
    assert (figures.records_per_second, figures.n) == (200.0, 400)
    bins = [(probability >= low / 10) & (probability < (low + 1) / 10) for low in range(10)]
    gaps = [abs(probability[bin_].mean() - truth[bin_].mean()) * bin_.mean() for bin_ in bins if bin_.any()]
    assert figures.ece == pytest.approx(sum(gaps))


def test_what_one_label_or_no_decided_record_leaves_undefined_is_none() -> None:
    figures = evaluate([verdict(0.5), verdict(0.55)], [True, True], 1.0)
    assert (figures.roc_auc, figures.average_precision, figures.selective_error) == (None, None, None)
    with pytest.raises(ValueError, match="nothing to evaluate"):
        evaluate([], [], 1.0)


def _file(path: Path, rows: Sequence[tuple[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return path


@pytest.fixture
def learned(tmp_path: Path) -> AppContext:
    context = AppContext(make_settings(tmp_path / "home", model="none"))
    rows = [(f"file {i} was copied to the tape", "0") for i in range(20)]
    rows += [(f"tape {i} was torn by the drive", "1") for i in range(10)]
    learn(context, [_file(tmp_path / "cases.csv", rows)], "s", ReadOptions(label="label"), brief="Tapes.")
    return context


def test_no_verdict_of_a_file_is_kept(learned: AppContext, tmp_path: Path) -> None:
    rows = [(f"file {i} was copied to the tape", "0") for i in range(1_000, 3_000)]
    rows += [(f"tape {i} was torn by the drive", "1") for i in range(5, 15)]
    gc.collect()
    others = [thing for thing in gc.get_objects() if type(thing) is Verdict]  # of other tests; held, so none goes
    alive: list[int] = []

    def count(_: str, number: int, __: int) -> None:
        if number % 500 == 0:
            alive.append(sum(type(thing) is Verdict for thing in gc.get_objects()) - len(others))

    figures, failures = evaluate_file(
        learned, _file(tmp_path / "new.csv", rows), "s", ReadOptions(label="label"), count
    )
    learned.close()
    assert not failures
    assert len(alive) == 4
    # two chunks of `judge_many`: one that is given out, one that is under way
    assert max(alive) < 2 * 256 + 50, alive
    assert (figures.n, figures.learned) == (2_010, 5)
    assert figures.roc_auc == 1.0


def test_each_verdict_meets_its_own_records_label(learned: AppContext, tmp_path: Path) -> None:
    rows = [(f"{'tape' if i % 3 else 'file'} {i} {'was torn by the drive' if i % 3 else 'was copied to the tape'}",
             str(int(i % 3 > 0))) for i in range(300)]  # fmt: skip
    rows.insert(7, ("no label", ""))
    figures, failures = evaluate_file(
        learned, _file(tmp_path / "new.csv", rows), "s", ReadOptions(label="label"), lambda *_: None
    )
    assert figures.n + len(failures) == 301
    assert figures.roc_auc == 1.0
    with pytest.raises(InputError):
        evaluate_file(learned, _file(tmp_path / "none.csv", []), "s", ReadOptions(label="label"), lambda *_: None)
    learned.close()
