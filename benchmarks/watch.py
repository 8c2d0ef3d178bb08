"""`precedent watch` under a fast writer, rotation and crashes: every line judged exactly once.

A writer appends numbered lines to a file at a given rate, and rotates it (renamed and created again, or copied and
truncated); the watch is killed by SIGKILL meanwhile and started again. At the end each number must be in the output
once. `python -m benchmarks.watch` prints the counts and the hashes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

_START = 1_767_225_600


@dataclass(frozen=True)
class Run:
    """What is written, and what happens meanwhile.

    Attributes
    ----------
    lines, rate : int
        Lines in all, and a second.
    rotations, kills : int
    copy : bool
        Whether a rotation copies and truncates the file, instead of renaming it.
    """

    lines: int
    rate: int
    rotations: int = 2
    kills: int = 2
    copy: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came out, as ``expected`` it is: the numbers' count and hash."""

    records: int
    distinct: int
    sha256: str
    expected_sha256: str
    seconds: float
    written_seconds: float

    @property
    def is_exact(self) -> bool:
        """Whether each line was judged exactly once."""
        return self.records == self.distinct and self.sha256 == self.expected_sha256


def line_of(number: int) -> str:
    """A log line with that number; every 997th is of another kind."""
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(_START + number // 100))
    if number % 997 == 0:
        return f"{moment} ERROR store: write of block {number} failed on volume {number % 7}"
    return f"{moment} INFO worker: request {number} served in {number % 90} ms"


class Writer(threading.Thread):
    """Appends lines to a file, and rotates it."""

    def __init__(self, path: Path, run: Run) -> None:
        super().__init__(daemon=True)
        self._path, self._run = path, run
        self.seconds, self.written = 0.0, 0

    def run(self) -> None:
        """Write all lines."""
        run, batch = self._run, max(1, self._run.rate // 50)
        rotate_at = [run.lines * (n + 1) // (run.rotations + 1) for n in range(run.rotations)]
        started, stream = time.monotonic(), self._path.open("a")
        for start in range(0, run.lines, batch):
            stop = min(start + batch, run.lines)
            stream.write("".join(f"{line_of(number)}\n" for number in range(start, stop)))
            stream.flush()
            self.written = stop
            if rotate_at and stop >= rotate_at[0]:
                rotate_at.pop(0)
                stream = self._rotate(stream, run.rotations - len(rotate_at))
            time.sleep(max(0.0, started + stop / run.rate - time.monotonic()))
        stream.close()
        self.seconds = time.monotonic() - started

    def _rotate(self, stream, number: int):  # type: ignore[no-untyped-def]
        stream.close()
        rotated = self._path.with_name(f"{self._path.name}.{number}")
        if self._run.copy:
            # whoever truncates a file loses what was written since the copy: this writer waits
            shutil.copy2(self._path, rotated)
            os.truncate(self._path, 0)
        else:
            self._path.rename(rotated)
        return self._path.open("a")


def start_watch(
    log: Path, source: str, output: Path, environment: dict[str, str], *options: str
) -> subprocess.Popen[bytes]:
    """A process that watches."""
    code = "from agent.cli.app import main; main()"
    command = [sys.executable, "-c", code, "watch", str(log), "--source", source, "--output", str(output), *options]
    errors = (output.parent / "watch.err").open("ab")
    return subprocess.Popen(command, env=environment, stderr=errors)


def numbers_of(output: Path, log: Path) -> list[int]:
    """The numbers of the lines that are in an output with whole verdicts."""
    found = []
    for line in output.read_text().splitlines():
        words = json.loads(line)["record"]["text"].split()
        found.append(int(words[words.index("request" if "request" in words else "block") + 1]))
    return found


def exactly_once(folder: Path, run: Run, source: str, environment: dict[str, str], pause: float = 1.0) -> Outcome:
    """Write, rotate, kill and start again, and compare what was written with what was judged."""
    log, output = folder / "app.log", folder / "verdicts.jsonl"
    log.touch()
    writer, started = Writer(log, run), time.monotonic()
    process = start_watch(log, source, output, environment, "--detail", "full")
    _wait_for(output)
    writer.start()
    for number in range(run.kills):
        # it is killed at work: when it has judged something and there is more to come
        size = output.stat().st_size
        while writer.written < run.lines * (2 * number + 1) // (2 * run.kills) or output.stat().st_size <= size:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        time.sleep(pause)
        process = start_watch(log, source, output, environment, "--detail", "full")
    writer.join()
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and output.read_bytes().count(b"\n") < run.lines:
        time.sleep(0.3)
    seconds = time.monotonic() - started
    process.send_signal(signal.SIGINT)
    process.wait()
    numbers = numbers_of(output, log)
    return Outcome(
        len(numbers),
        len(set(numbers)),
        _hash(sorted(numbers)),
        _hash(list(range(run.lines))),
        seconds,
        writer.seconds,
    )


def _hash(numbers: list[int]) -> str:
    return hashlib.sha256(" ".join(map(str, numbers)).encode()).hexdigest()


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 120
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)


def make_source(folder: Path, environment: dict[str, str]) -> str:
    """Learn a few such lines as a source."""
    cases = folder / "cases.log"
    labels = ((number, "bad" if number % 997 == 0 else "-") for number in [*range(1, 40), *range(0, 9_970, 997)])
    cases.write_text("".join(f"{label} {line_of(number)}\n" for number, label in labels))
    code = "from agent.cli.app import main; main()"
    command = [sys.executable, "-c", code, "learn", str(cases), "--source", "app", "--label", "0"]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return "app"


def main() -> None:
    """Run it, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--rate", type=int, default=5_000)
    parser.add_argument("--copy", action="store_true", help="rotate by copying and truncating")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = {**os.environ, "PRECEDENT_HOME": str(folder / "home"), "PRECEDENT_MODEL": "none"}
        source = make_source(folder, environment)
        run = Run(arguments.lines, arguments.rate, copy=arguments.copy)
        outcome = exactly_once(folder, run, source, environment)
    events = f"{run.rotations} rotations, {run.kills} kills"
    print(f"written   {run.lines:,} lines in {outcome.written_seconds:.1f} s, {events}")
    print(f"judged    {outcome.records:,} records, {outcome.distinct:,} distinct, after {outcome.seconds:.1f} s")
    print(f"sha256    {outcome.sha256[:32]} expected {outcome.expected_sha256[:32]}")
    print("each line exactly once" if outcome.is_exact else "NOT each line exactly once")
    sys.exit(0 if outcome.is_exact else 1)


if __name__ == "__main__":
    main()
