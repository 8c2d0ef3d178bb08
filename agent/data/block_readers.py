"""The reader in blocks of each format."""

from __future__ import annotations

from agent.data.blocks import BlockTable
from agent.data.chunks import SIZE
from agent.data.csv_blocks import open_csv_blocks
from agent.data.jsonl_blocks import open_jsonl_blocks
from agent.data.parquet_blocks import open_parquet_blocks
from agent.data.readers.byte_stream import Stream
from agent.data.readers.format_detection import Kind
from agent.data.readers.row import ReadRequest


def open_blocks(stream: Stream, kind: Kind, request: ReadRequest, size: int = SIZE) -> BlockTable | None:
    """A table in blocks of ``size`` bytes; None if its format is read one by one, or it has no rows."""
    if kind == "csv":
        return open_csv_blocks(stream, request, size)
    if kind == "jsonl":
        return open_jsonl_blocks(stream, request, size)
    return open_parquet_blocks(stream, request) if kind == "parquet" else None
