"""`precedent tune lora` with the 135M model: plumbing; its answers are no better than chance before it is trained."""

from __future__ import annotations

import copy
import json
import os
import re
import signal
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.core.prompts import PromptVariant
from agent.detectors.lora import SourceAdapter
from agent.pipeline.context import default_context
from agent.training import lora_cases, lora_network, lora_trainer, tune_lora
from agent.training.lora_evidence import evidence
from agent.training.lora_network import LoraOptions
from llm.llamacpp.backend import LlamaCppBackend
from tests.conftest import Run, give_language_weight, missing

THINGS = ("pump", "belt", "lamp", "door", "crane", "oven")
STATES = {"-": ("runs smoothly", "was cleaned today"), "BAD": ("is on fire now", "broke into pieces")}
LEARN = ("--source", "hall", "--format", "log", "--label", "0", "--normal", "-", "--brief", "Machines of a hall.")
TUNE = ("tune", "lora", "--source", "hall", "--epochs", "1", "--layers", "1")


# reading the weights takes longer than the rest
_load, _loaded = lora_network._load, list[Any]()


def loaded(*arguments: Any) -> Any:
    if not _loaded:
        _loaded.append(_load(*arguments))
    return copy.deepcopy(_loaded[0])


@pytest.fixture
def hall(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command on a source of 12 templates of each label."""
    if not all(map(find_spec, tune_lora._PACKAGES)):
        missing("tune", "the extra [tune] is not installed")
    lines = [f"{label} the {thing} {state}" for label, states in STATES.items() for thing in THINGS for state in states]
    (tmp_path / "l.log").write_text("\n".join(lines) + "\n")
    learned = run("learn", tmp_path / "l.log", *LEARN)
    assert learned.code == 0, learned.err
    monkeypatch.setenv("PRECEDENT_MODEL", "embedded:smollm2-135m")
    monkeypatch.setenv("PRECEDENT_CONTEXT_TOKENS", "512")
    monkeypatch.setattr(lora_network, "_load", loaded)
    monkeypatch.setattr(lora_cases, "MIN_CASES", 4)
    # few steps, and large ones
    options = partial(LoraOptions, rank=2, batch=4, rate=5e-3)
    monkeypatch.setattr(tune_lora, "LoraOptions", options)
    return run


def source_adapter(run: Run) -> dict[str, object] | None:
    shown = json.loads(run("sources", "show", "hall", "--json").out)["judge"]
    return shown["adapter"]  # type: ignore[no-any-return]


def test_it_is_kept_used_named_and_removed(hall: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.training.lora_evidence.LoraEvidence.helps", True)
    trained = hall(*TUNE)
    assert trained.code == 0, trained.err
    assert "without it" in trained.out
    assert "hall is judged with it" in trained.out
    adapter = source_adapter(hall)
    assert adapter is not None
    sha256 = str(adapter["sha256"])
    folder = tmp_path / "home" / "detectors" / "hall" / "lora" / sha256[:16]
    assert {path.name for path in folder.iterdir()} >= {"adapter.gguf", "adapter_model.safetensors"}
    context = default_context()
    row = context.source("hall")
    model = context.language_detector(row).model
    assert isinstance(model, LlamaCppBackend)
    assert model.name == f"embedded:smollm2-135m+lora-{sha256[:16]}"
    # only held-out cases weigh it
    assert 0 < len(adapter["held_out"]) < 12  # type: ignore[arg-type]
    assert row.source_model is not None
    tried = re.search(r"tried on (\d+) normal and (\d+) anomalous", row.source_model["language_note"])
    assert tried is not None
    assert sum(map(int, tried.groups())) == len(adapter["held_out"])  # type: ignore[arg-type]
    give_language_weight(context, "hall")
    (tmp_path / "j.log").write_text("a robot of another kind rests in the yard\n")
    judge = ("judge", tmp_path / "j.log", "--source", "hall", "--to", "jsonl")
    verdict = json.loads(hall(*judge).out)
    assert verdict["signals"]["language"] is not None
    assert verdict["provenance"]["model"] == model.name
    # a file that is damaged is named, and nothing else answers in its place
    (folder / "adapter.gguf").write_bytes(b"other")
    (tmp_path / "j.log").write_text("a robot of another kind works in the yard\n")
    verdict = json.loads(hall(*judge).out)
    assert verdict["signals"]["language"] is None
    assert "is damaged or another one" in str(verdict["degraded"])
    assert "`precedent tune lora --source hall` trains it again" in str(verdict["degraded"])
    assert hall("sources", "rebuild", "hall").code == 0
    stored = default_context().source("hall").source_model or {}
    assert "is damaged or another one" in str(stored["language_note"])
    assert stored["adapter"] == adapter
    removed = hall("tune", "lora", "--source", "hall", "--remove")
    assert removed.code == 0, removed.err
    assert source_adapter(hall) is None
    assert folder.is_dir(), "the fit before may be brought back"
    assert hall("tune", "lora", "--source", "hall", "--remove").code == 2


def test_what_does_not_help_is_not_used(hall: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.training.lora_evidence.LoraEvidence.helps", False)
    trained = hall(*TUNE, "--cases", "24")
    assert trained.code == 0, trained.err
    assert "it does not help" in trained.out
    assert source_adapter(hall) is None
    assert not list((tmp_path / "home" / "detectors" / "hall" / "lora").iterdir())


def test_ctrl_c_keeps_a_checkpoint_from_which_it_goes_on(hall: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = list[int]()
    step = lora_trainer.LoraTraining._step

    def press(training: lora_trainer.LoraTraining, *arguments: object) -> None:
        step(training, *arguments)  # type: ignore[arg-type]
        seen.append(len(seen))
        if len(seen) == 2:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(lora_trainer.LoraTraining, "_step", press)
    stopped = hall(*TUNE)
    assert stopped.code == 130
    assert "`precedent tune lora --source hall --resume` goes on" in stopped.err
    assert len(seen) == 2
    assert "had other layers" in hall(*TUNE, "--layers", "2", "--resume").err
    monkeypatch.setattr("agent.training.lora_evidence.LoraEvidence.helps", False)
    gone_on = hall(*TUNE, "--resume")
    assert gone_on.code == 0, gone_on.err
    steps = re.search(r"(\d+) steps\)", gone_on.out)
    assert steps is not None
    assert len(seen) == int(steps[1]) > 2, "two steps were not made again"
    assert "no training of an adapter of hall was stopped" in hall(*TUNE, "--resume").err


def test_bad_input_is_named(hall: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    few = hall(*TUNE, "--cases", "14")
    assert few.code == 2
    assert "an adapter needs 12 different cases of each label" in few.err
    assert hall("tune", "lora", "--source", "hall", "--remove").code == 2
    monkeypatch.setenv("PRECEDENT_MODEL", "none")
    assert hall(*TUNE).code == 3
    monkeypatch.setattr(tune_lora, "find_spec", lambda name: None)
    without = hall(*TUNE)
    assert without.code == 3
    assert "precedent-agent[tune]" in without.err


def test_a_gpu_that_is_missing_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    notes = list[str]()
    assert tune_lora._device("cuda", notes.append) == "cpu"
    assert len(notes) == 1
    assert "there is no GPU" in notes[0]


def test_an_adapter_must_be_better_by_more_than_chance() -> None:
    random = np.random.default_rng(1)
    anomalous, kinds = np.arange(60) % 2 == 0, np.arange(60) // 3
    noise = random.normal(size=60)
    better = noise + np.where(anomalous, 2.0, -2.0)
    assert evidence(noise, better, anomalous, kinds).helps
    assert not evidence(better, noise, anomalous, kinds).helps
    assert not evidence(noise, noise + random.normal(size=60) * 0.1, anomalous, kinds).helps
    # where it is centred does not matter, as the weight of the judge is fitted
    assert evidence(noise, better + 40, anomalous, kinds).after.accuracy > 0.9


def test_the_fit_names_it_in_plain_values() -> None:
    prompt = PromptVariant("expert", reference=0.0, examples=4, balanced=True)
    adapter = SourceAdapter("a" * 64, "b" * 64, prompt, frozenset({"k"}))
    assert SourceAdapter.of(json.loads(json.dumps({"adapter": adapter.to_json()}))) == adapter
    assert SourceAdapter.of(None) is None
