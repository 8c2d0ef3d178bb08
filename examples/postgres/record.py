"""Record the demo source: run a private PostgreSQL, break it on schedule, and label what it printed.

python -m examples.postgres.record --out examples/postgres
python -m examples.postgres.record --summary
python -m examples.postgres.record --review
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from .cluster import Cluster, RecorderError
from .faults import Fault
from .labels import NORMAL, Labelled, Window, join_lines, label_lines, template
from .new_faults import NEW
from .operations import DAILY, FIRST_TIME, Operation
from .recurring_faults import RECURRING
from .workload import Shop, set_up

SEED = 20260301
LEARN_ROUNDS = 3
PARTS = ("learn.log", "judge.log")
HERE = Path(__file__).parent

Step = Fault | Operation


def schedule(rng: Random) -> tuple[list[Step], list[Step]]:
    """What happens in the part to learn from, and in the part to be judged, in order."""
    learn: list[Step] = []
    for _ in range(LEARN_ROUNDS):
        learn += _shuffled(rng, [*RECURRING, *DAILY])
    judge = _shuffled(rng, [*RECURRING, *NEW, *NEW, *DAILY, *DAILY, *FIRST_TIME])
    return learn, judge


def record() -> tuple[list[Labelled], list[Labelled]]:
    """Run the whole scenario and return the two parts."""
    rng = Random(SEED)
    windows: list[Window] = []
    with Cluster() as cluster:
        _say(f"{cluster.version()}, port {cluster.port}")
        cluster.start()
        set_up(cluster)
        cluster.stop()
        cluster.log.unlink()
        cluster.start()
        learn, judge = schedule(rng)
        with Shop(cluster, SEED):
            _play(cluster, rng, learn, windows)
            boundary = datetime.now(UTC)
            _play(cluster, rng, judge, windows)
        cluster.stop()
        text = cluster.log_text()
    patterns = {fault.kind: fault.patterns for fault in (*RECURRING, *NEW)}
    lines = list(label_lines(join_lines(text), windows, patterns))
    silent = patterns.keys() - {line.label for line in lines}
    if silent:
        raise RecorderError(f"these faults left no line: {', '.join(sorted(silent))}")
    return [line for line in lines if line.time <= boundary], [line for line in lines if line.time > boundary]


def summary(folder: Path) -> str:
    """A Markdown table: how many lines of each kind each part holds."""
    counts = [Counter(line.split(" ", 1)[0] for line in _read(folder / part)) for part in PARTS]
    kinds = [fault.kind for fault in (*RECURRING, *NEW)]
    rows = [f"| `{kind}` | {counts[0][kind]} | {counts[1][kind]} |" for kind in kinds]
    totals = [sum(count.values()) for count in counts]
    odd = [total - count[NORMAL] for total, count in zip(totals, counts, strict=True)]
    shares = [f"{part / total:.1%}" for part, total in zip(odd, totals, strict=True)]
    return "\n".join(
        [
            "| kind of fault | learn.log | judge.log |",
            "|---|---:|---:|",
            *rows,
            f"| all anomalous lines | {odd[0]} ({shares[0]}) | {odd[1]} ({shares[1]}) |",
            f"| all lines | {totals[0]} | {totals[1]} |",
        ]
    )


def review(folder: Path) -> str:
    """Every masked template with its label and how often each part holds it: to be read by a person."""
    counts = [Counter(_split(line) for line in _read(folder / part)) for part in PARTS]
    keys = sorted(set(counts[0]) | set(counts[1]), key=lambda key: (key[1], key[0]))
    return "\n".join(f"{key[0]}\t{counts[0][key]}\t{counts[1][key]}\t{key[1]}" for key in keys)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m examples.postgres.record", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=HERE, help="the folder of the two logs (default: this one)")
    show = parser.add_mutually_exclusive_group()
    show.add_argument("--summary", action="store_true", help="print the table of kinds of the logs that are there")
    show.add_argument("--review", action="store_true", help="print the masked templates of the logs that are there")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.summary or chosen.review:
            print(summary(chosen.out) if chosen.summary else review(chosen.out))
            return 0
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        for part, lines in zip(PARTS, record(), strict=True):
            text = "".join(f"{line.label} {line.line}\n" for line in lines)
            (chosen.out / part).write_text(text)
    except RecorderError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    print(summary(chosen.out))
    return 0


def _shuffled(rng: Random, steps: list[Step]) -> list[Step]:
    return rng.sample(steps, len(steps))


def _play(cluster: Cluster, rng: Random, steps: list[Step], windows: list[Window]) -> None:
    """Run the steps one after the other; a fault's window stays open for its last lines."""
    for step in steps:
        time.sleep(rng.uniform(0.4, 1.6))
        if not isinstance(step, Fault):
            _say(step.__name__)
            step(cluster, rng)
            continue
        _say(f"{step.kind} (fault)")
        begin = datetime.now(UTC)
        step.inject(cluster, rng)
        time.sleep(0.4)
        windows.append(Window(step.kind, begin, datetime.now(UTC)))


def _say(what: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {what}", file=sys.stderr, flush=True)


def _read(path: Path) -> list[str]:
    if not path.exists():
        raise RecorderError(f"{path} is not there: record it first (python -m examples.postgres.record)")
    return path.read_text().splitlines()


def _split(line: str) -> tuple[str, str]:
    label, _, text = line.partition(" ")
    return label, template(text)


if __name__ == "__main__":
    sys.exit(main())
