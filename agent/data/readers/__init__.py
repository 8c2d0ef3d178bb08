"""Streams to records, each with its file and line.

`byte_stream` opens, unpacks and decodes, `format_detection` finds the format, and the reader of that format finds the
rows, of which `row.ReadRequest` makes records. A row that cannot be read is a `RowError`, and the rest is still read; a
file that is wrong as a whole is an `InputError`. Memory stays bounded however long a file or a line is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from agent.data.readers.byte_stream import Damaged, Stream
from agent.data.readers.format_detection import Format, Kind
from agent.data.readers.row import ParsedRow, ReadRequest, RowError
from agent.data.readers.values import DEFAULT_NORMAL

__all__ = ["DEFAULT_NORMAL", "Format", "Kind", "ParsedRow", "ReadRequest", "RowError", "read_rows"]


def read_rows(stream: Stream, kind: Kind, request: ReadRequest) -> Iterator[ParsedRow | RowError]:
    """The rows of a stream in that format; where it is damaged, the last is a `RowError`.

    Raises
    ------
    InputError
        The stream as a whole cannot be read as ``request`` asks.
    """
    try:
        yield from _reader(kind)(stream, request)
    except Damaged as damage:
        yield request.row_error(damage.line, damage.reason, stops=True)


def _reader(kind: Kind) -> Callable[[Stream, ReadRequest], Iterator[ParsedRow | RowError]]:
    # each is imported when it is needed: a command that reads one line takes little longer than its imports
    if kind == "csv":
        from agent.data.readers.csv import read_csv

        return read_csv
    if kind == "jsonl":
        from agent.data.readers.jsonl import read_jsonl

        return read_jsonl
    if kind == "parquet":
        from agent.data.readers.parquet import read_parquet

        return read_parquet
    from agent.data.readers.log import read_log

    return read_log
