"""Logs and other texts with one record a line, or an entry of several lines where the file has such."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import repeat

from agent.core.records import NO_LABEL
from agent.data.readers.byte_stream import Stream
from agent.data.readers.columns import expand
from agent.data.readers.entries import without_word
from agent.data.readers.entry_joining import join_lines
from agent.data.readers.lines import RawLine, decode_line, split_lines
from agent.data.readers.row import ParsedRow, ReadRequest, RowError
from agent.data.readers.values import Cell

_UTF8_LONGEST = 4


def read_log(stream: Stream, request: ReadRequest, *, first_line: int = 1) -> Iterator[ParsedRow | RowError]:
    """Each entry that is not blank; columns, where any are named, are its first line's words, numbered from 0.

    Parameters
    ----------
    stream, request
    first_line
        The number of the stream's first line, where the stream is a part of its file.
    """
    _check_columns(request)
    chunks = stream if request.entries is None else stream.with_pauses()
    lines = split_lines(chunks, _UTF8_LONGEST * request.max_chars, request.max_chars, number=first_line)
    entries: Iterable[tuple[RawLine, int]] = zip(lines, repeat(1))
    if request.entries is not None:
        entries = join_lines(lines, request.entries, request.max_chars, at_beginning=first_line == 1)
    labelled = unlabelled = 0
    for raw, count in entries:
        row = parse_entry(raw, request, count)
        if row is None:
            continue
        yield row
        lacks_label = isinstance(row, RowError) and row.reason.startswith(NO_LABEL)
        labelled, unlabelled = labelled + (not lacks_label), unlabelled + lacks_label
    if request.label is not None and not request.lenient and first_line == 1 and unlabelled > labelled:
        raise request.file_error(
            f"reads as a log, and most of its entries have no label ({unlabelled:,} of {labelled + unlabelled:,}): "
            f"{request.label} is the place of the word that is one, from 0"
        )


def parse_entry(raw: RawLine, request: ReadRequest, count: int = 1) -> ParsedRow | RowError | None:
    """The record of an entry of ``count`` lines; None if it is blank."""
    text, notes = decode_line(raw, request.max_chars)
    if not text.strip():
        return None
    if count > 1 and request.entries is not None:
        notes += request.entries.note()
    cells: dict[str, Cell] = {}
    if request.label is not None or request.text:
        first, separator, rest = text.partition("\n")
        words = first.split()
        is_whole = request.entries is None or request.entries.is_beginning(first)
        if request.label is not None and int(request.label) < len(words) and is_whole:
            cells[request.label] = words[int(request.label)]
            first = without_word(first, int(request.label))
            if not (first.strip() or rest.strip()):
                return request.row_error(raw.number, "its only word is the label column")
        if request.text:
            first = " ".join(words[int(name)] for name in expand(request.text, known=()) if int(name) < len(words))
        text = first + separator + rest
    return request.parse_text(raw.number, text, request.fields_of(text), cells, notes=notes)


def _check_columns(request: ReadRequest) -> None:
    """Refuse names of columns: in a log they can only be numbers."""
    columns = expand(request.text, known=())
    for name in (*columns, *([] if request.label is None else [request.label])):
        if not name.isdecimal():
            raise request.file_error(
                f"reads as a log, whose columns (its words) have numbers, from 0, and no names such as {name!r}; "
                "if it is a table or JSON, say so with --format"
            )
    if request.label in columns:
        raise request.file_error(f"column {request.label} is the label: it cannot be part of the text as well")
