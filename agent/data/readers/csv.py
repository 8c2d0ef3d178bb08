"""Tables: CSV of many dialects, with or without a header."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain

from agent.data.readers.byte_stream import HEAD_BYTES, Stream
from agent.data.readers.columns import time_column
from agent.data.readers.csv_dialect import Layout, find_layout
from agent.data.readers.csv_rows import LONGEST_LINE, BrokenRow, Row, split_rows
from agent.data.readers.format_detection import SNIFFED_LINES
from agent.data.readers.lines import RawLine, split_lines
from agent.data.readers.notation import split_cell
from agent.data.readers.row import ParsedRow, ReadRequest, RowError
from agent.data.readers.values import is_missing

_ENOUGH = 1 << 16


def read_csv(stream: Stream, request: ReadRequest) -> Iterator[ParsedRow | RowError]:
    """Each row under the header, or each row where there is none and columns have numbers."""
    if (table := CsvTable.opened(stream, request)) is not None:
        yield from table.request.noting(chain(table.rows(split_lines(table.stream, LONGEST_LINE)), table.end()))


class CsvTable:
    """A table whose layout is known, while its rows are read.

    Parameters
    ----------
    stream
        The bytes of the file.
    layout
    request
        The columns that it names are those of the file.
    """

    def __init__(self, stream: Stream, layout: Layout, request: ReadRequest) -> None:
        self.stream, self.layout = stream, layout
        self.names = tuple(request.with_learned_names(dict.fromkeys(layout.names)))
        self.request = request = request.restricted_to(self.names)
        request.check_columns(self.names)
        self.columns = request.columns_of(self.names, request.table.left_out)
        if not self.columns:
            raise request.file_error("has no column left to make a text of: only a label or a time")
        self.time = time_column(self.names)
        single = self.names.index(self.columns[0])
        first_cells = (cell for cells in layout.sample for cell in cells[single : single + 1])
        self._numeric = all(_is_number(cell, self.columns[0], request) for cell in first_cells)
        self._notes, self._headers, self.empty = tuple[str, ...](), 0, True
        self.short = 0
        # the last record, which gets the number of short rows; of a pipe none waits for the next
        self._held: ParsedRow | None = None

    @classmethod
    def opened(cls, stream: Stream, request: ReadRequest) -> CsvTable | None:
        """The table of a stream; None if there is nothing but blank lines."""
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
            return None
        layout = find_layout(lines, request)
        return cls(stream, layout, request.matched(layout.names, layout.notes))

    def rows(self, lines: Iterable[RawLine]) -> Iterator[ParsedRow | RowError]:
        """The rows on these lines, which follow those read before."""
        request, layout, names = self.request, self.layout, self.names
        of_table = (line for line in lines if line.number >= layout.first_line)
        if layout.commented:
            of_table = (line for line in of_table if not line.data.startswith(b"#"))
        for row in split_rows(of_table, layout.dialect, len(names), layout.header):
            if isinstance(row, BrokenRow):
                self.empty = False
                yield request.row_error(row.line, row.reason)
            elif row.cells == layout.header:
                self._headers += 1
                if self._headers > 1:
                    self._notes = (*self._notes, f"line {row.line} is the header again and is left out")
            else:
                yield from self._row(row)

    def _row(self, row: Row) -> Iterator[ParsedRow | RowError]:
        self.empty, cells = False, dict(zip(self.names, row.cells, strict=True))
        self.short += bool(row.missing)
        if row.missing and self.short == 1:
            found = f"{len(self.names) - row.missing} of {len(self.names)}"
            self._notes = (*self._notes, f"has {found} cells; those missing are empty, also in later rows")
        notes = (*self.take_notes(), *row.notes)
        read = self.request.parse_cells(
            row.line, cells, self.columns, time=self.time, numeric=self._numeric, notes=notes
        )
        if not self.short or self.request.file == "-" or isinstance(read, RowError):
            yield read
            return
        if self._held is not None:
            yield self._held
        self._held = read

    def take_notes(self) -> tuple[str, ...]:
        """What is to be said with the next row."""
        notes, self._notes = self._notes, ()
        return notes

    def end(self) -> Iterator[ParsedRow | RowError]:
        """The row that was held back, at the end of the table.

        Raises
        ------
        InputError
            The table has no rows.
        """
        if self._held is not None:
            count = (f"{self.short:,} rows of the file have fewer cells than columns",) if self.short > 1 else ()
            yield replace(self._held, notes=(*self._held.notes, *count))
        if self.empty:
            raise self.request.file_error("has no records below its header")


def _is_number(cell: str, column: str, request: ReadRequest) -> bool:
    """Whether a cell may be one of a column of numbers; in a survey, in whatever notation."""
    if request.raw:
        return is_missing(cell) or split_cell(cell) is not None
    return isinstance(request.table.typed(column, cell), float | None)
