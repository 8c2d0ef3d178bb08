"""How often drift is reported where there is none, and where there is: many draws of synthetic records.

``python -m benchmarks.drift_alarms [--draws N] [--fits N]``: for each kind of source, cases and records are drawn from
one distribution, the records are judged, and drift is measured; then the records of other draws are shifted.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from agent.core.records import Label, Record
from agent.core.settings import Settings
from agent.pipeline.context import AppContext
from agent.pipeline.pipeline import build
from agent.pipeline.service import judge_many
from agent.training.drift import measure_drift
from agent.training.learn import as_case
from agent.training.proposal import propose
from agent.training.refit import refit

CASES, RECORDS = 300, 300
Labelled = tuple[Record, Label]
Draw = Callable[[np.random.Generator, int], list[Labelled]]
_SUBJECTS = ("disk", "session", "order", "payment", "mail", "cache", "node", "route", "backup", "user")
_VERBS = ("opened", "closed", "checked", "moved", "queued", "refreshed", "lost", "refused", "written", "read")


def table(
    rng: np.random.Generator, n: int, *, level: float = 0.0, ramp: float = 0.0, rate: float = 0.2, country: str = ""
) -> list[Labelled]:
    """Rows of three numbers and a category; anomalous ones are larger in two numbers, and overlap with normal ones."""
    made: list[Labelled] = []
    for i in range(n):
        anomalous = rng.random() < rate
        a, b = rng.normal(1.8 if anomalous else 0.0, 1.0, 2)
        c = rng.lognormal(0.0, 1.0) * np.exp(level + ramp * i / n)
        place = country if country and rng.random() < 0.15 else str(rng.choice(["de", "fr", "it"], p=[0.6, 0.3, 0.1]))
        fields = {"a": round(float(a), 4), "b": round(float(b), 4), "c": round(float(c), 4), "country": place}
        text = " ".join(f"{name} is {value}" for name, value in fields.items())
        made.append((Record(text=text, fields=fields, line=i + 1), "anomalous" if anomalous else "normal"))
    return made


def log(rng: np.random.Generator, n: int, *, new: float = 0.0, rate: float = 0.1) -> list[Labelled]:
    """Lines of 100 templates, frequent and rare ones (Zipf's law); those that lose or refuse are anomalous."""
    templates = [f"{subject} was {verb} by worker" for verb in _VERBS for subject in _SUBJECTS]
    bad = np.array([" lost " in text or " refused " in text for text in templates])
    weights = 1 / (1 + np.random.default_rng(7).permutation(len(templates)))
    weights = np.where(bad, rate * weights / weights[bad].sum(), (1 - rate) * weights / weights[~bad].sum())
    made: list[Labelled] = []
    for i, kind in enumerate(rng.choice(len(templates), n, p=weights)):
        text = f"{templates[kind]} {rng.integers(1000)} in {rng.integers(90)} ms"
        if rng.random() < new:
            text = f"sensor {rng.choice(['north', 'south', 'east', 'west'])} humidity calibration {rng.integers(100)}"
        made.append((Record(text=text, line=i + 1), "anomalous" if bad[kind] else "normal"))
    return made


def shifted_after(draw: Draw, shifted: Draw) -> Draw:
    """The first half of the records drawn as before, the second half shifted."""

    def both(rng: np.random.Generator, n: int) -> list[Labelled]:
        return draw(rng, n // 2) + shifted(rng, n - n // 2)

    return both


SHIFTS: dict[str, dict[str, Draw]] = {
    "table": {
        "none": table,
        "level of one column, 0.7 standard deviations": lambda rng, n: table(rng, n, level=0.7),
        "gradual, 0 to 1.5 standard deviations": lambda rng, n: table(rng, n, ramp=1.5),
        "new category, 15 %": lambda rng, n: table(rng, n, country="xx"),
        "anomalies from 20 to 50 %, half way": shifted_after(table, lambda rng, n: table(rng, n, rate=0.5)),
    },
    "log": {
        "none": log,
        "new templates, 15 %": lambda rng, n: log(rng, n, new=0.15),
        "anomalies from 10 to 30 %, half way": shifted_after(log, lambda rng, n: log(rng, n, rate=0.3)),
    },
}


def alarms(context: AppContext, name: str, labelled: list[Labelled]) -> tuple[list[str], bool]:
    """Which tests report drift after these records alone were judged, and whether something is proposed."""
    context.history.prune(max_rows=0)
    renamed = [record.model_copy(update={"file": "x.log", "line": i + 1}) for i, (record, _) in enumerate(labelled)]
    for _ in judge_many(context, build(context), renamed, name, "none"):
        pass
    proposed = propose(context, name, labels=0).action != "nothing"
    return [test.of for test in measure_drift(context, name).alarms], proposed


def measure(kind: str, fits: int, draws: int) -> None:
    """Print the share of draws with an alarm, for each shift, over ``fits`` casebooks with ``draws`` draws each."""
    found: dict[str, list[list[str]]] = {shift: [] for shift in SHIFTS[kind]}
    proposals = Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        context = AppContext(Settings(home=Path(folder), offline=True, model="none"))
        for number in range(fits):
            rng, name = np.random.default_rng(number), f"{kind}{number}"
            cases = [as_case(record, label) for record, label in SHIFTS[kind]["none"](rng, CASES)]
            context.casebook.add(name, cases, "benchmark")
            context.casebook.sync(name)
            refit(context, name)
            for shift, draw in SHIFTS[kind].items():
                for _ in range(draws if shift == "none" else max(1, draws // 4)):
                    names, proposed = alarms(context, name, draw(rng, RECORDS))
                    found[shift].append(names)
                    proposals[shift] += proposed
        context.close()
    for shift, drawn in found.items():
        tests = Counter(test for names in drawn for test in names)
        share = sum(map(bool, drawn)) / len(drawn)
        by_test = ", ".join(f"{test} {count}" for test, count in tests.most_common())
        print(f"{kind:6} {shift:46} {share:6.1%} of {len(drawn):4}; proposed {proposals[shift]}; {by_test}", flush=True)


def main() -> None:
    """Measure all kinds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=20, help="draws without a shift for each fit")
    parser.add_argument("--fits", type=int, default=10, help="casebooks of each kind")
    options = parser.parse_args()
    for kind in SHIFTS:
        measure(kind, options.fits, options.draws)


if __name__ == "__main__":
    main()
