"""Two workers of a Ray cluster on this machine against one process, on the same lines: `python -m benchmarks.bulk_ray`.

Both are measured from the first line read to the last one written: the start of the cluster and the loading of models,
which take as long for a million lines as for a billion, are printed apart. The one process runs on one processor, the
two workers and the process that reads and writes on two. `benchmarks.speed` prints the row.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from agent.bulk.options import BulkOptions
from agent.bulk.ray_runner import RayRunner
from agent.bulk.runner import BulkRunner
from agent.core.settings import Settings, settings
from agent.data.read_options import ReadOptions
from agent.pipeline.context import AppContext
from agent.training.learn import learn

WORKERS = 2
ROUNDS = 3
# of fewer lines the stored verdicts, which each worker loads, are most of the time
_LINES = 4_000_000
POSTGRES = Path(__file__).resolve().parents[1] / "examples" / "postgres"


@dataclass
class Clock:
    """When parts were written, by the calls of a runner's progress."""

    started: float = field(default_factory=time.perf_counter)
    ready: float | None = None
    ends: list[float] = field(default_factory=list)

    def progress(self, doing: str, *_: object) -> None:
        if doing == "judging":
            self.ends.append(time.perf_counter())

    def notify(self, note: str) -> None:
        if note.startswith("judging on Ray"):
            self.ready = time.perf_counter()

    @property
    def seconds(self) -> float:
        """From the first part that was handed out to the last one that was written."""
        return self.ends[-1] - (self.ready or self.started)

    @property
    def start_seconds(self) -> float:
        """Until the workers are ready."""
        return (self.ready or self.started) - self.started


@contextmanager
def one_processor() -> Iterator[None]:
    """Keep all threads of this process on one processor, where the system can."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    processors = os.sched_getaffinity(0)
    try:
        _pin({min(processors)})
        yield
    finally:
        _pin(processors)


def _pin(processors: set[int]) -> None:
    for thread in Path("/proc/self/task").iterdir():
        # threads end meanwhile
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), processors)


def judged(context: AppContext, kind: type[BulkRunner], file: Path, output: Path) -> Clock:
    """Judge a file, and return when its parts were done."""
    row = context.source("postgres")
    options = BulkOptions((str(file),), row.name, "compact", "jsonl")
    clock = Clock()
    kind(context, ReadOptions.model_validate(row.reading), options, clock.progress, clock.notify).run(output)
    return clock


def varied(file: Path, lines: int) -> None:
    """Lines of templates that the source knows, with other numbers: those of the demo again and again."""
    known = [line for line in (POSTGRES / "learn.log").read_text(encoding="utf-8").splitlines() if line]
    with file.open("w", encoding="utf-8") as out:
        for start in range(0, lines, len(known)):
            shift = start % 7919
            digits = str.maketrans("0123456789", "".join(str((digit + shift) % 10) for digit in range(10)))
            out.writelines(f"{line.translate(digits)}\n" for line in known[: lines - start])


def learned(home: Path) -> Iterator[AppContext]:
    """A context with the demo's log learned, without the language model."""
    context = AppContext(Settings(home=home, cache=settings().cache, model="none", ray_workers=WORKERS, offline=True))
    learn(context, [POSTGRES / "learn.log"], "postgres", ReadOptions(format="log", label="0"), brief="PostgreSQL")
    yield context
    context.close()


def measure(folder: Path, lines: int, rounds: int = ROUNDS) -> dict[str, float]:
    """Lines a second of one process and of the workers, alternating, and their ratio to that of as many processes."""
    file = folder / "lines.log"
    varied(file, lines)
    rates: dict[str, list[float]] = {"one": [], "workers": [], "start": []}
    for context in learned(folder / "home"):
        judged(context, BulkRunner, file, folder / "first")
        for _ in range(rounds):
            with one_processor():
                rates["one"].append(lines / judged(context, BulkRunner, file, folder / "one").seconds)
            clock = judged(context, RayRunner, file, folder / "workers")
            rates["workers"].append(lines / clock.seconds)
            rates["start"].append(clock.start_seconds)
        if (folder / "one").read_bytes() != (folder / "workers").read_bytes():
            raise SystemExit("the workers wrote other bytes than one process")
    found = {name: statistics.median(values) for name, values in rates.items()}
    ratios = [both / (WORKERS * one) for one, both in zip(rates["one"], rates["workers"], strict=True)]
    return {**found, "ratio": statistics.median(ratios)}


def rows(folder: Path, lines: int) -> list[tuple[str, str, str, str]]:
    """The row of docs/speed.md; none without Ray."""
    if find_spec("ray") is None:
        print("ray is not installed (make extras): two workers are not measured")
        return []
    folder.mkdir()
    lines = max(lines, _LINES)
    found = measure(folder, lines)
    figures = f"{found['workers']:,.0f} lines/s; one process {found['one']:,.0f}; start {found['start']:.0f} s"
    ratio = f"{found['ratio']:.2f} of {WORKERS} processes (target .85)"
    return [(f"{WORKERS} Ray workers on {WORKERS} cores, {lines:,} lines", figures, ratio, "")]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, value in measure(Path(folder), _LINES).items():
            print(f"{name}: {value:,.2f}")


if __name__ == "__main__":
    main()
