"""Peak memory of `precedent judge` on ten times the records, of each kind: rows of `benchmarks.speed`.

Texts and sessions are the same ones ten times over, rows of tables are others each time.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from benchmarks import bulk_rows, bulk_texts

if TYPE_CHECKING:
    from benchmarks.speed import Row, Run

_TIMES = 10
_MOST_MEBIBYTES, _MOST = 2_048, 1.2


def rows(folder: Path, count: int, precedent: Callable[..., Run]) -> list[Row]:
    """A row for each kind of file of ``count`` records; the sources are those of `bulk_texts` and `bulk_rows`."""
    texts = bulk_texts.drawn(count // _TIMES, bulk_texts.forms(), random.Random(1))
    labels = ["normal"] * len(texts)
    found: list[Row] = []
    for kind in ("csv", "jsonl", "parquet"):
        small = folder / f"small.{kind}"
        bulk_texts.write(small, kind, texts, labels)
        found.append(_row(folder, small, _repeated(small), "texts", f"texts, {kind}", count, precedent))
    sessions = folder / "small-sessions.jsonl"
    bulk_rows.write_sessions(sessions, count // _TIMES, 2, labelled=False)
    found.append(_row(folder, sessions, _repeated(sessions), "sessions", "sessions", count, precedent))
    table, large = folder / "small.csv", folder / "large.csv"
    bulk_rows.write_table(table, count // _TIMES, 2, labelled=False)
    large.write_bytes(table.read_bytes())
    for seed in range(3, 2 + _TIMES):
        bulk_rows.write_table(large, count // _TIMES, seed, labelled=False, is_more=True)
    found.append(_row(folder, table, large, "flows", "rows of 41 columns", count, precedent))
    return found


def _repeated(small: Path) -> Path:
    large = small.with_name(f"large{small.suffix}")
    if small.suffix == ".parquet":
        pl.scan_parquet([small] * _TIMES).sink_parquet(large)
        return large
    header, _, body = small.read_bytes().partition(b"\n") if small.suffix == ".csv" else (b"", b"", small.read_bytes())
    with large.open("wb") as file:
        file.write(header + b"\n" * bool(header))
        for _ in range(_TIMES):
            file.write(body)
    return large


def _row(
    folder: Path, small: Path, large: Path, source: str, name: str, count: int, precedent: Callable[..., Run]
) -> Row:
    out = folder / "memory-out.jsonl"
    # the first run embeds templates, which later ones have from the cache
    runs = [precedent(folder, "judge", file, "--source", source, "--output", out) for file in (small, small, large)]
    for file in (small, large, out):
        file.unlink()
    _, less, more = (run.memory for run in runs)
    speed = f"{runs[-1].seconds:.1f} s, {count / runs[-1].seconds:,.0f}/s"
    ratio = f"{more / less:.2f} times the memory of a tenth of them (at most {_MOST}, below {_MOST_MEBIBYTES:,} MiB)"
    return f"precedent, {count:,} {name}", speed, ratio, f"{more:,.0f} MiB"
