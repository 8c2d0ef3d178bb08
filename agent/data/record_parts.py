"""Parts of a file of records with fields or events, in its order: blocks, and rows that are read one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice

from agent.data.readers.row import ParsedRow, ReadRequest, RowError
from agent.data.session_rows import SessionRows
from agent.data.table_block import TableBlock, with_notes

_ROWS = 2_048
Items = list[ParsedRow | RowError]
RecordPart = TableBlock | SessionRows


def in_lists(rows: Iterator[ParsedRow | RowError]) -> Iterator[Items]:
    """Rows many at a time."""
    while items := list(islice(rows, _ROWS)):
        yield items


def noted(parts: Iterable[RecordPart | Items], request: ReadRequest) -> Iterator[RecordPart | Items]:
    """The parts of a file, the first record with the notes on the file; without empty ones."""
    for part in parts:
        if isinstance(part, list):
            items = list(request.noting(part))
            if any(isinstance(item, ParsedRow) for item in items):
                request = replace(request, notes=())
            if items:
                yield items
        else:
            notes = [(int(part.lines[0]), note) for note in request.notes]
            yield replace(part, notes=(*notes, *part.notes))
            request = replace(request, notes=())


def with_more_notes(part: RecordPart | Items, notes: list[tuple[int, str]]) -> RecordPart | Items:
    """The part with notes by the lines of rows."""
    return with_notes(part, notes) if isinstance(part, list) else replace(part, notes=(*part.notes, *notes))
