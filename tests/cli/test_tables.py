"""`learn`, `judge` and `evaluate` on tables: what is read is shown, other columns are refused or named."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from tests.conftest import Run

COLUMNS = ["heat", "turns", "belt"]


def write(path: Path, header: list[str], count: int = 60, *, comma: bool = False, label: bool = True) -> Path:
    rng = random.Random(7)
    lines = [";".join(header)]
    for i in range(count):
        bad = i % 10 == 9
        cells = [f"{rng.gauss(90 if bad else 30, 3):.2f}", str(rng.randint(700, 900)), rng.choice("AB")]
        lines.append(";".join([*cells, *(["broken" if bad else "fine"] if label else [])]))
    text = "\n".join(lines) + "\n"
    path.write_text(text.replace(".", ",") if comma else text, encoding="utf-8")
    return path


LEARN = ("--source", "mill", "--label", "state", "--normal", "fine")


@pytest.fixture
def learned(run: Run, tmp_path: Path) -> Run:
    done = run("learn", write(tmp_path / "learn.csv", [*COLUMNS, "state"], comma=True), *LEARN)
    assert done.code == 0, done.err
    assert "heat: number, written as 12,5" in done.out
    return run


def test_a_dry_run_writes_nothing(run: Run, tmp_path: Path) -> None:
    done = run("learn", write(tmp_path / "learn.csv", [*COLUMNS, "state"]), *LEARN, "--dry-run")
    assert done.code == 0
    assert "60 records read: 54 normal, 6 anomalous" in done.out
    assert "normal: heat is " in done.out
    assert run("judge", tmp_path / "learn.csv", "--source", "mill").code == 2


def test_a_table_from_standard_input_is_learned_as_from_a_file(run: Run, tmp_path: Path) -> None:
    content = write(tmp_path / "learn.csv", [*COLUMNS, "state"]).read_bytes()
    done = run("learn", "-", "--format", "csv", *LEARN, stdin=content)
    assert done.code == 0, done.err
    assert "60 records read for source mill" in done.out


def test_other_columns_are_refused_with_the_nearest_and_read_as_told(learned: Run, tmp_path: Path) -> None:
    renamed = write(tmp_path / "new.csv", ["heat_c", "rpm", "belt", "state"], 30, comma=True)
    refused = learned("judge", renamed, "--source", "mill")
    assert refused.code == 2
    assert "lacks 'heat', 'turns'" in refused.err
    assert "--columns heat=heat_c" in refused.err
    options = ("--columns", "heat=heat_c", "--columns", "turns=rpm")
    judged = learned("judge", renamed, "--source", "mill", *options, "--to", "jsonl")
    assert judged.code == 0, judged.err
    labels = [json.loads(line)["label"] for line in judged.out.splitlines()]
    assert [i for i, label in enumerate(labels) if label == "anomalous"] == [9, 19, 29]
    figures = learned("evaluate", renamed, *LEARN, *options, "--json")
    assert json.loads(figures.out)["roc_auc"] == 1
    assert learned("judge", renamed, "--source", "mill", "--columns", "x=y").code == 2


@pytest.mark.parametrize("detail", ["full", "compact"])
def test_another_case_is_matched_and_named(learned: Run, tmp_path: Path, detail: str) -> None:
    other = write(tmp_path / "new.csv", ["Heat", "TURNS", "Belt", "State"], 30, comma=True)
    judged = learned("judge", other, "--source", "mill", "--to", "jsonl", "--detail", detail)
    assert judged.code == 0
    assert "'Heat' as 'heat', 'TURNS' as 'turns', 'Belt' as 'belt'" in judged.err
    assert sum(json.loads(line)["label"] == "anomalous" for line in judged.out.splitlines()) == 3


def test_a_corrected_normal_value_relabels_the_cases_of_the_file(run: Run, tmp_path: Path) -> None:
    path = write(tmp_path / "learn.csv", [*COLUMNS, "state"])
    assert run("learn", path, "--source", "mill", "--label", "state", "--normal", "broken").code == 0
    done = run("learn", path, *LEARN)
    assert done.code == 0
    assert "60 cases of the same files had the other label before" in done.out
    assert json.loads(run("sources", "show", "mill", "--json").out)["cases"] == {"normal": 54, "anomalous": 6}
    again = run("learn", path, *LEARN)
    assert "had the other label" not in again.out
    assert "0 new cases" in again.out


def test_a_file_with_a_row_under_both_labels_keeps_both(run: Run, tmp_path: Path) -> None:
    path = write(tmp_path / "learn.csv", [*COLUMNS, "state"])
    path.write_text(path.read_text(encoding="utf-8") + "30.0;800;A;fine\n30.0;800;A;broken\n", encoding="utf-8")
    for _ in range(2):
        assert run("learn", path, *LEARN).code == 0
        assert json.loads(run("sources", "show", "mill", "--json").out)["cases"] == {"normal": 55, "anomalous": 7}


def test_texts_in_place_of_rows_are_named(learned: Run, tmp_path: Path) -> None:
    (tmp_path / "messages.txt").write_text("hello there\nfree prize\nmeet me at 5\n")
    done = learned("judge", tmp_path / "messages.txt", "--source", "mill", "--to", "jsonl")
    assert "3 of 3 records have nothing that the cases have: are they of source mill?" in done.err
    assert {json.loads(line)["label"] for line in done.out.splitlines()} == {"unsure"}
    rows = learned("judge", write(tmp_path / "rows.csv", COLUMNS, label=False), "--source", "mill", "--to", "jsonl")
    assert "have nothing that the cases have" not in rows.err


def test_records_without_a_label_are_not_all_listed(run: Run, tmp_path: Path) -> None:
    lines = write(tmp_path / "learn.csv", [*COLUMNS, "state"]).read_text().splitlines()
    part = [line if i % 10 in (0, 1, 2) else line.rpartition(";")[0] + ";" for i, line in enumerate(lines)]
    (tmp_path / "part.csv").write_text("\n".join(part) + "\n")
    done = run("learn", tmp_path / "part.csv", *LEARN)
    assert done.code == 1
    assert done.err.count("no label in column 'state'") == 4
    assert "and 39 more: no label in column 'state'" in done.err
    assert "were left out; `precedent judge` gives verdicts on them" in done.err
