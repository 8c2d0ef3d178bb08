"""Rows of `make bench-speed` on tables and sessions, each beside its floor in the same run.

Tables of 41 columns are judged by `precedent judge`, and by scikit-learn's forest on columns that polars has read.
Sessions are judged by the command, and grouped and counted by polars. The floors are timed without their imports and
the fit of the forest, the command as a whole process.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import polars as pl

_NUMBERS, _CATEGORIES, _CASES, _ANOMALOUS = 35, 6, 500, 0.1
_TURNS = 2
_FOREST = """
import sys, time, polars as pl
from sklearn.ensemble import RandomForestClassifier
def encoded(path):
    rows = pl.read_csv(path)
    return rows, rows.to_dummies([name for name in rows.columns if name.startswith("category")])
cases, x = encoded(sys.argv[1])
names = [name for name in x.columns if not name.startswith("label")]
forest = RandomForestClassifier(200, min_samples_leaf=5, random_state=0, n_jobs=1)
forest.fit(x.select(names).to_numpy(), cases["label"].to_numpy())
started = time.monotonic()
rows, x = encoded(sys.argv[2])
share = forest.predict_proba(x.select(names).to_numpy())[:, 0]
lines = rows.select(line=pl.int_range(2, pl.len() + 2)).with_columns(label=pl.lit("normal"), probability=share)
lines.write_ndjson(sys.argv[3])
print(time.monotonic() - started)
"""
_COUNT = """
import sys, time, polars as pl
started = time.monotonic()
sessions = pl.read_ndjson(sys.argv[1]).with_row_index("line", 1)
counts = sessions.explode("events").group_by("line", "events").agg(pl.len())
lines = sessions.select("line", label=pl.lit("normal"), probability=pl.lit(0.01))
lines.write_ndjson(sys.argv[2])
print(time.monotonic() - started)
"""
Row = tuple[str, str, str, str]


class Run(Protocol):
    """A process that has ended."""

    @property
    def seconds(self) -> float:
        """From its start to its end."""

    @property
    def memory(self) -> float:
        """Its peak memory in MiB."""


def rows_of_tables(folder: Path, precedent: Callable[..., Run], count: int) -> list[Row]:
    """A table of ``count`` rows; ``precedent`` runs the command in the folder."""
    cases, rows = folder / "cases.csv", folder / "rows.csv"
    write_table(cases, _CASES, 1, labelled=True)
    write_table(rows, count, 2, labelled=False)
    precedent(folder, "learn", cases, "--source", "flows", "--label", "label", "--brief", "network flows")
    judge = "judge", rows, "--source", "flows", "--output", folder / "rows.jsonl"
    return _beside(f"table, {_NUMBERS + _CATEGORIES} columns, {count:,} rows", "rows", count, precedent, folder, judge,
                   "scikit-learn's forest and polars", _FOREST, cases, rows, folder / "floor.jsonl")  # fmt: skip


def rows_of_sessions(folder: Path, precedent: Callable[..., Run], count: int) -> list[Row]:
    """``count`` sessions; see `rows_of_tables`."""
    cases, rows = folder / "cases.jsonl", folder / "sessions.jsonl"
    write_sessions(cases, _CASES, 1, labelled=True)
    write_sessions(rows, count, 2, labelled=False)
    precedent(folder, "learn", cases, "--source", "sessions", "--label", "label", "--brief", "sessions")
    judge = "judge", rows, "--source", "sessions", "--output", folder / "out-sessions.jsonl"
    return _beside(f"sessions, {count:,}", "sessions", count, precedent, folder, judge,
                   "polars, grouped and counted", _COUNT, rows, folder / "floor.jsonl")  # fmt: skip


def _beside(
    name: str,
    unit: str,
    count: int,
    precedent: Callable[..., Run],
    folder: Path,
    judge: tuple[object, ...],
    floor_name: str,
    floor: str,
    *arguments: Path,
) -> list[Row]:
    turns = [(_seconds(floor, *arguments), precedent(folder, *judge)) for _ in range(_TURNS)]
    least = min(seconds for seconds, _ in turns)
    best = min((run for _, run in turns), key=lambda run: run.seconds)
    return [
        (f"floor: {floor_name}, {name}", f"{least:.1f} s, {count / least:,.0f} {unit}/s", "1", ""),
        (
            f"precedent, {name}",
            f"{best.seconds:.1f} s, {count / best.seconds:,.0f} {unit}/s",
            f"{least / best.seconds:.2g}",
            f"{best.memory:,.0f} MiB",
        ),
    ]


def _seconds(code: str, *arguments: Path) -> float:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return float(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout)


def write_table(path: Path, count: int, seed: int, *, labelled: bool, is_more: bool = False) -> None:
    """Write ``count`` rows, a tenth of them anomalous; after those of the file if there ``is_more``."""
    rng = np.random.default_rng(seed)
    bad = rng.random(count) < _ANOMALOUS
    kinds: list[Callable[[int], np.ndarray]] = [
        lambda j: rng.normal(10 * j + 3 * bad, 2).round(3),
        lambda j: rng.poisson(20 + 10 * bad),
        lambda j: rng.lognormal(3 + 0.8 * bad, 1).round(2),
        lambda j: (rng.random(count) < 0.3 + 0.2 * bad).astype(int),
        lambda j: rng.random(count).round(4),
    ]
    columns: dict[str, object] = {f"number_{j}": kinds[j % len(kinds)](j) for j in range(_NUMBERS)}
    for j in range(_CATEGORIES):
        values = [f"kind_{j}_{i}" for i in range(3 + 4 * j)]
        columns[f"category_{j}"] = [values[i] for i in rng.integers(0, len(values), count)]
    frame = pl.DataFrame(columns)
    frame = frame.with_columns(label=pl.Series(np.where(bad, "attack", "normal"))) if labelled else frame
    with path.open("ab" if is_more else "wb") as file:
        frame.write_csv(file, include_header=not is_more)


def write_sessions(path: Path, count: int, seed: int, *, labelled: bool) -> None:
    """Write ``count`` sessions, a tenth of them anomalous."""
    rng = random.Random(seed)
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            bad = rng.random() < _ANOMALOUS
            events = [f"login of user {rng.randint(1, 99)}"]
            for _ in range(rng.randint(1, 8)):
                events += ["open file", rng.choice(["read", "write", "seek"]), f"wait {rng.randint(1, 9)} ms"]
            events += ["error in close"] * bad + ["close", "logout"]
            row = {"id": number, "events": events}
            file.write(json.dumps({**row, "label": "attack" if bad else "normal"} if labelled else row) + "\n")
