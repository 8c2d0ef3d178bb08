"""The demonstrations on files of the test's own."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.cli.bench import _BENCHMARKS
from agent.core.settings import settings
from benchmarks.demonstrations import __main__ as demonstrations
from benchmarks.demonstrations.report import PAGE, page_with
from tests.tiny_models import tiny_bert

Run = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Runs a demonstration with ``--json`` and gives its tables."""
    monkeypatch.setenv("PRECEDENT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PRECEDENT_OFFLINE", "1")
    settings.cache_clear()

    def ran(name: str, *arguments: object) -> list[dict[str, Any]]:
        demonstrations.main([name, *map(str, arguments), "--json"])
        tables: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["tables"]
        return tables

    yield ran
    settings.cache_clear()


def jobs(path: Path, seed: int, n: int, *, label: str = "state", first: str = "x") -> Path:
    """A table: y follows the first column, but of a quarter of the rows."""
    rng = random.Random(seed)
    lines = [f"{first},y,z,{label}"]
    for number in range(n):
        bad = number % 4 == 0
        x = rng.uniform(1, 9)
        y = -40 + rng.gauss(0, 3) if bad else 2 * x + rng.gauss(0, 0.2)
        lines.append(f"{x:.3f},{y:.3f},{rng.uniform(0, 1):.3f},{'bad' if bad else 'fine'}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def sessions(path: Path, seed: int, n: int, names: tuple[str, ...]) -> Path:
    rng = random.Random(seed)
    first, middle, good, bad = names
    rows = [
        {"events": [first, *[middle] * rng.randint(1, 2), bad if i % 4 == 0 else good], "label": int(i % 4 == 0)}
        for i in range(n)
    ]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    return path


def test_transfer_adds_labels_of_a_target_with_another_label_column(run: Run, tmp_path: Path) -> None:
    files = jobs(tmp_path / "a.csv", 1, 80), jobs(tmp_path / "b.csv", 2, 80, label="how")
    options = ["--label", "state", "--target-label", "how", "--normal", "fine", "--labels", "20", "--limit", 60]
    (table,) = run("transfer", "--file", *files, *options)
    assert [row["labels"] for row in table["rows"]] == [0, 0, 20, 20]
    assert all(row["roc_auc"] > 0.9 for row in table["rows"][:3])
    assert "60 learned, 60 judged" in table["about"]


def test_sessions_with_other_names_of_events_are_not_decided(run: Run, tmp_path: Path) -> None:
    files = (
        sessions(tmp_path / "a.jsonl", 1, 80, ("open", "read", "close", "abort")),
        sessions(tmp_path / "b.jsonl", 2, 60, ("E1", "E2", "E3", "E4")),
    )
    (table,) = run("transfer", "--file", *files, "--label", "label", "--labels", "none", "--limit", 40)
    none, adapted = table["rows"]
    assert (none["coverage"], none["decided_error"], none["surely_wrong"]) == (0.0, None, 0.0)
    assert adapted["coverage"] == 0.0


def test_a_target_with_other_columns_is_not_decided(run: Run, tmp_path: Path) -> None:
    files = jobs(tmp_path / "a.csv", 1, 80), jobs(tmp_path / "b.csv", 2, 60, first="pressure")
    options = ["--label", "state", "--target-label", "state", "--normal", "fine", "--labels", "none", "--limit", 40]
    (table,) = run("transfer", "--file", *files, *options)
    assert table["rows"][0]["surely_wrong"] < 0.05


def test_label_share_has_a_row_for_each_number_and_system(run: Run, tmp_path: Path) -> None:
    files = jobs(tmp_path / "a.csv", 1, 100), jobs(tmp_path / "b.csv", 2, 40)
    options = ["--label", "state", "--normal", "fine", "--labels", "20,all", "--draws", 2]
    (table,) = run("labels", "--file", *files, *options)
    systems = ["**Precedent**", "random forest", "logistic regression"]
    assert [(row["labels"], row["system"]) for row in table["rows"]] == [(n, s) for n in (20, 100) for s in systems]
    of_20 = table["rows"][0]
    assert of_20["f1_worst"] <= of_20["f1"]
    assert table["rows"][-3]["roc_auc"] > 0.95
    assert [row["draws"] for row in table["rows"][-3:]] == ["1 of 1"] * 3


def test_one_label_only_says_what_was_not_fitted(run: Run, tmp_path: Path) -> None:
    lines = (jobs(tmp_path / "a.csv", 1, 80)).read_text(encoding="utf-8").splitlines()
    normal = tmp_path / "normal.csv"
    normal.write_text("\n".join(line for line in lines if not line.endswith("bad")) + "\n", encoding="utf-8")
    options = ["--label", "state", "--normal", "fine", "--labels", "all"]
    (table,) = run("labels", "--file", normal, tmp_path / "a.csv", *options)
    precedent, forest, _ = table["rows"]
    assert precedent["roc_auc"] is not None
    assert (forest["roc_auc"], forest["draws"]) == (None, "0 of 1")


def test_online_verdicts_of_a_table_get_right_when_the_telling_column_is_there(run: Run, tmp_path: Path) -> None:
    files = jobs(tmp_path / "a.csv", 1, 80), jobs(tmp_path / "b.csv", 2, 40)
    by_number, when = run("online", "--file", *files, "--label", "state", "--normal", "fine")
    rows = {(row["features"], row["system"]): row for row in by_number["rows"]}
    assert {features for features, _ in rows} == {1, 2, 3}
    cut = [rows[number, "cases cut alike"] for number in (1, 2, 3)]
    assert cut[0]["roc_auc"] < 0.8 < cut[1]["roc_auc"], "y comes second"
    assert all((row["decided_error"] or 0) * row["coverage"] < 0.1 for row in cut)
    early = rows[1, "complete cases"]
    assert early["coverage"] * (early["decided_error"] or 0) < 0.1, "early verdicts are unsure, not wrong"
    first = {(row["system"], row["records"]): row["first right after"] for row in when["rows"]}
    assert first["cases cut alike", "anomalous"] == pytest.approx(2, abs=0.2)


def test_online_verdicts_of_sessions(run: Run, tmp_path: Path) -> None:
    names = ("open", "read", "close", "abort")
    files = sessions(tmp_path / "a.jsonl", 1, 60, names), sessions(tmp_path / "b.jsonl", 2, 24, names)
    by_number, _ = run("online", "--file", *files, "--label", "label")
    assert [row["events"] for row in by_number["rows"][::3]] == [1, 2, 3, 4]


def test_a_record_without_content_is_not_sure(run: Run, tmp_path: Path) -> None:
    table_files = jobs(tmp_path / "a.csv", 1, 80), jobs(tmp_path / "b.csv", 2, 20)
    (table,) = run("debiasing", "--file", *table_files, "--label", "state", "--normal", "fine", "--model", "none")
    assert {row["verdict"] for row in table["rows"]} == {"unsure"}
    assert all("random forest" in row for row in table["rows"])
    names = ("open", "read", "close", "abort")
    files = sessions(tmp_path / "a.jsonl", 1, 60, names), sessions(tmp_path / "b.jsonl", 2, 24, names)
    (table,) = run("debiasing", "--file", *files, "--label", "label", "--model", "none")
    assert {row["verdict"] for row in table["rows"]} == {"unsure"}


def test_forgetting_without_the_extra_still_measures_the_casebook(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.demonstrations.forgetting.is_installed", lambda extra: False)
    files = jobs(tmp_path / "a.csv", 1, 80), jobs(tmp_path / "b.csv", 3, 60)
    (table,) = run("forgetting", "--file", *files, "--label", "state", "--normal", "fine")
    assert [(row["learned"], row["judged"]) for row in table["rows"]] == [
        *(("A", "A"), ("A", "B"), ("A, then B", "A"), ("A, then B", "B"))
    ]
    assert table["rows"][2]["roc_auc"] > 0.9


def test_a_tuned_transformer_is_measured_before_and_after(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="tuning needs the extra [tune]")
    files = jobs(tmp_path / "a.csv", 1, 40), jobs(tmp_path / "b.csv", 3, 40)
    base = tiny_bert(tmp_path / "base", {0: "normal", 1: "anomalous"}, ["x", "y", "z", "is"])
    options = ["--label", "state", "--normal", "fine", "--base", base, "--epochs", 1]
    (table,) = run("forgetting", "--file", *files, *options)
    assert [row["system"] for row in table["rows"][4:]] == ["fine-tuned transformer"] * 4


def test_what_explanations_name_is_taken_away(run: Run, tmp_path: Path) -> None:
    files = jobs(tmp_path / "a.csv", 1, 60), jobs(tmp_path / "b.csv", 2, 40)
    deletion, features = run("interpretability", "--file", *files, "--label", "state", "--normal", "fine")
    named, others = deletion["rows"]
    assert named["mean drop"] > others["mean drop"] + 0.5
    assert named["larger drop"] > 0.9
    assert features["rows"][0]["feature"] == "y"
    assert max(features["rows"], key=lambda row: row["forest's importance"])["feature"] == "y"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["transfer", "--pair", "tea-coffee"], "no pair 'tea-coffee'"),
        (["transfer", "--labels", "ten"], "--labels 'ten': whole numbers"),
        (["labels", "--labels", "0"], "--labels '0'"),
        (["labels", "--data", "tea"], "no data set 'tea'"),
        (["labels", "--file", "a", "b"], "--file takes --label"),
        (["tea"], "no demonstration 'tea'"),
    ],
)
def test_bad_input_is_named(arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        demonstrations.main(arguments)
    assert stopped.value.code == 2
    assert reason in capsys.readouterr().err


def test_a_section_of_the_page_is_replaced_by_its_command() -> None:
    order = ["transfer", "labels"]
    page = page_with(None, "labels", "## Labels\n\nold", order)
    page = page_with(page, "transfer", "## Transfer", order)
    page = page_with(page, "labels", "## Labels\n\nnew\n", order)
    assert page.count("# Demonstrations") == 1
    assert page.index("## Transfer") < page.index("## Labels\n\nnew")
    assert "old" not in page


def test_the_page_names_only_commands_that_exist() -> None:
    named = re.findall(r"precedent bench ([\w-]+)", PAGE.read_text(encoding="utf-8"))
    assert set(demonstrations.DEMONSTRATIONS) <= set(named)
    assert set(named) <= set(_BENCHMARKS)
    assert set(demonstrations.DEMONSTRATIONS) <= set(_BENCHMARKS)
