"""Parquet, batch by batch; the line of a record is the number of its row."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from agent.data.readers.byte_stream import Damaged, Stream
from agent.data.readers.format_detection import PARQUET_MAGIC
from agent.data.readers.jsonl import parse_object
from agent.data.readers.row import ParsedRow, ReadRequest, RowError
from agent.data.readers.table_rows import with_columns

_BATCH, _MICROSECONDS = 10_000, 1_000_000
# rows, and values, that are read at once
_MOST_ROWS, _MOST_VALUES = 262_144, 4 << 20
# what part of them is tried where reading fails
_SMALLER = 8
# Rust panics, which some damaged files cause, are not an `Exception`.
FAILURES = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)


def read_parquet(stream: Stream, request: ReadRequest) -> Iterator[ParsedRow | RowError]:
    """Each row; nested columns are flattened, and a column of lists named ``events`` makes sessions, as in JSON."""
    with opened_frame(stream, request) as (frame, _, of_file):
        yield from of_file.noting(_rows(frame, of_file))


@contextmanager
def opened_frame(stream: Stream, request: ReadRequest) -> Iterator[tuple[pl.LazyFrame, pl.Schema, ReadRequest]]:
    """The rows of a file, the types of its columns, and the request for them; durations are seconds.

    Raises
    ------
    InputError
        It is not Parquet, or lacks columns.
    """
    if not stream.starts_with(PARQUET_MAGIC):
        raise request.file_error("is not Parquet (it does not begin with PAR1)")
    with _on_disk(stream, request) as path:
        try:
            frame = pl.scan_parquet(path, glob=False)
            durations = [name for name, dtype in frame.collect_schema().items() if dtype == pl.Duration]
            frame = frame.with_columns(pl.col(durations).dt.total_microseconds() / _MICROSECONDS)
            schema = frame.collect_schema()
            first = frame.head(1).collect().to_dicts()
        except FAILURES as error:
            raise request.file_error(f"is not Parquet that can be read: {first_line(error)}") from error
        yield frame, schema, with_columns(request, schema.names(), first[0] if first else None)


def _rows(frame: pl.LazyFrame, request: ReadRequest) -> Iterator[ParsedRow | RowError]:
    line = 0
    try:
        for batch in batches(frame, _BATCH):
            for row in batch.iter_rows(named=True):
                line += 1
                yield parse_object(request, line, row, ids=())
    except FAILURES as error:
        raise Damaged(f"cannot be read any further: {first_line(error)}", line + 1) from error


def batches(frame: pl.LazyFrame, size: int) -> Iterator[pl.DataFrame]:
    """The rows of a file, at most ``size`` at a time.

    `polars.LazyFrame.collect_batches` reads ahead the more the larger the file is.
    """
    step = max(size, min(_MOST_ROWS, _MOST_VALUES // max(1, len(frame.collect_schema()))))
    start = 0
    while True:
        try:
            rows = frame.slice(start, step).collect()
        except FAILURES:
            # what comes before the damage is read
            if step == 1:
                raise
            step = max(1, step // _SMALLER)
            continue
        if not len(rows):
            return
        yield from rows.iter_slices(size)
        start += step


def row_count(path: Path) -> int:
    """How many rows a file has; 0 if it cannot be read."""
    try:
        return int(pl.scan_parquet(path, glob=False).select(pl.len()).collect().item())
    except FAILURES:
        return 0


@contextmanager
def _on_disk(stream: Stream, request: ReadRequest) -> Iterator[Path]:
    """The path of a file with the stream's bytes: Parquet is read from its end, so a pipe must be stored first."""
    if stream.path is not None:
        yield stream.path
        return
    with tempfile.NamedTemporaryFile(suffix=".parquet") as spool:
        try:
            for chunk in stream:
                spool.write(chunk)
        except Damaged as damage:
            raise request.file_error(damage.reason) from damage
        spool.flush()
        yield Path(spool.name)


def first_line(error: BaseException) -> str:
    """What is said of an error in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
