"""Parquet in parts: rows of numbers, texts and booleans by the block, and sessions; others one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from agent.data.jsonl_records import table_block
from agent.data.readers.byte_stream import Damaged, Stream
from agent.data.readers.jsonl import EVENTS, parse_object
from agent.data.readers.parquet import FAILURES, batches, first_line, opened_frame
from agent.data.readers.row import ReadRequest
from agent.data.record_parts import Items, RecordPart, mixed, noted
from agent.data.session_rows import SessionRows, session_rows
from agent.data.table_block import TableBlock

# two blocks of those that are judged together
_BATCH = 16_384
_WHOLE = {pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64}
_PLAIN = frozenset({pl.String, pl.Boolean, pl.Null, pl.Float32, pl.Float64, *_WHOLE})
_EVENTS = pl.List(pl.String)
_IRREGULAR = r"[\x00\r\x1b-\x1f\x{feff}]"


def read_parquet_parts(stream: Stream, request: ReadRequest) -> Iterator[RecordPart | Items]:
    """The rows of `agent.data.readers.parquet.read_parquet` in order, by the block where that is possible."""
    with opened_frame(stream, request) as (frame, schema, of_file):
        yield from noted(_parts(frame, schema, of_file), of_file)


def _parts(frame: pl.LazyFrame, schema: pl.Schema, request: ReadRequest) -> Iterator[RecordPart | Items]:
    line, is_session = 1, schema.get(EVENTS) == _EVENTS
    is_plain = all(dtype in _PLAIN for name, dtype in schema.items() if not (is_session and name == EVENTS))
    try:
        for batch in batches(frame, _BATCH):
            lines, odd = np.arange(line, line + len(batch)), _are_odd(batch)
            regular = batch.filter(pl.Series(~odd))
            block: TableBlock | SessionRows | None = None
            if is_plain and is_session:
                block, kept = session_rows(regular.get_column(EVENTS), _values(regular), request, lines[~odd], ids=())
                odd[np.flatnonzero(~odd)[~kept]] = True
            elif is_plain:
                block = table_block(regular, request, lines[~odd], ids=())
            others = np.flatnonzero(odd) if block is not None else np.arange(len(batch))
            rows = [
                parse_object(request, number, row, ids=())
                for number, row in zip(lines[others].tolist(), batch[others].iter_rows(named=True), strict=True)
            ]
            yield rows if block is None else mixed(block, rows)
            line += len(batch)
    except FAILURES as error:
        raise Damaged(f"cannot be read any further: {first_line(error)}", line) from error


def _values(batch: pl.DataFrame) -> Callable[[int], dict[str, Any]]:
    return lambda index: batch.row(index, named=True)


def _are_odd(batch: pl.DataFrame) -> NDArray[np.bool_]:
    """In which of n rows a text has characters that are removed or replaced, shape (n,)."""
    odd = [pl.col(name).str.contains(_IRREGULAR) for name, dtype in batch.schema.items() if dtype == pl.String]
    of_element = pl.element().str.contains(_IRREGULAR).any()
    odd += [pl.col(name).list.eval(of_element).list.any() for name, dtype in batch.schema.items() if dtype == _EVENTS]
    if not odd:
        return np.zeros(len(batch), bool)
    return batch.select(pl.any_horizontal(odd).fill_null(value=False)).to_series().to_numpy().copy()
