"""Commands in forks of a process that has imported everything: a thousand of them take minutes, not hours.

``python -m tests.torture.forked`` reads a command a line from standard input, and answers each with two: the number of
its process, then how it ended.
"""

from __future__ import annotations

import atexit
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, what it printed, and calls that the library counted."""

    code: int
    out: str
    err: str
    calls: int


class Running:
    """A command that runs in a fork."""

    def __init__(self, forks: Forks, number: int) -> None:
        self._forks, self.pid = forks, number

    def ended(self) -> Ended:
        """Wait for its end."""
        return self._forks.end()


class Forks:
    """The process that forks, and what it answers."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process, self._folder = process, folder

    def start(self, *arguments: object, **environment: str) -> Running:
        """Begin `precedent ARGUMENTS`; one at a time."""
        assert self._process.stdin is not None
        files = [str(self._folder / name) for name in ("out", "err")]
        told = {"arguments": [*map(str, arguments)], "environment": environment, "files": files}
        self._process.stdin.write(json.dumps(told) + "\n")
        self._process.stdin.flush()
        return Running(self, int(self._answer()["pid"]))

    def run(self, *arguments: object, **environment: str) -> Ended:
        """Run `precedent ARGUMENTS` to its end."""
        return self.start(*arguments, **environment).ended()

    def end(self) -> Ended:
        """How the command that was begun last ended."""
        answer = self._answer()
        out, err = ((self._folder / name).read_text(encoding="utf-8", errors="replace") for name in ("out", "err"))
        return Ended(answer["code"], out, err, answer["calls"])

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the process that forks has ended"
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def forking(**environment: str) -> Iterator[Forks]:
    """A process that has imported everything, with variables of its environment."""
    with tempfile.TemporaryDirectory(prefix="precedent-forks-") as folder:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.torture.forked"],
            cwd=ROOT, env={**os.environ, **environment}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        with process:
            yield Forks(process, Path(folder))
            assert process.stdin is not None
            process.stdin.close()


def serve() -> None:
    """Fork for each command that comes by standard input."""
    import tests.torture.all_imported  # noqa: F401

    counted = getattr(ctypes.CDLL(None), "calls_counted", lambda: 0)
    for line in sys.stdin:
        told = json.loads(line)
        counted()
        number = os.fork()
        if number == 0:
            _command(told["arguments"], told["environment"], told["files"])
        print(json.dumps({"pid": number}), flush=True)
        _, status = os.waitpid(number, 0)
        print(json.dumps({"code": os.waitstatus_to_exitcode(status), "calls": counted()}), flush=True)


def _command(arguments: list[str], environment: Mapping[str, str], files: list[str]) -> None:
    """Run a command in this fork, and end it."""
    for descriptor, file in enumerate((os.devnull, *files)):
        mode = os.O_RDONLY if descriptor == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        os.dup2(os.open(file, mode), descriptor)
    sys.argv = ["precedent", *arguments]
    os.environ.update(environment)
    code: object = 99
    try:
        from agent.cli.app import main

        main()
        code = 0
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
    finally:
        # ends the process, as `fast_exit` says
        atexit._run_exitfuncs()
        os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    serve()
