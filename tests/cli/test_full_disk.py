"""Commands whose output or data directory is on a full disk: one sentence, exit code 3, and the way on."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import Run
from tests.disks import SmallDisk, disk, read_only
from tests.served import learned
from tests.shop import ANOMALOUS, LOG, NORMAL

__all__ = ["disk", "learned"]
COMMAND = [sys.executable, "-c", "from agent.cli.app import main; main()"]


@pytest.fixture
def home(tmp_path: Path, learned: Path, run: Run) -> Path:
    shutil.copytree(learned, tmp_path / "home", ignore=shutil.ignore_patterns("*.lock"))
    return tmp_path / "home"


@pytest.fixture
def log(tmp_path: Path, home: Path) -> Path:
    file = tmp_path / "judge.log"
    file.write_text("".join(f"{NORMAL} {'abcdefghij'[n % 10] * 9} {n}\n{ANOMALOUS}\n" for n in range(4_000)))
    return file


@pytest.mark.parametrize(
    "options",
    [
        ["--output", "o.jsonl", "--detail", "compact"],
        ["--output", "o.jsonl", "--detail", "full"],
        ["--output", "o.csv", "--detail", "compact"],
        ["--output", "o.parquet"],
        ["--output", "o.txt"],
        ["--report", "o.html"],
    ],
    ids=" ".join,
)
def test_an_output_on_a_full_disk(run: Run, log: Path, disk: SmallDisk, options: list[str]) -> None:
    disk.fill()
    option, name, *rest = options
    result = run("judge", log, "--source", "shop", "--format", "log", option, disk.path / name, *rest)
    assert result.code == 3, result.err
    assert f"{disk.path / name}" in result.err
    assert "cannot be written: its disk is full: free some space on it" in result.err
    assert "Traceback" not in result.err


def test_a_run_that_met_a_full_disk_is_resumed(run: Run, log: Path, disk: SmallDisk, tmp_path: Path) -> None:
    command = ["judge", log, "--source", "shop", "--format", "log", "--detail", "compact", "--output"]
    assert run(*command, tmp_path / "whole.jsonl").code == 0
    # room for the beginning only
    with (disk.path / "ballast").open("wb") as ballast:
        ballast.write(bytes((24 << 20) - (256 << 10)))
    result = run(*command, disk.path / "o.jsonl")
    assert result.code == 3
    assert result.err.splitlines()[-1].endswith("free some space on it: then the same command with --resume continues")
    (disk.path / "ballast").unlink()
    assert run(*command, disk.path / "o.jsonl", "--resume").code == 0
    assert (disk.path / "o.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_standard_output_to_a_full_disk(log: Path, home: Path, disk: SmallDisk) -> None:
    disk.fill()
    with (disk.path / "out").open("wb") as out:
        ended = subprocess.run([*COMMAND, "sources"], stdout=out, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 3
    assert ended.stderr == "error: the output cannot be written: its disk is full: free some space on it\n"


def test_a_home_on_a_full_disk(
    run: Run, log: Path, home: Path, disk: SmallDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.move(home, disk.path / "home")
    monkeypatch.setenv("PRECEDENT_HOME", str(disk.path / "home"))
    # the log of a server of another test in this process may go to what was its standard error
    monkeypatch.setattr(logging, "raiseExceptions", False)
    labelled = tmp_path / "labelled.log"
    labelled.write_text(LOG.replace("basket", "till"))
    learn = ("learn", labelled, "--source", "shop", "--format", "log", "--label", "0", "--normal", "-")
    disk.fill()
    full = f"the disk of {disk.path / 'home'} is full: free some space on it"
    for command in ("refit shop", "rebuild shop", "remove shop --yes", ""):
        result = run("sources", *command.split()) if command else run(*learn)
        assert result.code == 3, result.err
        assert full in result.err
        assert "Traceback" not in result.err
    judge = ("judge", labelled, "--source", "shop", "--format", "log", "--label", "0", "--normal", "-")
    result = run(*judge, "--to", "jsonl")
    assert result.code == 0, result.err
    verdicts = [json.loads(line) for line in result.out.splitlines()]
    assert all(full in verdict["degraded"][-1] for verdict in verdicts)
    result = run(*judge, "--detail", "compact")
    assert result.code == 0
    assert full in result.err
    disk.free()
    assert run(*learn).code == 0
    assert '"degraded": []' in run(*judge, "--to", "jsonl").out


def test_a_read_only_home(run: Run, log: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with read_only(home) as view:
        monkeypatch.setenv("PRECEDENT_HOME", str(view))
        result = run("judge", log, "--source", "shop", "--format", "log", "--detail", "compact")
        assert result.code == 0, result.err
        assert f"{view} is read-only" in result.err
        result = run("sources", "refit", "shop")
        assert result.code == 3
        assert f"{view} is read-only" in result.err
        assert run("sources").code == 0


def test_a_watch_waits_for_room(home: Path, disk: SmallDisk, tmp_path: Path, log: Path) -> None:
    shutil.move(home, disk.path / "home")
    environment = {**os.environ, "PRECEDENT_HOME": str(disk.path / "home")}
    output = tmp_path / "watched.jsonl"
    watch = [*COMMAND, "watch", str(log), "--source", "shop", "--detail", "full", "--output", str(output)]
    with subprocess.Popen(watch, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            while not output.exists() or not output.stat().st_size:
                time.sleep(0.05)
            disk.fill()
            with log.open("a") as more:
                more.write("a line of its own\n")
            said = ""
            while "the watch waits for that" not in said:
                said = process.stderr.readline()
            assert "is full: free some space on it" in said
            disk.free()
            with log.open("a") as more:
                more.write("and another line of its own\n")
            while "and another line of its own" not in output.read_text():
                time.sleep(0.05)
            texts = [json.loads(line)["record"]["text"] for line in output.read_text().splitlines()]
            assert texts == log.read_text().splitlines()
        finally:
            process.terminate()
