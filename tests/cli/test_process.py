"""A process that exits fast still flushes its output, keeps its exit code, and runs its `atexit` functions."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_RUN = """
import atexit, sys, threading, time
from agent.cli.process import fast_exit
with fast_exit():
    atexit.register(print, "asked to run at the end")
    threading.Thread(target=lambda: (time.sleep(0.2), print("a thread that is waited for"))).start()
    print("said", end=" ")
    {then}
"""


@pytest.mark.parametrize(
    ("then", "code"),
    [("", 0), ("sys.exit(3)", 3), ("sys.exit()", 0), ("sys.exit('why')", 1), ("1 / 0", 1), ("raise SystemExit(0)", 0)],
)
def test_nothing_is_lost(then: str, code: int) -> None:
    done = subprocess.run([sys.executable, "-c", _RUN.format(then=then)], capture_output=True, text=True)
    assert done.returncode == code
    assert done.stdout == "said a thread that is waited for\nasked to run at the end\n"
    assert ("ZeroDivisionError" in done.stderr, "why" in done.stderr) == ("/" in then, "why" in then)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device here")
def test_output_that_cannot_be_written_is_an_error() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", _RUN.format(then="")], stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert b"No space left" in done.stderr


def test_a_command_within_a_process_does_not_end_it() -> None:
    within = "import sys; from agent.cli.app import command; sys.argv = ['precedent', '--version']\ntry: command()"
    code = f"{within}\nexcept SystemExit as end: print(end.code)\nsys.exit(7)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 7, done.stderr
    assert done.stdout.endswith("0\n")


# each writes more than a pipe holds, by other means
_WRITERS = {
    "print": "print('x' * 1_000_000)",
    "flush at the end": "sys.stdout.write('x')",
    "typer": "typer.echo('x' * 1_000_000)",
    "rich": "print_line('x' * 1_000_000)",
}


@pytest.mark.parametrize("writer", _WRITERS.values(), ids=_WRITERS)
def test_a_reader_that_closes_the_output_ends_the_command_without_a_word(writer: str) -> None:
    code = f"""
import sys, time
import typer
from agent.cli import app as commands
from agent.core.terminal import print_line
app = typer.Typer()
@app.command()
def write() -> None:
    time.sleep(0.3)
    {writer}
commands.app = app
sys.argv = ["precedent"]
commands.main()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141
