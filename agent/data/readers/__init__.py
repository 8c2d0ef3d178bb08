"""Streams to records, each with its file and line.

`byte_stream` opens, unpacks and decodes, `format_detection` finds the format, and the reader of that format finds the
rows, of which `row.ReadRequest` makes records. A row that cannot be read is a `RowError`, and the rest is still read; a
file that is wrong as a whole is an `InputError`. Memory stays bounded however long a file or a line is.
"""

from __future__ import annotations

from collections.abc import Iterator

from agent.data.readers.byte_stream import Damaged, Stream
from agent.data.readers.csv import read_csv
from agent.data.readers.format_detection import Format, Kind
from agent.data.readers.jsonl import read_jsonl
from agent.data.readers.log import read_log
from agent.data.readers.row import ParsedRow, ReadRequest, RowError
from agent.data.readers.values import DEFAULT_NORMAL

__all__ = ["DEFAULT_NORMAL", "Format", "Kind", "ParsedRow", "ReadRequest", "RowError", "read_rows"]

_READERS = {"log": read_log, "csv": read_csv, "jsonl": read_jsonl}


def read_rows(stream: Stream, kind: Kind, request: ReadRequest) -> Iterator[ParsedRow | RowError]:
    """The rows of a stream in that format; where it is damaged, the last is a `RowError`.

    Raises
    ------
    InputError
        The stream as a whole cannot be read as ``request`` asks.
    """
    if kind == "parquet":
        # Importing polars costs as much as all the rest.
        from agent.data.readers.parquet import read_parquet as reader
    else:
        reader = _READERS[kind]
    try:
        yield from reader(stream, request)
    except Damaged as damage:
        yield request.row_error(damage.line, damage.reason, stops=True)
