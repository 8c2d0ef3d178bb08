"""The short lines of a bulk run as a Parquet file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from agent.core.writing import writing

T = TypeVar("T")


def as_parquet(path: Path, run: Callable[[Path, Callable[[Any], None]], T]) -> T:
    """Write a run's short lines as a Parquet file.

    Parameters
    ----------
    path : Path
        The Parquet file; the file of templates is beside it.
    run : callable
        Takes the path for the short lines, and a function to call when they are all written.

    Returns
    -------
    object
        What ``run`` returns.
    """
    import polars as pl

    beside = path.with_name(path.name + ".jsonl")
    texts, reasons = pl.String, pl.List(pl.String)
    schema = {"file": texts, "line": pl.Int64, "label": texts, "probability": pl.Float64, "template": texts}

    def convert(_: Any) -> None:
        with writing(path, "then the same command with --resume continues"):
            pl.scan_ndjson(beside, schema={**schema, "degraded": reasons}).sink_parquet(path)

    result = run(beside, convert)
    beside.unlink()
    beside.with_name(beside.name + ".templates.jsonl").replace(path.with_name(path.name + ".templates.jsonl"))
    return result
