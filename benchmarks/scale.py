"""How many machines for how many records, from measured service times: `python -m benchmarks.scale` (docs/scale.md).

Seconds of a core are measured for records of each kind, new templates, queries of the language model, and the process
that reads and writes. A discrete-event simulation of that process and its workers, which hands out parts as
`agent.bulk.ray_cluster` does, gives the duration of a run; it is compared with a real run of two Ray workers, at the
speed that as many busy processes have on this machine at that time. ``--write`` writes docs/scale.md.
"""

from __future__ import annotations

import argparse
import heapq
import math
import multiprocessing
import platform
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from agent.bulk.ray_cluster import AHEAD
from agent.bulk.ray_runner import RayRunner
from agent.pipeline.context import AppContext
from benchmarks.bulk_ray import WORKERS, judged, learned, varied
from benchmarks.service_times import Measured, Times, judged_here, measure, new_templates

PAGE = Path(__file__).resolve().parents[1] / "docs" / "scale.md"
SHARES, DAILY = (0.0, 1e-5, 1e-4, 1e-3, 1e-2), (10**4, 10**6, 10**9)
# machines are planned to be busy for this share of the time; the busiest hour has this multiple of the mean
BUSY, PEAK, CORES = 0.6, 3.0, 16
# of new templates, those for which the language model is queried, because it may change their label
QUERIED = 0.25
_DAY, _SPIN_SECONDS = 86_400.0, 1.5
_LINES, _NEW = 200_000, 150


@dataclass(frozen=True)
class Job:
    """A part: seconds of its worker, and of the process that reads and writes."""

    worker: float
    driver: float


def jobs_of(measured: Measured) -> list[Job]:
    """The parts that were measured."""
    return [Job(*seconds) for seconds in zip(measured.workers, measured.driver, strict=True)]


def simulate(jobs: Sequence[Job], workers: int, speed: float = 1.0) -> float:
    """Seconds until all parts are written, in order.

    Parameters
    ----------
    jobs : sequence of Job
    workers : int
        How many judge, beside the process that reads and writes.
    speed : float
        What each process gets of a core.
    """
    # a free worker takes the part that waits longest; events are ends of parts
    events: list[tuple[float, int]] = []
    free, handed, written, now, clock = workers, 0, 0, 0.0, 0.0
    done = set[int]()
    while written < len(jobs):
        while free and handed < len(jobs) and handed - written < AHEAD * workers:
            # reading and handing out is half of the process's work on a part, writing the other half
            clock = max(clock, now) + jobs[handed].driver / 2 / speed
            heapq.heappush(events, (clock + jobs[handed].worker / speed, handed))
            free, handed = free - 1, handed + 1
        now, part = heapq.heappop(events)
        free += 1
        done.add(part)
        while written in done:
            clock = max(clock, now) + jobs[written].driver / 2 / speed
            written += 1
    return clock


def speed_of(processes: int) -> float:
    """What each of so many busy processes gets of a core now."""
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        shares = pool.map(_spin, [_SPIN_SECONDS] * processes, chunksize=1)
    return statistics.mean(shares)


def _spin(seconds: float) -> float:
    started, used = time.perf_counter(), time.process_time()
    while (passed := time.perf_counter() - started) < seconds:
        pass
    return (time.process_time() - used) / passed


def cost(times: Times, share: float, million: float = 1e6) -> float:
    """Core-seconds for a million lines of which a share has new templates."""
    line = times.kinds["log line of a known template"]
    return million * (line + times.driver + share * (times.template + QUERIED * times.query))


def compared(context: AppContext, folder: Path) -> tuple[float, float, float]:
    """Seconds of a simulated and of a real run of two Ray workers, and the speed of the simulated processes."""
    file, fresh = folder / "lines.log", folder / "new.log"
    varied(file, _LINES)
    new_templates(fresh, _NEW, 7)
    with file.open("a", encoding="utf-8") as lines:
        lines.write(fresh.read_text(encoding="utf-8"))
    judged(context, RayRunner, file, folder / "out")
    service = jobs_of(judged_here(context, "postgres", file, folder / "out"))
    before = speed_of(WORKERS + 1)
    real = judged(context, RayRunner, file, folder / "out").seconds
    speed = (before + speed_of(WORKERS + 1)) / 2
    return simulate(service, WORKERS, speed), real, speed


def page(times: Times, comparison: tuple[float, float, float] | None) -> str:
    """docs/scale.md."""
    found: list[object] = ["# How many machines", __doc__, *_of_times(times), *_of_costs(times), *_of_limits(times)]
    found += _of_sizes(times)
    if comparison is not None:
        simulated, real, speed = comparison
        found += [
            "## Simulated and real",
            f"{_LINES:,} lines of known templates and {_NEW} of new ones on {WORKERS} Ray workers: simulated "
            f"{simulated:.1f} s, real {real:.1f} s, {simulated / real:.2f} of it (target .75 to 1.25), where each "
            f"process gets {speed:.2f} of a core.",
        ]
    return "\n\n".join(str(part).strip() for part in found) + "\n"


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _percent(share: float) -> str:
    return f"{100 * share:.3f}".rstrip("0").rstrip(".") + " %"


def _of_times(times: Times) -> list[str]:
    rows = [(name, f"{1e6 * seconds:,.1f} µs", f"{1 / seconds:,.0f}") for name, seconds in times.kinds.items()]
    rows += [
        ("a new template, beside its line", f"{1e3 * times.template:,.1f} ms", f"{1 / times.template:,.0f}"),
        ("a query of the language model (0.5B, embedded)", f"{1e3 * times.query:,.0f} ms", f"{1 / times.query:,.1f}"),
        ("reading and writing a line", f"{1e6 * times.driver:,.1f} µs", f"{1 / times.driver:,.0f}"),
    ]
    machine = f"{platform.machine()}, Python {platform.python_version()}, without a GPU"
    return ["## Times of a core", f"Processor time ({machine}).", _table(("what", "time", "a second"), rows)]


def _of_costs(times: Times) -> list[str]:
    lines = [(_percent(share), f"{cost(times, share):,.0f}") for share in SHARES]
    others = [(name, f"{1e6 * seconds:,.0f}") for name, seconds in list(times.kinds.items())[1:]]
    return [
        "## Core-seconds for a million records",
        f"Lines by the share that has a new template; the language model is queried for {_percent(QUERIED)} of these:",
        _table(("new templates", "core-seconds"), lines),
        "Other records, none of which was judged before, without the language model:",
        _table(("kind", "core-seconds"), others),
    ]


def _of_limits(times: Times) -> list[str]:
    line = times.kinds["log line of a known template"]
    most = max(1, int(line / times.driver))
    half = line / (times.template + QUERIED * times.query)
    return [
        "## What saturates first",
        f"- **Known templates**: the process that reads and writes, at {1 / times.driver:,.0f} lines a second, which "
        f"{most} workers give. Beyond that, judge each folder with a command of its own.\n"
        f"- **New templates**: the language model. When {_percent(half)} of the lines have one, they take as long as "
        "all lines do. A GPU or a [model server](model-server.md) shortens queries, `--model none` leaves them out.\n"
        f"- **The store**: a verdict of {times.verdict:,.0f} bytes for each new template, and for each new message of "
        "prose; of rows and sessions a run keeps some hundreds. `precedent sources prune` keeps the newest.\n"
        "- **Memory** of a worker: see the peak memory of the command in [Speed](speed.md).",
    ]


def _of_sizes(times: Times) -> list[str]:
    kinds = [(f"lines, {_percent(share)} new", cost(times, share) / 1e6, share) for share in (1e-4, 1e-2)]
    kinds += [(name, seconds, float("prose" in name)) for name, seconds in list(times.kinds.items())[1:]]
    rows = []
    for daily in DAILY:
        for name, seconds, verdicts in kinds:
            cores = PEAK * daily * seconds / _DAY / BUSY
            machines = f"{max(1, math.ceil(cores / CORES)):,}"
            rows.append(
                (f"{daily:,}", name, f"{cores:,.2f}", machines, f"{daily * verdicts * times.verdict / 1e9:,.2f} GB")
            )
    return [
        "## Sizes",
        f"The busiest hour has {PEAK:.0f} times the mean, and machines are busy {_percent(BUSY)} of the time then:",
        _table(("records a day", "kind", "cores", f"machines of {CORES} cores", "verdicts stored a day"), rows),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write docs/scale.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for context in learned(Path(folder) / "home"):
            times = measure(context, Path(folder))
            comparison = compared(context, Path(folder)) if find_spec("ray") else None
    if comparison is None:
        print("ray is not installed (make extras): the simulation is not compared with a real run")
    text = page(times, comparison)
    print(text)
    if options.write:
        PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
