"""The reader by the block of each format."""

from __future__ import annotations

from collections.abc import Iterator

from agent.data.readers.blocks import Block, Items
from agent.data.readers.byte_stream import Damaged, Stream
from agent.data.readers.csv_blocks import read_csv_blocks
from agent.data.readers.format_detection import Kind
from agent.data.readers.json_blocks import read_jsonl_blocks
from agent.data.readers.parquet import read_parquet_blocks
from agent.data.readers.row import ReadRequest

_READERS = {"csv": read_csv_blocks, "jsonl": read_jsonl_blocks, "parquet": read_parquet_blocks}


def read_blocks(stream: Stream, kind: Kind, request: ReadRequest) -> Iterator[Block | Items]:
    """As `agent.data.readers.read_rows`, in order and many together, of a table."""
    try:
        yield from _READERS[kind](stream, request)
    except Damaged as damage:
        yield [request.row_error(damage.line, damage.reason, stops=True)]
