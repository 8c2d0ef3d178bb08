"""JSON lines by the block: objects of the same keys with plain values; others as `agent.data.readers.jsonl` does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from agent.core.errors import InputError
from agent.data.chunks import read_chunks
from agent.data.readers.byte_stream import Damaged, Stream
from agent.data.readers.columns import time_column
from agent.data.readers.json_document import is_value_a_line
from agent.data.readers.jsonl import (
    EVENTS,
    IDS,
    as_log_object,
    checked,
    columns_of_records,
    lines_to_elements,
    note_beside_events,
    read_jsonl,
    rows_of_elements,
)
from agent.data.readers.row import ReadRequest
from agent.data.record_parts import Items, RecordPart, in_lists, noted
from agent.data.session_rows import SessionRows, session_rows
from agent.data.table_block import TableBlock

# bytes of a block
_SIZE = 4 << 20
# beside NUL what is removed from texts, white space that only Python knows, and marks of byte order
_CHANGED = re.compile(rb"[\0\r\x1b-\x1f]|\xef\xbb\xbf")
# the same as JSON spells them; lines that may be parts of one
_IRREGULAR = re.compile(rb"\\u(?:00(?:00|1[b-f])|d[89a-f]|feff)", re.IGNORECASE)
_PART = b'"log"'
# a name whose value may tell that an object is a line of a log
_KIND = "kind"
_DTYPES: dict[frozenset[type], Any] = {
    frozenset(): pl.String,
    frozenset({str}): pl.String,
    frozenset({int}): pl.Int64,
    frozenset({float}): pl.Float64,
    frozenset({int, float}): pl.Float64,
    frozenset({bool}): pl.Boolean,
}


def read_jsonl_parts(stream: Stream, request: ReadRequest) -> Iterator[RecordPart | Items]:
    """The records of `agent.data.readers.jsonl.read_jsonl` in order, by the block where they are regular."""
    if not is_value_a_line(stream):
        yield from in_lists(read_jsonl(stream, request))
        return
    chunks = (chunk.data for chunk in read_chunks(stream, size=_SIZE))
    if (first := next(chunks, None)) is None:
        return
    elements = lines_to_elements(Stream(iter([first])), columns_of_records(request))
    try:
        elements, matched = checked(elements, request)
        element = next(elements, None)
        is_table = element is not None and as_log_object(element.value, matched) is None
    except InputError:
        is_table = False
    data = chain([first], chunks)
    if is_table:
        yield from noted(_in_order(data, matched), matched)
    else:
        yield from in_lists(read_jsonl(Stream(data), request))


def _in_order(chunks: Iterator[bytes], request: ReadRequest) -> Iterator[RecordPart | Items]:
    number, columns, named = 1, columns_of_records(request), set[str]()
    try:
        for chunk in chunks:
            block = _block(chunk, request, number)
            if isinstance(block, SessionRows):
                notes = note_beside_events(block.values[0], request, named)
                yield replace(block, notes=[(number, note) for note in notes])
            elif block is not None:
                yield block
            else:
                # what comes after the first part of a line may be its rest
                data = chain([chunk], chunks) if _PART in chunk else [chunk]
                elements = lines_to_elements(Stream(iter(data)), columns, number)
                yield from in_lists(rows_of_elements(elements, request, named))
            number += chunk.count(b"\n")
    except Damaged as damage:
        raise Damaged(damage.reason, damage.line or number) from damage


def _block(data: bytes, request: ReadRequest, first: int) -> RecordPart | None:
    """The block of some lines, the first of which has that number; None if they are not regular."""
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n")
    if _CHANGED.search(data) or (b"\\u" in data and _IRREGULAR.search(data)):
        return None
    try:
        values = [json.loads(line) for line in data.decode().removesuffix("\n").split("\n")]
    except (ValueError, RecursionError):
        return None
    return table_of(values, request, first, ids=IDS)


def table_of(values: Sequence[Any], request: ReadRequest, first: int, *, ids: Sequence[str]) -> RecordPart | None:
    """The block of objects, the first of which is on that line; None if they are no rows of one table, and no sessions.

    ``ids``: as of `agent.data.readers.jsonl.parse_object`.
    """
    if not values or not isinstance(values[0], dict):
        return None
    names = tuple(values[0])
    if not all(isinstance(value, dict) and tuple(value) == names for value in values):
        return None
    if EVENTS in names:
        return session_rows(values, request, first, ids=ids)
    series = [_series(name, [value[name] for value in values]) for name in names]
    if any(column is None for column in series):
        return None
    return table_block(pl.DataFrame(series), request, np.arange(first, first + len(values)), ids=ids)


def table_block(
    cells: pl.DataFrame, request: ReadRequest, lines: NDArray[np.int64], *, ids: Sequence[str]
) -> TableBlock | None:
    """The block of rows on these lines, shape (n,); None if they are no records of several fields."""
    if _KIND in cells.columns or not len(cells):
        return None
    learned = request.with_learned_names(dict.fromkeys(cells.columns))
    request = request.restricted_to(learned)
    columns = request.columns_of(tuple(learned), request.table.excluded(ids))
    is_table = len(columns) > 1 and request.table.text_column is None and request.lenient and not request.raw
    if not is_table or len(learned) < cells.width or as_log_object(cells.row(0, named=True), request) is not None:
        return None
    return TableBlock(
        request,
        cells.rename(dict(zip(cells.columns, learned, strict=True))),
        tuple(columns),
        time_column(learned),
        lines,
    )


def _series(name: str, values: list[Any]) -> pl.Series | None:
    """The values of a column; None if they are of several types, or not plain."""
    types = frozenset(map(type, values)) - {type(None)}
    dtype = _DTYPES.get(types)
    if dtype is None or (types == {int, float} and time_column([name])):
        return None
    try:
        return pl.Series(name, values, dtype)
    except (OverflowError, TypeError, pl.exceptions.PolarsError):
        return None
