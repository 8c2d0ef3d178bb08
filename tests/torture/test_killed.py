"""``kill -9`` at random moments of learning, a server's writes, a bulk run, a watch: nothing is lost or doubled."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest

from agent.core.settings import Settings
from benchmarks.private_ollama import free_port
from retrieval.store.cases import CaseQueries
from retrieval.store.engine import open_store
from tests.conftest import POSTGRES
from tests.served import ENTRY, ROOT, until_ready
from tests.torture.conftest import Figures

pytestmark = [pytest.mark.network, pytest.mark.enable_socket, pytest.mark.timeout(7_200)]
WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "sigma"]


class Home:
    """A data directory of its own, the commands on it, and when to kill them."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.rng, self.kills = folder, random.Random(seed), 0
        self.settings = Settings.model_validate({"home": folder / "home", "offline": True, "model": "none"})
        self.environment = {
            **os.environ, "PRECEDENT_HOME": str(folder / "home"), "PRECEDENT_OFFLINE": "1", "PRECEDENT_MODEL": "none",
        }  # fmt: skip

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", ENTRY, *map(str, arguments)]
        return subprocess.Popen(command, cwd=ROOT, env=self.environment, stderr=subprocess.PIPE, text=True)

    def finish(self, *arguments: object) -> None:
        running = self.start(*arguments)
        _, errors = running.communicate(timeout=600)
        assert running.returncode == 0, errors

    def took(self, *arguments: object) -> float:
        """Seconds of a whole run."""
        started = time.monotonic()
        self.finish(*arguments)
        return time.monotonic() - started

    def kill_within(self, seconds: float, *arguments: object) -> bool:
        """Kill a run at a random moment of its time; whether it was killed before its end."""
        running = self.start(*arguments)
        try:
            running.wait(self.rng.uniform(0.1, seconds))
        except subprocess.TimeoutExpired:
            running.kill()
        _, errors = running.communicate(timeout=60)
        assert "Traceback" not in errors, errors
        killed = running.returncode == -9
        assert killed or running.returncode == 0, errors
        self.kills += killed
        return killed

    def cases(self, source: str) -> Counter[tuple[str, str]]:
        engine = open_store(self.settings.store_url)
        try:
            return Counter((case.text, case.label) for case in CaseQueries(engine).cases(source))
        finally:
            engine.dispose()


@pytest.fixture
def moments(is_long: bool) -> int:
    """At how many of them each run is killed."""
    return 25 if is_long else 1


_FOUND = Counter[str]()


def _record(figures: Figures, kills: int, acknowledged: int) -> None:
    _FOUND.update(kills=kills, acknowledged=acknowledged)
    figures("killed", kills=_FOUND["kills"], acknowledged=_FOUND["acknowledged"], lost=0, doubled=0)


def test_learning(tmp_path: Path, moments: int, is_long: bool, figures: Figures) -> None:
    rng, count = random.Random(1), 1_500 if is_long else 500
    lines = [f"{'bad' if i % 9 == 0 else '-'} {' '.join(rng.sample(WORDS, 5))} number {i}" for i in range(count)]
    (tmp_path / "cases.log").write_text("".join(f"{line}\n" for line in lines))
    learn = ("learn", tmp_path / "cases.log", "--source", "s", "--label", "0", "--brief", "words")
    measured, home = Home(tmp_path / "measured", 0), Home(tmp_path / "killed", 2)
    seconds, acknowledged = measured.took(*learn), 0
    for _ in range(moments):
        home.kill_within(seconds, *learn)
        if home.settings.home.exists():
            held = home.cases("s")
            assert held.total() >= acknowledged, "a case that was there is lost"
            assert not [case for case, count in held.items() if count > 1]
            acknowledged = held.total()
    home.finish(*learn)
    assert home.cases("s") == measured.cases("s")
    _record(figures, home.kills, acknowledged)


def test_corrections_to_a_server(tmp_path: Path, moments: int, figures: Figures) -> None:
    home, acknowledged = Home(tmp_path, 3), dict[str, str]()
    home.finish("learn", POSTGRES / "learn.log", "--source", "pg", "--label", "0", "--brief", "PostgreSQL")
    learned, number = home.cases("pg"), 0
    for _ in range(moments):
        port = free_port()
        running, url = home.start("serve", "--port", port), f"http://127.0.0.1:{port}"
        try:
            with httpx.Client(base_url=url, timeout=60) as client:
                until_ready(url, running)
                until = time.monotonic() + home.rng.uniform(0.05, 3)
                while time.monotonic() < until:
                    number += 1
                    text = f"unit {' '.join(home.rng.sample(WORDS, 4))} failed {number}"
                    label = home.rng.choice(["normal", "anomalous"])
                    judged = client.post("/verdict/invoke", json={"input": {"text": text, "source": "pg"}})
                    found = client.post(f"/v1/verdicts/{judged.json()['output']['id']}/feedback", json={"label": label})
                    assert found.status_code == 200, found.text
                    acknowledged[text] = label
        finally:
            running.kill()
            running.communicate(timeout=60)
        home.kills += 1
        held = home.cases("pg")
        for text, label in acknowledged.items():
            assert held[text, label] == 1, (text, label)
        assert held.total() - learned.total() <= number
    _record(figures, home.kills, len(acknowledged))


def test_a_bulk_run_that_is_resumed(tmp_path: Path, moments: int, figures: Figures) -> None:
    home = Home(tmp_path, 4)
    home.finish("learn", POSTGRES / "learn.log", "--source", "pg", "--label", "0", "--brief", "PostgreSQL")
    big, whole, out = tmp_path / "big.log", tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    big.write_bytes((POSTGRES / "judge.log").read_bytes() * 300)
    judge = ("judge", big, "--source", "pg", "--output")
    seconds = home.took(*judge, whole)
    lines = sum(1 for _ in whole.open("rb"))
    for _ in range(moments):
        resumes = out.with_name("out.jsonl.resume.json").exists()
        if not home.kill_within(seconds, *judge, out, *(["--resume"] if resumes else [])):
            assert out.read_bytes() == whole.read_bytes()
            out.unlink()
    resumes = out.with_name("out.jsonl.resume.json").exists()
    home.finish(*judge, out, *(["--resume"] if resumes else []))
    assert out.read_bytes() == whole.read_bytes()
    _record(figures, home.kills, lines)


def test_a_watch(tmp_path: Path, moments: int, figures: Figures) -> None:
    home, log, out = Home(tmp_path, 5), tmp_path / "app.log", tmp_path / "out.jsonl"
    home.finish("learn", POSTGRES / "learn.log", "--source", "pg", "--label", "0", "--brief", "PostgreSQL")
    watch, written = ("watch", log, "--source", "pg", "--output", out), 0
    log.touch()
    for _ in range(moments):
        running = home.start(*watch)
        until = time.monotonic() + home.rng.uniform(0.5, 4)
        while time.monotonic() < until:
            with log.open("a") as lines:
                for _ in range(home.rng.randint(1, 40)):
                    written += 1
                    lines.write(f"LOG:  checkpoint complete: wrote {written} buffers\n")
            time.sleep(0.02)
        running.kill()
        _, errors = running.communicate(timeout=60)
        assert "Traceback" not in errors, errors
        home.kills += 1
    home.finish(*watch, "--once")
    numbers = [json.loads(line)["line"] for line in out.read_text().splitlines()]
    assert numbers == list(range(1, written + 1))
    _record(figures, home.kills, written)
