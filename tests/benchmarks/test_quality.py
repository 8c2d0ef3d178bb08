"""`make bench-quality` on its smallest task: the table, resuming, and the same figures again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from agent.core.records import Provenance, Record, Verdict
from benchmarks.quality.__main__ import main
from benchmarks.quality.figures import of_signal, of_verdicts
from benchmarks.quality.results import code, kept
from benchmarks.quality.table import page
from benchmarks.quality.tasks import TASKS


def quick(folder: Path, *more: str) -> None:
    main(["bgl-time", "--limit", "60", "--model", "none", "--results", str(folder), *more])


@pytest.mark.data
def test_a_task_is_measured_kept_and_resumed(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if TASKS["bgl-time"].missing:
        pytest.skip("BGL_2k is not here")
    quick(tmp_path)
    first = capsys.readouterr()
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in first.out.splitlines() if line[:1] == "|"]
    head = next(line for line in lines if "AP" in line)
    assert head == [
        *("", "accuracy", "precision", "recall", "F1", "AUC", "AP", "ECE", "decided", "error among decided"),
        *("error at 80 %", "labels", "LLM calls"),
    ]
    rows = {line[0]: dict(zip(head, line, strict=True)) for line in lines if len(line) == len(head)}
    assert all(rows["**all fused**"].values()), "every figure of the fused verdicts is there"
    assert rows["**all fused**"]["LLM calls"] == "0"
    assert rows["**all fused**"]["labels"].startswith("1,000")
    assert rows["neighbours alone"]["AUC"]
    assert rows["neighbours alone"]["F1"] == ""
    assert rows["MiniLM + logistic regression"]["F1"]
    assert {"novelty alone", "holds", "reach"} <= set(rows)
    assert "language alone" not in rows
    assert "only a seeded sample of at most 60" in first.out

    quick(tmp_path)
    again = capsys.readouterr()
    assert "measured before" in again.err
    assert again.out == first.out

    # the same measured anew
    figures = json.loads((tmp_path / "bgl-time.json").read_text())
    (tmp_path / "bgl-time.json").unlink()
    quick(tmp_path)
    assert "measured before" not in capsys.readouterr().err
    anew = json.loads((tmp_path / "bgl-time.json").read_text())
    del figures["runs"]["0"]["seconds"], anew["runs"]["0"]["seconds"]
    assert anew == figures

    # what was measured by other code is not carried on
    other = kept(tmp_path, "bgl-time")
    assert other
    other.code = "older"
    other.keep(tmp_path)
    quick(tmp_path, "--table")
    assert page([other]) in capsys.readouterr().out
    assert not other.like(replace(other, code=code()))


@pytest.mark.data
@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_what_is_judged_is_not_learned(data: Path, task) -> None:  # type: ignore[no-untyped-def]
    if task.missing:
        pytest.skip(f"{task.missing[0]} is not here")
    draw = task.draw(0)
    assert draw == task.draw(0)
    assert draw.judged
    if task.draws > 1:
        assert draw != task.draw(1)
    if len(task.files) == 1:
        rows = (data / task.files[0]).read_text().rstrip("\n").split("\n")
        assert sorted([*([draw.header] if draw.header else []), *draw.learned, *draw.judged]) == sorted(rows)


def verdict(probability: float) -> Verdict:
    label = "unsure" if 0.1 < probability < 0.3 else "anomalous" if probability >= 0.3 else "normal"
    return Verdict(
        id="v",
        source="s",
        label=label,  # type: ignore[arg-type]
        probability=probability,
        unsure_band=(0.1, 0.3),
        explanation="",
        signals=dict.fromkeys(("language", "neighbours", "novelty", "fields")),
        record=Record(text="x"),
        provenance=Provenance(model=None, model_sha256=None, prompt_sha256="", casebook_version=0),
        elapsed_ms=0.0,
    )


def test_the_least_confident_are_those_near_the_threshold() -> None:
    """Near the band's middle at .18, not near one half."""
    verdicts = [verdict(p) for p in (0.01, 0.18, 0.5, 0.9, 0.99)]
    figures = of_verdicts(verdicts, [False, False, False, True, True])
    assert figures["error_at_80"] == pytest.approx(0.25)
    assert of_verdicts(verdicts, [False, True, True, True, True])["error_at_80"] == pytest.approx(0.0)


def test_a_witness_is_compared_where_it_was_heard() -> None:
    figures = of_signal([1.0, None, 3.0, 2.0], [0.9, 0.1, 0.8, 0.7], [False, True, True, False], [1.0, 1.0, 1.0, 3.0])
    assert figures["n"] == 3
    assert figures["roc_auc"] == pytest.approx(1.0)
    assert figures["fused_roc_auc"] == pytest.approx(0.75), "the record with .7 stands for three"
    one_label = of_signal([1.0, None], [0.5, 0.5], [True, False])
    assert (one_label["n"], one_label["roc_auc"]) == (1, None)
