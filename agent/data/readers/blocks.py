"""What all readers by the block share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice

from agent.data.readers.byte_stream import Damaged, Stream
from agent.data.readers.row import ParsedRow, ReadRequest, RowError
from agent.data.readers.session_rows import SessionRows
from agent.data.readers.table_block import TableBlock

# bytes of a block, and rows of what is no block
BYTES, _ROWS = 4 << 20, 2_048
# beside NUL what is removed from texts, white space that only Python knows, and marks of byte order
IRREGULAR = re.compile(rb"[\0\r\x1b-\x1f]|\xef\xbb\xbf")
IRREGULAR_TEXT = r"[\x00\r\x1b-\x1f\x{feff}]"
Items = list[ParsedRow | RowError]
Block = TableBlock | SessionRows


def in_lists(rows: Iterator[ParsedRow | RowError]) -> Iterator[Items]:
    """Rows many at a time."""
    while items := list(islice(rows, _ROWS)):
        yield items


def noted(parts: Iterable[Block | Items], request: ReadRequest) -> Iterator[Block | Items]:
    """The parts of a file, the first record with the notes on the file; without empty ones."""
    for part in parts:
        if not isinstance(part, list):
            yield replace(part, notes=(*request.notes, *part.notes))
            request = replace(request, notes=())
            continue
        items = list(request.noting(part))
        if any(isinstance(item, ParsedRow) for item in items):
            request = replace(request, notes=())
        if items:
            yield items


def whole_lines(stream: Stream) -> Iterator[bytes]:
    """Chunks of whole lines; the last may lack its end.

    Raises
    ------
    Damaged
        The stream is damaged, after the whole lines before.
    """
    pending, size, damage = list[bytes](), 0, None
    try:
        for piece in stream:
            pending.append(piece)
            size += len(piece)
            if size >= BYTES and b"\n" in piece:
                whole, _, rest = b"".join(pending).rpartition(b"\n")
                pending, size = [rest], len(rest)
                yield whole + b"\n"
    except Damaged as error:
        damage = error
    rest = b"".join(pending)
    rest = rest if damage is None else rest[: rest.rfind(b"\n") + 1]
    if rest:
        yield rest
    if damage is not None:
        raise damage


def regular_lines(data: bytes) -> bytes | None:
    """The data with plain line ends; None if a character has to be replaced or removed."""
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n")
    if IRREGULAR.search(data):
        return None
    try:
        data.isascii() or data.decode()
    except UnicodeDecodeError:
        return None
    return data if data.endswith(b"\n") else data + b"\n"
