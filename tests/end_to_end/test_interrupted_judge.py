"""A bulk `judge` may be killed at any moment: with `--resume` it goes on, and the files are those of one run."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import POSTGRES

ROOT = Path(__file__).resolve().parents[2]


def seen_first_and_last(report: Path) -> dict[tuple[str, ...], tuple[int, int]]:
    """Line numbers by label, probability and template."""
    seen = dict[tuple[str, ...], tuple[int, int]]()
    for label in ("Anomalous", "Unsure"):
        table = re.search(rf"<h2>{label}: .*?</table>", report.read_text(encoding="utf-8"), re.DOTALL)
        row = r"<td[^>]*>([\d.]+)</td><td>\S+?:(\d+)[^<]*</td><td>\S+?:(\d+)[^<]*</td>.*? · template (t\w+)"
        for probability, first, last, template in re.findall(row, table[0] if table else "", re.DOTALL):
            seen[label, probability, template] = int(first), int(last)
    assert len(seen) > 3
    assert all(first < last for first, last in seen.values())
    return seen


@pytest.mark.timeout(600)
def test_killed_and_resumed_a_file_is_the_same_byte_for_byte(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PRECEDENT_HOME": str(tmp_path / "home"),
        "PRECEDENT_OFFLINE": "1",
        "PRECEDENT_MODEL": "none",
    }
    entry = [sys.executable, "-c", "from agent.cli.app import main; main()"]

    def precedent(*arguments: object) -> subprocess.Popen[str]:
        command = [*entry, *map(str, arguments)]
        return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)

    learning = precedent("learn", POSTGRES / "learn.log", "--source", "pg", "--label", 0, "--brief", "PostgreSQL")
    assert learning.wait(300) == 0
    # several chunks
    big = tmp_path / "big.log"
    big.write_bytes((POSTGRES / "judge.log").read_bytes() * 400)
    report = tmp_path / "report.html"
    judge = "judge", big, "--source", "pg", "--report", report, "--output"
    assert precedent(*judge, tmp_path / "whole.jsonl").wait(300) == 0
    expected = seen_first_and_last(report)
    report.unlink()
    out, state = tmp_path / "out.jsonl", tmp_path / "out.jsonl.resume.json"
    killed = 0
    for stop_signal in (signal.SIGKILL, signal.SIGKILL, signal.SIGINT):
        before = state.stat().st_mtime_ns if state.exists() else 0
        running = precedent(*judge, out, *(["--resume"] if state.exists() else []))
        while running.poll() is None and not (state.exists() and state.stat().st_mtime_ns > before):
            time.sleep(0.005)
        running.send_signal(stop_signal)
        _, errors = running.communicate(timeout=60)
        killed += running.returncode != 0
        assert "Traceback" not in errors
    assert killed >= 2, "it must be stopped between two chunks"
    if state.exists():
        assert precedent(*judge, out, "--resume").wait(300) == 0
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert seen_first_and_last(report) == expected
    assert (tmp_path / "out.jsonl.templates.jsonl").stat().st_size > 0
    assert not state.exists()


def test_ctrl_c_ends_a_run_that_waits_for_a_pipe(tmp_path: Path) -> None:
    environment = {**os.environ, "PRECEDENT_HOME": str(tmp_path / "home"), "PRECEDENT_MODEL": "none"}
    learn = ["learn", str(POSTGRES / "learn.log"), "--source", "pg", "--label", "0", "--brief", "PostgreSQL"]
    entry = [sys.executable, "-c", "from agent.cli.app import main; main()"]
    assert subprocess.run([*entry, *learn], cwd=ROOT, env=environment, capture_output=True).returncode == 0
    out = tmp_path / "out.jsonl"
    judge = [*entry, "judge", "-", "--source", "pg", "--detail", "compact", "--output", str(out)]
    pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(judge, cwd=ROOT, env=environment, text=True, **pipes) as running:
        assert running.stdin is not None
        running.stdin.write("LOG:  checkpoint starting: time\n" * 100)
        running.stdin.flush()
        while not out.with_name("out.jsonl.resume.json").exists():
            time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        assert running.wait(30) == 130
        assert running.stderr is not None
        errors = running.stderr.read()
    assert "stopped" in errors
    assert "--resume" not in errors, "a pipe cannot be read again"
    assert "Traceback" not in errors
