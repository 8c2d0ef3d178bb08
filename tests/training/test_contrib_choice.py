"""Detectors chosen for a source: learned, weighed by evidence, kept by later fits, used alone, removed."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from agent.core.records import Signal
from agent.detectors.base import DetectorInput, TrainingCase
from agent.detectors.conformal import ConformalTail
from agent.detectors.contrib import catalog
from agent.detectors.contrib.zero_shot import UntrainedDetector
from retrieval.arrays import Floats
from tests.conftest import Run

OPTIONS = ("--source", "rings", "--label", "label", "--format", "jsonl")


def _rings(path: Path, seed: int, n: int, bad_every: int = 4) -> Path:
    """An anomaly is far outside a ring on which normal rows lie."""
    rng = random.Random(seed)
    lines = []
    for i in range(n):
        bad = bool(bad_every) and i % bad_every == 0
        radius = rng.uniform(4, 9) if bad else rng.uniform(2, 3)
        x = rng.uniform(-radius, radius)
        y = rng.choice([-1, 1]) * (radius**2 - x**2) ** 0.5
        lines.append(json.dumps({"x": x, "y": y, **({"label": int(bad)} if bad_every else {})}))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _model(run: Run) -> dict:  # type: ignore[type-arg]
    judge: dict = json.loads(run("sources", "show", "rings", "--json").out)["judge"]  # type: ignore[type-arg]
    return judge


def test_a_chosen_detector_is_weighed_kept_used_alone_and_removed(run: Run, tmp_path: Path) -> None:
    learned = run("learn", _rings(tmp_path / "l.jsonl", 1, 160), *OPTIONS, "--brief", "r", "--detector", "knn")
    assert learned.code == 0, learned.err
    assert "the detector knn has weight" in learned.out + learned.err
    model = _model(run)
    assert model["contrib"] == model["detectors"] == ["knn"]
    assert model["without_llm"]["weights"]["knn"] >= 0
    new = _rings(tmp_path / "j.jsonl", 2, 60)
    (first, *_) = verdicts = [
        json.loads(line) for line in run("judge", new, *OPTIONS, "--to", "jsonl").out.splitlines()
    ]
    assert all(
        set(verdict["signals"]) == {"language", "neighbours", "novelty", "fields", "knn"} for verdict in verdicts
    )
    assert "distance to the nearest: 0 of" in first["explanation"]
    alone = json.loads(run("evaluate", new, *OPTIONS, "--json", "--detector", "knn").out)
    assert alone["roc_auc"] > 0.97
    by_knn = [
        json.loads(line) for line in run("judge", new, *OPTIONS, "--to", "jsonl", "--detector", "knn").out.splitlines()
    ]
    ranked = sorted(by_knn, key=lambda verdict: verdict["signals"]["knn"])
    assert [v["id"] for v in ranked] == [
        v["id"] for v in sorted(by_knn, key=lambda v: (v["probability"], v["signals"]["knn"]))
    ]
    assert {v["provenance"]["batch_sha256"] for v in by_knn} != {None}
    # even a record that is a case is judged by the detector alone
    known = [
        json.loads(line)
        for line in run("judge", tmp_path / "l.jsonl", *OPTIONS, "--to", "jsonl", "--detector", "knn").out.splitlines()
    ]
    assert len({v["probability"] for v in known}) > 5
    assert run("sources", "rebuild", "rings").code == 0
    assert _model(run)["detectors"] == ["knn"], "a later fit keeps the choice"
    assert run("learn", tmp_path / "l.jsonl", *OPTIONS, "--detector", "none").code == 0
    assert _model(run)["detectors"] == _model(run)["contrib"] == []
    refused = run("judge", new, *OPTIONS, "--detector", "knn")
    assert refused.code == 2
    assert "was not fitted with the detector knn" in refused.err


class _Noise(UntrainedDetector):
    """Scores that have nothing to do with labels, of the beginning of a record."""

    name, label = "knn", "noise"

    @classmethod
    def fit(cls, cases: Sequence[TrainingCase]) -> Self | None:
        return cls().calibrated(cases)

    def raw(self, records: Sequence[DetectorInput]) -> Floats:
        hashes = [hashlib.sha256(record.text.encode()).digest() for record in records]
        return np.array([digest[0] / 256 for digest in hashes])

    def score(self, records: Sequence[DetectorInput]) -> list[Signal]:
        return [signal.model_copy(update={"truncated": True}) for signal in super().score(records)]

    def save(self) -> Mapping[str, Any]:
        return {"tail": self.tail.values}

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> Self:
        detector = cls()
        detector.tail = ConformalTail(state["tail"])
        return detector


def _letters(path: Path, seed: int, n: int) -> Path:
    """Log lines, of which a few complain."""
    rng = random.Random(seed)
    lines = []
    for i in range(n):
        bad = i % 9 == 0
        words = rng.choices(["failed", "refused", "lost", "denied"] if bad else ["ok", "done", "sent", "open"], k=2)
        name = "".join(rng.choices("abcdefgh", k=4))
        lines.append(json.dumps({"text": f"{name} {words[0]} {name} {words[1]}", "label": int(bad)}))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("write", [_rings, _letters])
def test_a_detector_that_does_not_help_leaves_every_verdict_as_it_is(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path, int, int], Path]
) -> None:
    knn = catalog.CATALOG["knn"]
    monkeypatch.setattr(catalog, "CATALOG", {**catalog.CATALOG, "knn": catalog.replace(knn, load=lambda: _Noise)})
    rows, new = write(tmp_path / "l.jsonl", 1, 90), write(tmp_path / "j.jsonl", 2, 30)
    fusions, verdicts = [], []
    for detector in ("none", "knn"):
        learned = run("learn", rows, *OPTIONS, "--brief", "r", "--detector", detector)
        assert learned.code == 0, learned.err
        fusions.append(_model(run)["without_llm"])
        judged = run("judge", new, *OPTIONS, "--to", "jsonl").out.splitlines()
        verdicts.append([{**v, "signals": None, "provenance": None, "elapsed_ms": 0} for v in map(json.loads, judged)])
    assert "the detector knn has weight 0" in learned.out + learned.err
    assert fusions[1]["weights"].pop("knn") == 0
    assert fusions[0] == fusions[1]
    for without, with_noise in zip(*verdicts, strict=True):
        for key in ("probability", "unsure_band", "label", "degraded"):
            assert without[key] == with_noise[key]


def test_normal_cases_alone_give_no_weight_but_a_detector_to_judge_by(run: Run, tmp_path: Path) -> None:
    normal = _rings(tmp_path / "n.jsonl", 1, 120, bad_every=0)
    learned = run("learn", normal, "--source", "rings", "--all-normal", "--brief", "r", "--detector", "lof")
    assert "the detector lof has weight 0" in learned.out + learned.err
    alone = run("evaluate", _rings(tmp_path / "j.jsonl", 2, 60), *OPTIONS, "--json", "--detector", "lof")
    assert json.loads(alone.out)["roc_auc"] > 0.93, alone.err


def test_verdicts_say_that_the_extra_of_a_detector_is_missing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    knn = catalog.CATALOG["knn"]
    monkeypatch.setattr(catalog, "CATALOG", {**catalog.CATALOG, "knn": catalog.replace(knn, extra="classical")})
    monkeypatch.setattr(catalog, "EXTRAS", {"classical": ("json",)})
    run("learn", _rings(tmp_path / "l.jsonl", 1, 80), *OPTIONS, "--brief", "r", "--detector", "knn")
    assert _model(run)["detectors"] == ["knn"]
    monkeypatch.setattr(catalog, "EXTRAS", {"classical": ("no_package_of_that_name",)})
    judged = run("judge", _rings(tmp_path / "j.jsonl", 2, 6), *OPTIONS, "--to", "jsonl")
    for line in judged.out.splitlines():
        (note,) = json.loads(line)["degraded"]
        assert (
            note
            == "knn: needs the extra [classical]: pip install 'precedent-agent[classical]' (in a clone: make extras)"
        )
    refit = run("sources", "rebuild", "rings")
    assert refit.code == 3
    assert "needs the extra [classical]" in refit.err


def test_a_detector_that_could_not_be_fitted_is_named_in_verdicts_with_what_it_takes(run: Run, tmp_path: Path) -> None:
    learned = run("learn", _rings(tmp_path / "l.jsonl", 1, 60), *OPTIONS, "--brief", "r", "--detector", "deeplog")
    assert "deeplog was not fitted: it takes at least ten different normal sessions (`precedent windows" in (
        learned.out + learned.err
    )
    judged = run("judge", _rings(tmp_path / "j.jsonl", 2, 3), *OPTIONS, "--to", "jsonl")
    reason = "deeplog: chosen for the source, but not fitted to its cases"
    assert [json.loads(line)["degraded"] for line in judged.out.splitlines()] == [[reason]] * 3
    alone = run("judge", tmp_path / "j.jsonl", *OPTIONS, "--detector", "deeplog")
    assert alone.code == 2
    assert "it takes at least ten different normal sessions" in alone.err
    other = run("judge", tmp_path / "j.jsonl", *OPTIONS, "--detector", "knn")
    assert "precedent sources refit rings --detector deeplog --detector knn" in other.err


def test_a_detector_alone_says_so_of_a_record_that_it_does_not_apply_to(run: Run, tmp_path: Path) -> None:
    sessions = [{"events": ["open", *["read"] * (i % 7), "write", "close"][: 3 + i % 9], "label": 0} for i in range(40)]
    (tmp_path / "s.jsonl").write_text("\n".join(map(json.dumps, sessions)), encoding="utf-8")
    run("learn", tmp_path / "s.jsonl", *OPTIONS, "--brief", "r", "--detector", "iforest", "--detector", "deeplog")
    (tmp_path / "t.log").write_text("disk full\n", encoding="utf-8")
    judged = run(
        "judge", tmp_path / "t.log", "--source", "rings", "--detector", "deeplog", "--format", "log", "--to", "jsonl"
    )
    verdict = json.loads(judged.out)
    assert (verdict["label"], verdict["degraded"]) == ("unsure", ["deeplog: it does not apply to this record"])


def test_a_detector_alone_needs_a_source_and_no_adaptation(run: Run, tmp_path: Path) -> None:
    rows = _rings(tmp_path / "l.jsonl", 1, 40)
    assert run("judge", rows, "--detector", "knn").code == 2
    run("learn", rows, *OPTIONS, "--brief", "r", "--detector", "knn")
    assert "leave one out" in run("judge", rows, *OPTIONS, "--adapt", "--detector", "knn").err
    assert "did you mean knn" in run("judge", rows, *OPTIONS, "--detector", "knnn").err
