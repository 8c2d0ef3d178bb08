"""Detectors without training: by the brief's descriptions, and by a model of inference."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from agent.core.errors import DetectorError
from agent.core.records import Record
from agent.detectors.base import DetectorInput, TrainingCase
from agent.detectors.contrib.catalog import detectors
from agent.detectors.contrib.descriptions import descriptions
from agent.detectors.contrib.resources import Resources
from agent.detectors.persistence import FittedDetectors
from agent.detectors.registry import fit_detectors
from retrieval.types import LABELS, RetrievalResult
from tests.conftest import Run
from tests.tiny_models import tiny_bert

NONE = dict.fromkeys(LABELS, 0)


@pytest.mark.parametrize(
    ("brief", "normal", "anomalous"),
    [
        (
            "Log of a web shop. Normal: sessions opening and closing, checkpoints. Anomalous: crashes, lost data.",
            ["sessions opening and closing", "checkpoints"],
            ["crashes", "lost data"],
        ),
        (
            "Short messages; legitimate messages are chats between friends, while spam offers prizes.",
            ["legitimate messages are chats between friends"],
            ["spam offers prizes"],
        ),
        ("Anything abnormal is a fault of the disk.", [], ["Anything abnormal is a fault of the disk"]),
        ("It is not normal to run. Normal people walk.", ["Normal people walk"], ["It is not normal to run"]),
        ("Lines of a log.", [], []),
        ("", [], []),
    ],
)  # fmt: skip
def test_a_brief_is_split_by_what_it_describes(brief: str, normal: list[str], anomalous: list[str]) -> None:
    assert descriptions(brief) == {"normal": normal, "anomalous": anomalous}


def test_what_the_brief_calls_anomalous_ranks_first(run: Run, tmp_path: Path) -> None:
    greetings = [
        f"good {time}, {name}" for time in ("morning", "evening", "night") for name in ("Ann", "Bo", "Cy", "Di")
    ]
    alarms = ["fire in the kitchen of the hall", "the warehouse is burning", "smoke and flames in the attic"]
    rows = [{"text": text, "label": int(text in alarms)} for text in (*greetings, *alarms)]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    options = ("--source", "s", "--label", "label", "--text", "text")
    brief = "Messages of a house. Normal: greetings between people, good wishes. Anomalous: fire, smoke, burning."
    learned = run("learn", file, *options, "--brief", brief, "--detector", "zeroshot")
    assert learned.code == 0, learned.err
    alone = run("evaluate", file, *options, "--json", "--detector", "zeroshot")
    assert json.loads(alone.out)["roc_auc"] == 1.0, alone.err
    changed = run("learn", file, *options, "--brief", "Messages of a house.")
    assert "zeroshot was not fitted: it takes a brief that says what is normal" in changed.out + changed.err


def _input(text: str) -> DetectorInput:
    return DetectorInput(Record(text=text), text, text, {}, RetrievalResult((), NONE, NONE, None))


def test_a_model_of_inference_is_named_by_its_path_and_kept_by_it(tmp_path: Path) -> None:
    folder = tiny_bert(tmp_path / "nli", {0: "CONTRADICTION", 1: "NEUTRAL", 2: "ENTAILMENT"})
    resources = Resources(device="cpu", offline=True)
    cases = [TrainingCase(_input("good morning " * (i % 4 + 1)), anomalous=False) for i in range(12)]
    (fitted, (unseen,)) = fit_detectors(detectors([f"nli={folder}"], resources), cases, [np.zeros(12)])["nli"]
    assert np.isfinite(unseen).all()
    packed = FittedDetectors(installed=(fitted,)).dumps()
    (again,) = FittedDetectors.loads(packed, resources).installed
    records = [_input("fire"), _input("good morning"), _input(".")]
    together = [signal.log_odds for signal in again.score(records)]
    assert together == pytest.approx([fitted.score([record])[0].log_odds for record in records], abs=1e-6)


def test_a_model_that_is_not_of_inference_or_not_there_is_named(tmp_path: Path) -> None:
    cases = [TrainingCase(_input("good morning"), anomalous=False) for _ in range(12)]
    folder = tiny_bert(tmp_path / "other", {0: "a", 1: "b", 2: "c"})
    with pytest.raises(DetectorError, match="no model of natural language inference: its labels are a, b, c"):
        fit_detectors(detectors([f"nli={folder}"], Resources(device="cpu", offline=True)), cases, [np.zeros(12)])
    with pytest.raises(DetectorError, match="cannot be loaded"):
        fit_detectors(detectors([f"nli={tmp_path / 'no'}"], Resources(offline=True)), cases, [np.zeros(12)])


def test_options_are_checked(run: Run) -> None:
    assert (
        "takes an option: --detector nli=MODEL" in run("learn", "-", "-s", "s", "--all-normal", "--detector", "nli").err
    )
    assert "takes no option" in run("learn", "-", "-s", "s", "--all-normal", "--detector", "knn=3").err
