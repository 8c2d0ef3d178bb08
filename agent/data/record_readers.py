"""Files of records with fields or events, in parts: the reader of each format."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, groupby

import numpy as np

from agent.data.blocks import Block, BlockTable, line_of
from agent.data.csv_blocks import blocks_of
from agent.data.jsonl_records import read_jsonl_parts
from agent.data.parquet_records import read_parquet_parts
from agent.data.readers.byte_stream import Damaged, Stream
from agent.data.readers.csv import open_table
from agent.data.readers.csv_rows import LONGEST_LINE
from agent.data.readers.format_detection import Kind
from agent.data.readers.lines import split_lines
from agent.data.readers.row import ReadRequest
from agent.data.record_parts import Items, RecordPart, in_lists, with_more_notes
from agent.data.table_block import TableBlock

# slices of one block, beyond which its rows are read one by one
_MOST_SLICES = 64


def read_parts(stream: Stream, kind: Kind, request: ReadRequest) -> Iterator[RecordPart | Items]:
    """As `agent.data.readers.read_rows`, in parts, of a table or of sessions."""
    reader = {"csv": _csv_parts, "jsonl": read_jsonl_parts, "parquet": read_parquet_parts}[kind]
    try:
        yield from reader(stream, request)
    except Damaged as damage:
        yield [request.row_error(damage.line, damage.reason, stops=True)]


def _csv_parts(stream: Stream, request: ReadRequest) -> Iterator[RecordPart | Items]:
    table = open_table(stream, request)
    if table is None:
        return
    if len(table.columns) < 2 or request.raw or not request.lenient:
        rows = chain.from_iterable(map(table.read, table.split(split_lines(stream, LONGEST_LINE))))
        yield from in_lists(table.request.noting(chain(rows, table.finish())))
        return
    blocks = blocks_of(table, stream)
    # the last one may get more notes
    last: RecordPart | Items | None = None
    for block in blocks.blocks:
        notes = block.notes
        for part in _in_order(block, blocks):
            if last is not None:
                yield last
            last, notes = with_more_notes(part, notes), []
        if last is not None:
            last = with_more_notes(last, notes)
    if last is not None:
        yield last


def _in_order(block: Block, table: BlockTable) -> Iterator[RecordPart | Items]:
    """The rows of a block in the order of their lines."""
    frame = TableBlock(table.request, block.frame, tuple(table.columns), table.time, block.lines)
    places = np.searchsorted(block.lines, [line_of(row) for row in block.rest])
    if len(np.unique(places)) > _MOST_SLICES:
        yield sorted([*frame.rows(), *block.rest], key=line_of)
        return
    start = 0
    for place, rows in groupby(zip(places.tolist(), block.rest, strict=True), lambda pair: pair[0]):
        if place > start:
            yield frame.slice(start, place - start)
        yield [row for _, row in rows]
        start = place
    if start < len(frame):
        yield frame.slice(start)
