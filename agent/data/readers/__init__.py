"""Files and streams to records, each with its file and line.

The way of the bytes: :mod:`streams` opens, unpacks and makes UTF-8 of them, :mod:`sniffing` says what they
hold, one of :mod:`logs`, :mod:`tables`, :mod:`objects` and :mod:`parquet` finds the rows, and
:class:`~agent.data.readers.row.Request` makes a reading of each.

What cannot be read is never dropped and never guessed: a bad row is an :class:`RowError` and the rest is
still read; a file that is wrong as a whole is an :class:`~agent.core.errors.InputError`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from agent.core.errors import InputError
from agent.data.readers.byte_stream import Damaged, Stream, opened
from agent.data.readers.csv import read_table
from agent.data.readers.format_detection import Kind, detect
from agent.data.readers.jsonl import read_objects
from agent.data.readers.log import read_log
from agent.data.readers.row import Format, ParsedRow, ReadRequest, RowError
from agent.data.readers.values import DEFAULT_NORMAL

__all__ = ["DEFAULT_NORMAL", "Format", "ParsedRow", "RowError", "read"]

_SHORTEST_MAX_CHARS = 64


def read(
    path: str | Path,
    *,
    format: Format = "auto",
    text: Sequence[str] = (),
    label: str | None = None,
    normal: Sequence[str] = DEFAULT_NORMAL,
    max_chars: int = 65_536,
    lenient: bool = False,
    stdin: BinaryIO | None = None,
) -> Iterator[ParsedRow | RowError]:
    """Read the records of one file, or of standard input when ``path`` is ``-``.

    ``text`` and ``label`` name columns (numbers where the file has no header). A label listed in ``normal``
    is normal, any other is anomalous. With ``lenient`` they are columns that another file of the source had:
    those that this one lacks are left out, and an empty label is no fault. A text longer than ``max_chars``
    loses its middle, and a note says so.

    Memory stays bounded however long the file or one of its lines is. Raises
    :class:`~agent.core.errors.InputError`, at the first ``next()``, for what is wrong with the file as a whole.
    """
    if max_chars < _SHORTEST_MAX_CHARS:
        raise ValueError(f"max_chars must be at least {_SHORTEST_MAX_CHARS}, not {max_chars}")
    request = ReadRequest.of(path, text=text, label=label, normal=normal, max_chars=max_chars, lenient=lenient)
    return _read(request, format, stdin)


def _read(request: ReadRequest, format: Format, stdin: BinaryIO | None) -> Iterator[ParsedRow | RowError]:
    something = False
    with opened(request.file, stdin) as stream:
        kind = detect(stream, request.file, format)
        for item in rows(stream, kind, request):
            something = True
            yield item
    if not something:
        raise InputError("has no records: nothing but blank lines or a header", request.file)


def rows(stream: Stream, kind: Kind, request: ReadRequest) -> Iterator[ParsedRow | RowError]:
    """The records of an open stream of that kind, up to where it may be damaged."""
    try:
        yield from _reader(kind)(stream, request)
    except Damaged as damage:
        yield request.unreadable(damage.line, damage.reason)


def _reader(kind: Kind) -> Callable[[Stream, ReadRequest], Iterator[ParsedRow | RowError]]:
    if kind == "parquet":
        # Importing polars costs as much as all the rest.
        from agent.data.readers.parquet import read_parquet

        return read_parquet
    return {"log": read_log, "csv": read_table, "jsonl": read_objects}[kind]
