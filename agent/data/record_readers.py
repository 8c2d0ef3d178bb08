"""Files of records with fields or events, in parts: the reader of each format."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from agent.data.csv_blocks import blocks_of
from agent.data.jsonl_records import read_jsonl_parts
from agent.data.parquet_records import read_parquet_parts
from agent.data.readers.byte_stream import Damaged, Stream
from agent.data.readers.csv import open_table
from agent.data.readers.csv_rows import LONGEST_LINE
from agent.data.readers.format_detection import Kind
from agent.data.readers.lines import split_lines
from agent.data.readers.row import ReadRequest
from agent.data.record_parts import Items, RecordPart, in_lists, mixed, with_more_notes
from agent.data.table_block import TableBlock


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
        table_block = TableBlock.of(blocks.request, block.frame, blocks.columns, blocks.time, block.lines)
        part = mixed(table_block, block.rest)
        if len(part):
            if last is not None:
                yield last
            last, notes = with_more_notes(part, notes), []
        if last is not None:
            last = with_more_notes(last, notes)
    if last is not None:
        yield last
