"""Parquet, batch by batch; the line of a record is the number of its row."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from agent.data.readers.blocks import IRREGULAR_TEXT, Block, Items, noted
from agent.data.readers.byte_stream import Damaged, Stream
from agent.data.readers.format_detection import PARQUET_MAGIC
from agent.data.readers.json_blocks import table_block, table_of
from agent.data.readers.jsonl import EVENTS, parse_object
from agent.data.readers.row import ParsedRow, ReadRequest, RowError
from agent.data.readers.table_rows import with_columns

_BATCH = 10_000
_WHOLE = {pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64}
_PLAIN = frozenset({pl.String, pl.Boolean, pl.Null, pl.Float32, pl.Float64, *_WHOLE})
# Rust panics, which some damaged files cause, are not an `Exception`.
FAILURES = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)


def read_parquet(stream: Stream, request: ReadRequest) -> Iterator[ParsedRow | RowError]:
    """Each row; nested columns are flattened, and a column of lists named ``events`` makes sessions, as in JSON."""
    with _scanned(stream, request) as (frame, matched):
        yield from matched.noting(_rows(frame, matched))


def read_parquet_blocks(stream: Stream, request: ReadRequest) -> Iterator[Block | Items]:
    """The rows of `read_parquet` in order, by the block where columns are of numbers, texts and booleans."""
    with _scanned(stream, request) as (frame, matched):
        yield from noted(_blocks(frame, matched), matched)


@contextmanager
def _scanned(stream: Stream, request: ReadRequest) -> Iterator[tuple[pl.LazyFrame, ReadRequest]]:
    """The file, and the request for its columns."""
    if not stream.starts_with(PARQUET_MAGIC):
        raise request.file_error("is not Parquet (it does not begin with PAR1)")
    with on_disk(stream, request) as path:
        try:
            frame = pl.scan_parquet(path, glob=False)
            schema = frame.collect_schema()
            first = frame.head(1).collect().to_dicts()
        except FAILURES as error:
            raise request.file_error(f"is not Parquet that can be read: {first_line(error)}") from error
        yield frame, with_columns(request, schema.names(), first[0] if first else None)


def _blocks(frame: pl.LazyFrame, request: ReadRequest) -> Iterator[Block | Items]:
    line, schema = 1, frame.collect_schema()
    is_session = schema.get(EVENTS) == pl.List(pl.String)
    is_plain = all(dtype in _PLAIN for name, dtype in schema.items() if not (is_session and name == EVENTS))
    try:
        for batch in frame.collect_batches(chunk_size=_BATCH):
            block: Block | None = None
            if is_plain and not _is_odd(batch):
                rows = batch.to_dicts() if is_session else ()
                block = table_of(rows, request, line, ids=()) if rows else table_block(batch, request, line, ids=())
            yield block or [
                parse_object(request, number, row, ids=())
                for number, row in enumerate(batch.iter_rows(named=True), start=line)
            ]
            line += len(batch)
    except FAILURES as error:
        raise Damaged(f"cannot be read any further: {first_line(error)}", line) from error


def _is_odd(batch: pl.DataFrame) -> bool:
    """Whether a text has characters that are removed or replaced."""
    texts = [column for column in batch if column.dtype == pl.String]
    texts += [column.explode() for column in batch if column.dtype == pl.List(pl.String)]
    return any(column.str.contains(IRREGULAR_TEXT).any() for column in texts)


def _rows(frame: pl.LazyFrame, request: ReadRequest) -> Iterator[ParsedRow | RowError]:
    line = 0
    try:
        for batch in frame.collect_batches(chunk_size=_BATCH):
            for row in batch.iter_rows(named=True):
                line += 1
                yield parse_object(request, line, row, ids=())
    except FAILURES as error:
        raise Damaged(f"cannot be read any further: {first_line(error)}", line + 1) from error


@contextmanager
def on_disk(stream: Stream, request: ReadRequest) -> Iterator[Path]:
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
