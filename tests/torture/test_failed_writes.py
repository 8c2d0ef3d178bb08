"""The n-th write of `learn` to its data directory fails: nothing acknowledged is lost, and the next start goes on.

A few n by default, many by `make torture`.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.shop import LOG
from tests.torture.conftest import Figures

SOURCE = Path(__file__).with_name("fail_nth_write.c")
LAST = 1_500
PLACES = 60 if "PRECEDENT_TORTURE" in os.environ else 3


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("writes are made to fail by a library that a C compiler makes, on Linux")
    made = tmp_path_factory.mktemp("library") / "fail.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", made, SOURCE, "-ldl"], check=True)
    return made


def learn(home: Path, log: Path, **failing: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PRECEDENT_HOME": str(home), "PRECEDENT_MODEL": "none", "PRECEDENT_OFFLINE": "1"}
    command = [sys.executable, "-c", "from agent.cli.app import main; main()", "learn", str(log), "--source", "shop"]
    command += ["--format", "log", "--label", "0", "--normal", "-", "--brief", "a shop"]
    return subprocess.run(command, env={**environment, **failing}, capture_output=True, text=True, check=False)


def cases(home: Path) -> int:
    with closing(sqlite3.connect(home / "precedent.db")) as store:
        return int(store.execute("SELECT count(*) FROM cases").fetchone()[0])


@pytest.mark.timeout(36_000)
def test_the_nth_write_fails(library: Path, tmp_path: Path, figures: Figures) -> None:
    log, home = tmp_path / "shop.log", tmp_path / "home"
    log.write_text(LOG)
    refused = 0
    for place in range(PLACES):
        n = 1 + place * LAST // PLACES
        shutil.rmtree(home, ignore_errors=True)
        kind = {"FAIL_ENOSPC": "1"} if place % 2 else {}
        failed = learn(home, log, LD_PRELOAD=str(library), FAIL_UNDER=str(home), FAIL_AT=str(n), **kind)
        assert failed.returncode in (0, 3), (n, failed.stderr)
        assert "Traceback" not in failed.stderr, n
        refused += failed.returncode == 3
        if failed.returncode == 0:
            assert cases(home) == 60, "what was acknowledged is there"
        again = learn(home, log)
        assert again.returncode == 0, (n, again.stderr)
        assert "Traceback" not in again.stderr
        assert cases(home) == 60
    assert refused, "some writes failed"
    figures("failed", writes=PLACES, refused=refused, lost=0, starts_refused=0)
