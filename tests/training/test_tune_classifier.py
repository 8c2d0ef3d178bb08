"""`precedent tune classifier` with a transformer of a few thousand weights."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
from functools import partial
from pathlib import Path

import pytest

from agent.detectors.contrib import catalog
from agent.training import tune_classifier as tuning
from agent.training import tune_trainer
from tests.conftest import Run, missing
from tests.tiny_models import tiny_bert

pytestmark = pytest.mark.extras

OPTIONS = ("--source", "doors", "--label", "label", "--format", "jsonl")
TUNE = ("tune", "classifier", "--source", "doors", "--folds", "2", "--epochs", "16")
COLOURS, PLACES = ("red", "blue", "green", "grey"), [f"p{i}" for i in range(40)]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    if not catalog.is_installed("tune"):
        missing("tune", "the extra [tune] is not installed")
    words = ["colour", "place", "state", "is", "open", "shut", *COLOURS, *PLACES]
    return tiny_bert(tmp_path / "base", {0: "a", 1: "b"}, words)


def _doors(path: Path, seed: int, n: int, bad_every: int = 3) -> Path:
    """An open door is anomalous."""
    rng = random.Random(seed)
    lines = []
    for i in range(n):
        bad = i % bad_every == 0
        colour, place = rng.choice(COLOURS), rng.choice(PLACES)
        fields = {"colour": colour, "place": place, "state": "open" if bad else "shut"}
        lines.append(json.dumps({**fields, "label": int(bad)}))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rate at which a model of random weights learns in seconds."""
    quick = partial(tune_trainer.TrainerOptions, rate=1e-2, batch=8, patience=99)
    monkeypatch.setattr(tuning, "TrainerOptions", quick)


@pytest.mark.usefixtures("quick")
def test_it_learns_is_weighed_stored_as_safetensors_and_judges(run: Run, tmp_path: Path, base: Path) -> None:
    run("learn", _doors(tmp_path / "l.jsonl", 1, 240), *OPTIONS, "--brief", "doors")
    trained = run(*TUNE, "--base", base)
    assert trained.code == 0, trained.err
    assert "no GPU is used" in trained.err or "on cuda" in trained.out
    assert float(re.search(r"out of fold: accuracy ([\d.]+)", trained.out)[1]) > 0.9  # type: ignore[index]
    folder = tmp_path / "home" / "detectors" / "doors" / "classifier"
    meta = json.loads((folder / "current.json").read_text())
    assert meta["f1"] > 0.9
    assert meta["training_seconds"] > 0
    assert (folder / meta["folder"] / "model.safetensors").is_file()
    assert not (folder / "work").exists()
    model = json.loads(run("sources", "show", "doors", "--json").out)["judge"]
    assert model["detectors"] == model["contrib"] == ["tuned"]
    new = _doors(tmp_path / "j.jsonl", 2, 40)
    assert json.loads(run("evaluate", new, *OPTIONS, "--json", "--detector", "tuned").out)["roc_auc"] > 0.95
    verdict = json.loads(run("judge", new, *OPTIONS, "--to", "jsonl").out.splitlines()[0])
    assert verdict["signals"]["tuned"] > 0
    assert "the tuned classifier leans to anomalous" in verdict["explanation"]
    # a later fit trains nothing, and has the same answers
    before = (folder / meta["folder"] / "model.safetensors").stat().st_mtime_ns
    assert run("sources", "rebuild", "doors").code == 0
    assert (folder / meta["folder"] / "model.safetensors").stat().st_mtime_ns == before
    (folder / meta["folder"] / "model.safetensors").write_bytes(b"other weights")
    damaged = run("judge", new, *OPTIONS, "--to", "jsonl")
    assert damaged.code == 3
    assert "SHA-256 differs" in damaged.err
    shutil.rmtree(folder)
    gone = run("judge", new, *OPTIONS, "--to", "jsonl")
    assert gone.code == 3
    assert "precedent tune classifier" in gone.err


@pytest.mark.usefixtures("quick")
def test_ctrl_c_keeps_a_checkpoint_from_which_it_goes_on(
    run: Run, tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("learn", _doors(tmp_path / "l.jsonl", 1, 100), *OPTIONS, "--brief", "doors")
    seen = list[int]()
    steps = tuning._Part.steps

    def press(part: tuning._Part, done: int, total: int) -> None:
        seen.append(part.number * total + done)
        if len(seen) == 7:
            os.kill(os.getpid(), signal.SIGINT)
        steps(part, done, total)

    monkeypatch.setattr(tuning._Part, "steps", press)
    stopped = run(*TUNE, "--base", base)
    assert stopped.code == 130
    assert "`precedent tune classifier --source doors --resume` goes on" in stopped.err
    assert len(seen) in (7, 8)
    refused = run(*TUNE, "--base", base, "--resume", "--freeze", "1")
    assert refused.code == 2
    assert "had other freeze" in refused.err
    gone_on = run(*TUNE, "--base", base, "--resume")
    assert gone_on.code == 0, gone_on.err
    assert seen[8] > 7, "it begins after the checkpoint, not at the first step"
    assert "no training of doors was stopped" in run(*TUNE, "--base", base, "--resume").err


@pytest.mark.usefixtures("quick")
def test_a_rollback_finds_the_classifier_of_the_fit_before(run: Run, tmp_path: Path, base: Path) -> None:
    new = _doors(tmp_path / "l.jsonl", 1, 60)
    run("learn", new, *OPTIONS, "--brief", "doors")
    found = []
    for epochs in (1, 2, 3):
        trained = run(*TUNE[:-1], epochs, "--base", base)
        assert trained.code == 0, trained.err
        found.append(json.loads((tmp_path / "home/detectors/doors/classifier/current.json").read_text())["folder"])
    stored = {path.name for path in (tmp_path / "home/detectors/doors/classifier").iterdir() if path.is_dir()}
    assert stored == set(found[1:])
    assert run("sources", "rollback", "doors").code == 0
    judged = run("judge", new, *OPTIONS, "--detector", "tuned", "--to", "jsonl")
    assert judged.code == 0, judged.err
    words = tmp_path / "home/detectors/doors/classifier" / found[1] / "tokenizer.json"
    words.write_text(words.read_text().replace("open", "0pen"))
    damaged = run("judge", new, *OPTIONS, "--detector", "tuned", "--to", "jsonl")
    assert damaged.code == 3
    assert "are not those that were tuned with" in damaged.err


def test_bad_input_is_named(run: Run, tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("learn", _doors(tmp_path / "l.jsonl", 1, 60), *OPTIONS, "--brief", "doors")
    assert "--freeze 3: the base model has 2 layers" in run(*TUNE, "--base", base, "--freeze", "3").err
    nowhere = run(*TUNE, "--base", tmp_path / "nowhere")
    assert nowhere.code == 3
    assert "cannot be loaded" in nowhere.err
    run("learn", _doors(tmp_path / "f.jsonl", 1, 9), "--source", "few", *OPTIONS[2:], "--brief", "doors")
    assert "needs 10 different cases of each label" in run("tune", "classifier", "--source", "few", "--base", base).err
    learned = run("learn", tmp_path / "l.jsonl", *OPTIONS, "--detector", "tuned")
    assert "tuned was not fitted: it takes `precedent tune classifier" in learned.out + learned.err
    monkeypatch.setattr(catalog, "EXTRAS", {**catalog.EXTRAS, "tune": ("no_package_of_that_name",)})
    without = run(*TUNE, "--base", base)
    assert without.code == 3
    assert "needs the extra [tune]" in without.err
    assert "pip install 'precedent-agent[tune]'" in without.err


def test_frozen_layers_keep_their_weights(tmp_path: Path, base: Path) -> None:
    model, _ = tune_trainer._load(tune_trainer.TrainerOptions(str(base), freeze=1, offline=True))
    kept = {name for name, weights in model.named_parameters() if not weights.requires_grad}
    assert "bert.encoder.layer.0.output.dense.weight" in kept
    assert "bert.embeddings.word_embeddings.weight" in kept
    assert not any("layer.1" in name or "classifier" in name for name in kept)


def test_a_checkpoint_that_was_not_finished_is_not_gone_on_from(tmp_path: Path) -> None:
    for number, state in ((2, "{}"), (3, '{"step"'), (4, None)):
        (tmp_path / f"checkpoint-{number}").mkdir()
        if state is not None:
            (tmp_path / f"checkpoint-{number}" / "trainer_state.json").write_text(state)
    assert tune_trainer._last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-2"]
