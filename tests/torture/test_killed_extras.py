"""``kill -9`` where extras are needed: workers of a Ray cluster, a run on one, and the training of a classifier."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from agent.bulk.options import BulkOptions
from agent.bulk.ray_runner import RayRunner
from agent.bulk.ray_workers import RETRIES
from agent.bulk.runner import BulkRunner
from agent.data.read_options import ReadOptions
from agent.detectors.contrib import catalog
from agent.pipeline.context import AppContext
from agent.training.learn import learn
from tests.conftest import make_settings, missing
from tests.ray_workers import workers
from tests.shop import ANOMALOUS, LOG, NEW, NORMAL
from tests.tiny_models import tiny_bert
from tests.torture.conftest import Figures

pytestmark = [pytest.mark.extras, pytest.mark.timeout(3_600), pytest.mark.filterwarnings("ignore")]
IS_LONG = "PRECEDENT_TORTURE" in os.environ
ROUNDS, MOMENTS = (8, 5) if IS_LONG else (1, 1)
# what a training has written when it is killed
WRITTEN = ("fold-0/checkpoint-*", "*", "fold-1/*", "fold-1/checkpoint-1?", "all/checkpoint-*")
READ = ReadOptions(format="log", label="0", normal=("-",), multiline="off")
_STATES = {"-": "shut", "FAULT": "open"}
PRECEDENT = [sys.executable, "-c", "from agent.cli.app import main; main()"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a Ray cluster with two processors."""
    if find_spec("ray") is None:
        missing("ray", "ray is not installed: make extras")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray
    from ray.cluster_utils import Cluster

    started = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 2, "object_store_memory": 100 << 20, "include_dashboard": False},
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("RAY_ADDRESS", started.address)
        yield started.address
    ray.shutdown()
    started.shutdown()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[AppContext, Path]]:
    """A source, and a log of many parts."""
    folder = tmp_path_factory.mktemp("ray")
    (folder / "learn.log").write_text(LOG)
    context = AppContext(make_settings(folder / "home", model="none"))
    learn(context, [folder / "learn.log"], "shop", READ, brief="a shop")
    lines = [line.split(" ", 1)[1] for line in LOG.splitlines()]
    texts = [*lines, NORMAL, ANOMALOUS, NEW]
    log = "".join(re.sub(r"\d+", str(number), texts[number % len(texts)]) + "\n" for number in range(400_000))
    (folder / "judge.log").write_text(log)
    yield context, folder / "judge.log"
    context.close()


def runner_of(kind: type[BulkRunner], context: AppContext, file: Path) -> Any:
    options = BulkOptions(files=(str(file),), source="shop", detail="compact", to="jsonl", chunk_size=1 << 17)
    quiet: Any = lambda *_, **__: None  # noqa: E731
    return kind(context, ReadOptions.model_validate(context.source("shop").reading), options, quiet, quiet)


def written(output: Path) -> list[str]:
    """The lines of a run and its whole verdicts, without the times they took."""
    files = output, output.with_name(f"{output.name}.templates.jsonl")
    return [re.sub(r'"elapsed_ms": ?[\d.e-]+', "", file.read_text()) for file in files]


@pytest.mark.network
@pytest.mark.enable_socket
def test_workers_are_killed(
    shop: tuple[AppContext, Path], cluster: str, tmp_path: Path, figures: Figures, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, file = shop
    # a file has many parts
    monkeypatch.setattr("agent.data.readers.byte_stream._CHUNK", 1 << 17)
    local = runner_of(BulkRunner, context, file)
    local.run(tmp_path / "local")
    found = Counter[str]()
    for number in range(ROUNDS):
        chance, kills = random.Random(number + 1), 0

        def kill_one(doing: str, *_: object, chance: random.Random = chance) -> None:
            nonlocal kills
            if doing != "judging" or kills == RETRIES or chance.random() > 0.05:
                return
            for worker in chance.sample(workers(), 1) if workers() else ():
                with suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)
                    kills += 1

        run = runner_of(RayRunner, context, file)
        run.progress = kill_one
        summary = run.run(tmp_path / "ray")
        assert written(tmp_path / "ray") == written(tmp_path / "local"), f"round {number}, {kills} killed"
        assert summary.counts == local.summary.counts
        found.update(workers_killed=kills, runs=1)
    assert found["workers_killed"]
    figures("killed workers", **found, lost=0, doubled=0)


def command(*arguments: object, home: Path) -> subprocess.Popen[str]:
    environment = {"PRECEDENT_HOME": str(home), "PRECEDENT_MODEL": "none", "PRECEDENT_OFFLINE": "1"}
    return subprocess.Popen(
        [*PRECEDENT, *map(str, arguments)], env={**os.environ, **environment}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def finished(*arguments: object, home: Path) -> str:
    process = command(*arguments, home=home)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert "Traceback" not in err
    return out


def killed(*arguments: object, home: Path, when: Callable[[], bool]) -> bool:
    """Whether a command was killed, and had not ended before."""
    process = command(*arguments, home=home)
    while process.poll() is None and not when():
        time.sleep(0.01)
    process.kill()
    _, err = process.communicate()
    assert process.returncode in (0, -signal.SIGKILL), err
    return process.returncode != 0


@pytest.mark.network
@pytest.mark.enable_socket
def test_a_run_on_ray_is_killed(shop: tuple[AppContext, Path], cluster: str, tmp_path: Path, figures: Figures) -> None:
    _, file = shop
    home = tmp_path / "home"
    (tmp_path / "learn.log").write_text(LOG)
    finished("learn", tmp_path / "learn.log", "--source", "shop", "--format", "log", "--label", "0", home=home)
    judge = ("judge", file, "--source", "shop", "--to", "jsonl", "--on", "ray", "--output")
    finished(*judge, tmp_path / "whole", home=home)
    size, found = (tmp_path / "whole").stat().st_size, Counter[str]()
    for moment in range(MOMENTS):
        for path in tmp_path.glob("out*"):
            path.unlink()
        out, least = tmp_path / "out", moment * size // MOMENTS

        def is_time(out: Path = out, least: int = least) -> bool:
            return out.exists() and out.stat().st_size >= least

        if killed(*judge, out, home=home, when=is_time):
            unfinished = (tmp_path / "out.resume.json").exists()
            finished(*judge, tmp_path / "out", *(("--resume",) if unfinished else ()), home=home)
            found.update(kills=1, resumed=int(unfinished))
        assert written(tmp_path / "out") == written(tmp_path / "whole")
    assert found["kills"]
    figures("killed runs on Ray", **found, lost=0, doubled=0)


def test_a_training_is_killed(tmp_path: Path, figures: Figures) -> None:
    if not catalog.is_installed("tune"):
        missing("tune", "the extra [tune] is not installed")
    rooms = ["attic", "bath", "cellar", "den", "garage", "hall", "kitchen", "larder", "office", "pantry", "study"]
    doors = [f"{label} the {state} door of the {room}" for room in rooms for label, state in _STATES.items()]
    base = tiny_bert(tmp_path / "base", {0: "a", 1: "b"}, [*rooms, *_STATES.values(), "the", "door", "of"])
    (tmp_path / "learn.log").write_text("".join(f"{door}\n" for door in doors * 3))
    (tmp_path / "new.log").write_text("the open door of the barn\nthe shut door of the barn\nthe barn\n")
    home, learned = tmp_path / "home", tmp_path / "learned"
    finished("learn", tmp_path / "learn.log", "--source", "shop", "--format", "log", "--label", "0", home=learned)
    epochs = "20" if IS_LONG else "4"
    tune = "tune", "classifier", "--source", "shop", "--base", base, "--folds", "2", "--epochs", epochs

    def verdicts() -> list[tuple[str, float, list[str]]]:
        lines = finished("judge", tmp_path / "new.log", "--source", "shop", "--to", "jsonl", home=home).splitlines()
        found = [json.loads(line) for line in lines]
        return [(verdict["label"], verdict["probability"], verdict["degraded"]) for verdict in found]

    shutil.copytree(learned, home)
    before = verdicts()
    finished(*tune, home=home)
    tuned, found = verdicts(), Counter[str]()
    work = home / "detectors/shop/classifier/work"
    for pattern in WRITTEN[:MOMENTS]:
        shutil.rmtree(home)
        shutil.copytree(learned, home)

        def is_time(pattern: str = pattern) -> bool:
            return any(work.glob(pattern))

        if not killed(*tune, home=home, when=is_time):
            assert verdicts() == tuned
            continue
        assert verdicts() in (before, tuned), "the source is as it was, or tuned"
        goes_on = work.exists()
        finished(*tune, *(("--resume",) if goes_on else ()), home=home)
        assert verdicts() == tuned
        found.update(kills=1, resumed=int(goes_on))
    assert found["resumed"]
    figures("killed trainings", **found, lost=0, other_verdicts=0)
