"""`--adapt`, and the line about the rate of a batch without it, through the commands."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from tests.conftest import Run

_NOTE = "x as anomalous as the cases"


@pytest.fixture
def pumps(run: Run, tmp_path: Path) -> Run:
    """A source with 40 % anomalous cases, and ``batch.csv`` of which 4 % are."""
    rng = random.Random(5)

    def row(anomalous: bool) -> str:
        centre = 1.6 if anomalous else 0.0
        return f"{rng.gauss(centre, 1):.4f},{rng.gauss(centre, 1):.4f},{int(anomalous)}"

    head = "load,delay,label"
    (tmp_path / "cases.csv").write_text("\n".join([head, *(row(n % 5 < 2) for n in range(150))]) + "\n")
    (tmp_path / "batch.csv").write_text("\n".join([head, *(row(n % 25 == 0) for n in range(300))]) + "\n")
    assert run("learn", "cases.csv", "-s", "pumps", "--label", "label").code == 0
    return run


def probabilities(file: Path) -> list[float]:
    return [json.loads(line)["probability"] for line in file.read_text().splitlines()]


def test_judge_notes_another_rate_and_uses_it_with_adapt(pumps: Run, tmp_path: Path) -> None:
    plain = pumps("judge", "batch.csv", "-s", "pumps", "-o", "plain.jsonl")
    adapted = pumps("judge", "batch.csv", "-s", "pumps", "-o", "adapted.jsonl", "--adapt")
    assert f"{_NOTE} (" in plain.err
    assert "--adapt judges them with that rate" in plain.err
    assert "that rate is assumed" in adapted.err
    assert adapted.err.count(_NOTE) == 1
    before, after = probabilities(tmp_path / "plain.jsonl"), probabilities(tmp_path / "adapted.jsonl")
    assert all(high > low for high, low in zip(before, after, strict=True))
    # the option holds for one run
    pumps("judge", "batch.csv", "-s", "pumps", "-o", "again.jsonl")
    assert probabilities(tmp_path / "again.jsonl") == before


def test_in_bulk_the_note_and_the_verdicts_are_the_same(pumps: Run, tmp_path: Path) -> None:
    for options in ([], ["--adapt"]):
        few = pumps("judge", "batch.csv", "-s", "pumps", "-o", "few.jsonl", *options)
        many = pumps(
            "judge",
            "batch.csv",
            "-s",
            "pumps",
            "-o",
            "many.jsonl",
            "--detail",
            "compact",
            "--report",
            "r.html",
            *options,
        )
        assert few.err.count(_NOTE) == many.err.count(_NOTE) == 1
        assert ("judges them with that rate" in (tmp_path / "r.html").read_text()) == (not options)
        compact = probabilities(tmp_path / "many.jsonl")
        assert compact == pytest.approx(probabilities(tmp_path / "few.jsonl"), abs=1e-3)


def test_evaluate_adapts_as_judge_does(pumps: Run) -> None:
    plain = pumps("evaluate", "batch.csv", "-s", "pumps", "--label", "label", "--json")
    adapted = pumps("evaluate", "batch.csv", "-s", "pumps", "--label", "label", "--json", "--adapt")
    assert "judges them with that rate" in plain.err
    assert "that rate is assumed" in adapted.err
    assert json.loads(adapted.out)["accuracy"] > json.loads(plain.out)["accuracy"]


def test_standard_input_cannot_be_adapted_to(pumps: Run) -> None:
    done = pumps("judge", "-", "-s", "pumps", "--adapt", stdin=b"load,delay\n1,2\n")
    assert done.code == 2
    assert "--adapt: standard input cannot be read twice" in done.err
