"""`--rate`, and the reference of a source without labels, through the commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import agent.pipeline.context
from tests.conftest import Run
from tests.training.test_batch_reference import BAD, NORMAL, PlayedContext, answer


@pytest.fixture
def unlabelled(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Source `plant`, which has a brief only, and the file `plant.log`."""
    (tmp_path / "plant.log").write_text("\n".join(NORMAL * 5 + BAD) + "\n", encoding="utf-8")
    (tmp_path / "labelled.csv").write_text(
        "text,label\n" + "".join(f"{text},{int(text in BAD)}\n" for text in NORMAL * 5 + BAD), encoding="utf-8"
    )

    def precedent(*arguments: object, stdin: bytes | None = None) -> Any:
        made = PlayedContext(tmp_path / "home", answer)
        monkeypatch.setattr(agent.pipeline.context, "default_context", lambda: made)
        done = run(*arguments, stdin=stdin)
        made.close()
        return done

    return precedent


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def outcome(path: Path) -> list[tuple[object, ...]]:
    return [(line["label"], round(line["probability"], 5)) for line in lines(path)]


def test_the_reference_is_measured_before_the_first_verdict_is_written(unlabelled: Run, tmp_path: Path) -> None:
    done = unlabelled("judge", "plant.log", "-s", "plant", "-o", "first.jsonl", "--detail", "compact")
    assert done.code == 0, done.err
    assert "assumed rate of anomalies 0.05" in done.err
    again = unlabelled("judge", "plant.log", "-s", "plant", "-o", "again.jsonl", "--detail", "compact")
    assert "assumed rate" not in again.err
    whole = unlabelled("judge", "plant.log", "-s", "plant", "-o", "whole.jsonl")
    assert whole.code == 0, whole.err
    assert outcome(tmp_path / "first.jsonl") == outcome(tmp_path / "again.jsonl") == outcome(tmp_path / "whole.jsonl")
    # the first and the last of the same template
    assert outcome(tmp_path / "first.jsonl")[0] == outcome(tmp_path / "first.jsonl")[len(NORMAL)]


def test_a_resumed_run_has_the_reference_of_the_run_that_was_stopped(
    unlabelled: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agent.bulk.runner import BulkRunner

    command = ("judge", "plant.log", "-s", "plant", "-o", "out.jsonl", "--detail", "compact")
    with monkeypatch.context() as stopping:
        stopping.setattr(BulkRunner, "_write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert unlabelled(*command).code == 130
    done = unlabelled(*command, "--resume")
    assert done.code == 0, done.err
    assert "assumed rate" not in done.err
    unlabelled("judge", "plant.log", "-s", "plant", "-o", "whole.jsonl", "--detail", "compact")
    assert outcome(tmp_path / "out.jsonl") == outcome(tmp_path / "whole.jsonl")


def test_a_rate_is_kept_with_the_source_and_moves_the_probabilities(unlabelled: Run, tmp_path: Path) -> None:
    for rate in ("0.02", "0.3"):
        done = unlabelled("judge", "plant.log", "-s", "plant", "--rate", rate, "-o", f"{rate}.jsonl")
        assert done.code == 0, done.err
        probabilities = [line["probability"] for line in lines(tmp_path / f"{rate}.jsonl")]
        assert sum(probabilities) / len(probabilities) == pytest.approx(float(rate), abs=1e-6)
    unlabelled("judge", "plant.log", "-s", "plant", "-o", "kept.jsonl")
    assert outcome(tmp_path / "kept.jsonl") == outcome(tmp_path / "0.3.jsonl")
    shown = unlabelled("sources", "show", "plant", "--json")
    assert json.loads(shown.out)["judge"]["batch_reference"]["rate"] == 0.3


def test_evaluate_takes_a_rate_too(unlabelled: Run) -> None:
    command = ("evaluate", "labelled.csv", "-s", "plant", "--label", "label", "--json")
    done = unlabelled(*command, "--rate", "0.01")
    assert done.code == 0, done.err
    assert "rate of anomalies 0.01" in done.err
    assert json.loads(done.out)["roc_auc"] == pytest.approx(1.0)


@pytest.mark.parametrize(("rate", "why"), [("0", "above 0"), ("1", "above 0"), ("7", "above 0"), ("nan", "above 0")])
def test_an_impossible_rate_ends_with_a_usage_error(unlabelled: Run, tmp_path: Path, rate: str, why: str) -> None:
    done = unlabelled("judge", "plant.log", "-s", "plant", "--rate", rate, "-o", "out.jsonl")
    assert done.code == 2
    assert why in done.err
    assert not (tmp_path / "out.jsonl").exists()


def test_a_rate_that_is_no_number_ends_with_a_usage_error(unlabelled: Run) -> None:
    assert unlabelled("judge", "plant.log", "-s", "plant", "--rate", "few").code == 2


def test_standard_input_is_judged_by_the_stored_reference(unlabelled: Run, tmp_path: Path) -> None:
    unlabelled("judge", "plant.log", "-s", "plant", "-o", "file.jsonl")
    piped = unlabelled("judge", "-", "-s", "plant", "-o", "piped.jsonl", stdin=(tmp_path / "plant.log").read_bytes())
    assert piped.code == 0, piped.err
    assert outcome(tmp_path / "piped.jsonl") == outcome(tmp_path / "file.jsonl")
    assert unlabelled("judge", "-", "-s", "plant", "--rate", "0.1", stdin=b"x\n").code == 2


def test_calls_that_are_limited_count_for_the_reference_too(unlabelled: Run) -> None:
    done = unlabelled("judge", "plant.log", "-s", "plant", "--llm-calls", "20", "--to", "jsonl", "-o", "few.jsonl")
    assert done.code == 0, done.err
    assert "10 calls of the language model are too few" in done.err
