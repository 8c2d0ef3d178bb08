"""Logs and other texts with one record a line."""

from __future__ import annotations

import re
from collections.abc import Iterator

from agent.data.readers.byte_stream import Stream
from agent.data.readers.columns import expand
from agent.data.readers.lines import decode_line, split_lines
from agent.data.readers.row import ParsedRow, ReadRequest, RowError
from agent.data.readers.values import Cell, parse_pairs

_WORD = re.compile(r"\S+")
_UTF8_LONGEST = 4


def read_log(stream: Stream, request: ReadRequest) -> Iterator[ParsedRow | RowError]:
    """Each line that is not blank; columns, where any are named, are its words, numbered from 0."""
    if request.lenient:
        request = request.restricted_to([name for name in (*request.text, request.label) if name and name.isdecimal()])
    label, columns = _column_numbers(request)
    for raw in split_lines(stream, _UTF8_LONGEST * request.max_chars, request.max_chars):
        text, notes = decode_line(raw, request.max_chars)
        if not text.strip():
            continue
        cells: dict[str, Cell] = {}
        if label is not None or columns:
            words = list(_WORD.finditer(text))
            if label is not None and label < len(words):
                cells[str(request.label)] = words[label].group()
                text = _without(text, words, label)
            if columns:
                text = " ".join(words[column].group() for column in columns if column < len(words))
        yield request.parse_text(raw.number, text, parse_pairs(text), cells, notes=notes)


def _column_numbers(request: ReadRequest) -> tuple[int | None, list[int]]:
    """The label's column and the text's, which in a log can only be numbers."""
    columns = expand(request.text, known=())
    for name in (*columns, *([] if request.label is None else [request.label])):
        if not name.isdecimal():
            raise request.file_error(
                f"reads as a log, whose columns (its words) have numbers, from 0, and no names such as {name!r}; "
                "if it is a table or JSON, say so with --format"
            )
    if request.label in columns:
        raise request.file_error(f"column {request.label} is the label: it cannot be part of the text as well")
    return None if request.label is None else int(request.label), [int(name) for name in columns]


def _without(text: str, words: list[re.Match[str]], number: int) -> str:
    """``text`` without one of its words and the space after it; all else is untouched."""
    start = words[number].start()
    return text[:start] + text[words[number + 1].start() :] if number + 1 < len(words) else text[:start].rstrip()
