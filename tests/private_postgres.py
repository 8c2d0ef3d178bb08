"""A real PostgreSQL for the tests: one server on a Unix socket for a session, an empty database for each test."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import psycopg

from examples.postgres.cluster import RecorderError, find_programs
from tests.conftest import missing

_START_SECONDS = 30
# nothing survives the session, so nothing is written for a crash
_OPTIONS = ("-h", "", "-F", "-c", "max_connections=60", "-c", "full_page_writes=off", "-c", "autovacuum=off")


class PrivatePostgres:
    """A running server, which ``folder`` holds with its data and its socket."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._numbers = folder, count(1)

    def empty_database(self) -> str:
        """The URL of a new database."""
        name = f"test_{next(self._numbers)}"
        with psycopg.connect(f"host={self._folder} user=postgres dbname=postgres", autocommit=True) as admin:
            # copying the files of a template that nobody uses takes a third of the time of logging its pages
            admin.execute(f"CREATE DATABASE {name} STRATEGY file_copy")  # type: ignore[arg-type]
        return f"postgresql://postgres@/{name}?host={self._folder}"


@contextmanager
def running_postgres() -> Iterator[PrivatePostgres]:
    """Start a server; skips, saying so, where none can be started."""
    try:
        programs = find_programs()
        owner = pwd.getpwnam("postgres").pw_uid if os.geteuid() == 0 else os.geteuid()
    except (RecorderError, KeyError) as error:
        missing("postgres", f"no PostgreSQL to test with: {error}")
    # the path of a Unix socket is short
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    os.chown(folder, owner, -1)
    as_owner: dict[str, Any] = {"user": owner} if os.geteuid() == 0 else {}
    initdb = [str(programs / "initdb"), "-D", str(folder / "data"), "-U", "postgres", "-A", "trust", "--no-sync"]
    subprocess.run(initdb, check=True, capture_output=True, cwd=folder, **as_owner)
    command = [str(programs / "postgres"), "-D", str(folder / "data"), "-k", str(folder), *_OPTIONS]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=folder, **as_owner)
    try:
        _wait_for(folder, process)
        yield PrivatePostgres(folder)
    finally:
        # SIGTERM would wait for clients
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
        shutil.rmtree(folder)


def _wait_for(folder: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            psycopg.connect(f"host={folder} user=postgres dbname=postgres").close()
        except psycopg.OperationalError:
            assert process.poll() is None, "the server has ended"
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.05)
        else:
            return
