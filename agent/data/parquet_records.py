"""Parquet in parts: rows of numbers, texts and booleans by the block, and sessions; others one by one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from agent.data.jsonl_records import table_block, table_of
from agent.data.readers.byte_stream import Damaged, Stream
from agent.data.readers.format_detection import PARQUET_MAGIC
from agent.data.readers.jsonl import EVENTS, parse_object
from agent.data.readers.parquet import FAILURES, first_line, on_disk
from agent.data.readers.row import ReadRequest
from agent.data.readers.table_rows import with_columns
from agent.data.record_parts import Items, RecordPart, noted

_BATCH = 10_000
_WHOLE = {pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64}
_PLAIN = frozenset({pl.String, pl.Boolean, pl.Null, pl.Float32, pl.Float64, *_WHOLE})
_IRREGULAR = r"[\x00\r\x1b-\x1f\x{feff}]"


def read_parquet_parts(stream: Stream, request: ReadRequest) -> Iterator[RecordPart | Items]:
    """The rows of `agent.data.readers.parquet.read_parquet` in order, by the block where that is possible."""
    if not stream.starts_with(PARQUET_MAGIC):
        raise request.file_error("is not Parquet (it does not begin with PAR1)")
    with on_disk(stream, request) as path:
        try:
            frame = pl.scan_parquet(path, glob=False)
            schema = frame.collect_schema()
            first = frame.head(1).collect().to_dicts()
        except FAILURES as error:
            raise request.file_error(f"is not Parquet that can be read: {first_line(error)}") from error
        request = with_columns(request, schema.names(), first[0] if first else None)
        yield from noted(_parts(frame, schema, request), request)


def _parts(frame: pl.LazyFrame, schema: pl.Schema, request: ReadRequest) -> Iterator[RecordPart | Items]:
    line, is_session = 1, schema.get(EVENTS) == pl.List(pl.String)
    is_plain = all(dtype in _PLAIN for name, dtype in schema.items() if not (is_session and name == EVENTS))
    try:
        for batch in frame.collect_batches(chunk_size=_BATCH, maintain_order=True):
            part: RecordPart | None = None
            if is_plain and not _is_odd(batch):
                lines = np.arange(line, line + len(batch))
                part = (
                    table_of(batch.to_dicts(), request, line, ids=())
                    if is_session
                    else table_block(batch, request, lines, ids=())
                )
            yield part or [
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
    return any(column.str.contains(_IRREGULAR).any() for column in texts)
