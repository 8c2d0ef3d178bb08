"""Parquet in parts: rows of numbers, texts and booleans by the block, and sessions; others one by one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from agent.data.jsonl_records import table_block, table_of
from agent.data.readers.byte_stream import Damaged, Stream
from agent.data.readers.jsonl import EVENTS, parse_object
from agent.data.readers.parquet import FAILURES, first_line, opened_frame
from agent.data.readers.row import ReadRequest
from agent.data.record_parts import Items, RecordPart, noted

_BATCH = 10_000
_WHOLE = {pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64}
_PLAIN = frozenset({pl.String, pl.Boolean, pl.Null, pl.Float32, pl.Float64, *_WHOLE})
_IRREGULAR = r"[\x00\r\x1b-\x1f\x{feff}]"


def read_parquet_parts(stream: Stream, request: ReadRequest) -> Iterator[RecordPart | Items]:
    """The rows of `agent.data.readers.parquet.read_parquet` in order, by the block where that is possible."""
    with opened_frame(stream, request) as (frame, schema, of_file):
        yield from noted(_parts(frame, schema, of_file), of_file)


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
