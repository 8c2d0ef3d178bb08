"""Tables: CSV of many dialects, with or without a header."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace

from agent.data.readers.byte_stream import HEAD_BYTES, Stream
from agent.data.readers.columns import time_column
from agent.data.readers.csv_dialect import Layout, find_layout
from agent.data.readers.csv_rows import LONGEST_LINE, BrokenRow, split_rows
from agent.data.readers.format_detection import SNIFFED_LINES
from agent.data.readers.lines import split_lines
from agent.data.readers.notation import split_cell
from agent.data.readers.row import ParsedRow, ReadRequest, RowError
from agent.data.readers.values import is_missing

_ENOUGH = 1 << 16


def read_csv(stream: Stream, request: ReadRequest) -> Iterator[ParsedRow | RowError]:
    """Each row under the header, or each row where there is none and columns have numbers."""
    start = stream.look(lambda head: b"\n" in head or len(head) > _ENOUGH)
    if b"\n" not in start and b"\r" in start:
        stream = Stream(chunk.replace(b"\r", b"\n") for chunk in stream)
    head = stream.look_at_lines(SNIFFED_LINES)
    if not head and not stream.ended:
        raise request.file_error(f"its first row is longer than {HEAD_BYTES} bytes: it does not read as a table")
    lines = [line for line in split_lines([head], LONGEST_LINE) if line.data.strip()]
    if not lines:
        # Nothing but blank lines, or damage before the end of the first row, which is raised here.
        deque(split_lines(stream, LONGEST_LINE), maxlen=0)
        return
    layout = find_layout(lines, request)
    request = request.matched(layout.names, layout.notes)
    yield from request.noting(_records(stream, layout, request))


def _records(stream: Iterable[bytes], layout: Layout, request: ReadRequest) -> Iterator[ParsedRow | RowError]:
    names = tuple(request.with_learned_names(dict.fromkeys(layout.names)))
    request = request.restricted_to(names)
    request.check_columns(names)
    columns = request.columns_of(names, request.table.left_out)
    if not columns:
        raise request.file_error("has no column left to make a text of: only a label or a time")
    time = time_column(names)
    single = names.index(columns[0])
    first_cells = (cell for cells in layout.sample for cell in cells[single : single + 1])
    numeric = all(_is_number(cell, columns[0], request) for cell in first_cells)
    lines = (line for line in split_lines(stream, LONGEST_LINE) if line.number >= layout.first_line)
    if layout.commented:
        lines = (line for line in lines if not line.data.startswith(b"#"))
    notes, headers, short, empty = tuple[str, ...](), 0, 0, True
    # the last record, which gets the number of short rows; of a pipe none waits for the next
    held: ParsedRow | None = None
    for row in split_rows(lines, layout.dialect, len(names), layout.header):
        if isinstance(row, BrokenRow):
            empty = False
            yield request.row_error(row.line, row.reason)
        elif row.cells == layout.header:
            headers += 1
            if headers > 1:
                notes = (*notes, f"line {row.line} is the header again and is left out")
        else:
            empty, cells = False, dict(zip(names, row.cells, strict=True))
            short += bool(row.missing)
            if row.missing and short == 1:
                found = f"{len(names) - row.missing} of {len(names)}"
                notes = (*notes, f"has {found} cells; those missing are empty, also in later rows")
            read = request.parse_cells(row.line, cells, columns, time=time, numeric=numeric, notes=(*notes, *row.notes))
            notes = ()
            if not short or request.file == "-" or isinstance(read, RowError):
                yield read
                continue
            if held is not None:
                yield held
            held = read
    if held is not None:
        count = (f"{short:,} rows of the file have fewer cells than columns",) if short > 1 else ()
        yield replace(held, notes=(*held.notes, *count))
    if empty:
        raise request.file_error("has no records below its header")


def _is_number(cell: str, column: str, request: ReadRequest) -> bool:
    """Whether a cell may be one of a column of numbers; in a survey, in whatever notation."""
    if request.raw:
        return is_missing(cell) or split_cell(cell) is not None
    return isinstance(request.table.typed(column, cell), float | None)
