"""Tables: CSV of many dialects, with or without a header."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace

from agent.data.readers.byte_stream import HEAD_BYTES, Stream
from agent.data.readers.columns import time_column
from agent.data.readers.csv_dialect import Layout, find_layout
from agent.data.readers.csv_rows import LONGEST_LINE, BrokenRow, Row, split_rows
from agent.data.readers.format_detection import SNIFFED_LINES
from agent.data.readers.lines import RawLine, split_lines
from agent.data.readers.notation import split_cell
from agent.data.readers.row import ParsedRow, ReadRequest, RowError
from agent.data.readers.values import is_missing


def read_csv(stream: Stream, request: ReadRequest) -> Iterator[ParsedRow | RowError]:
    """Each row under the header, or each row where there is none and columns have numbers."""
    table = open_table(stream, request)
    if table is not None:
        yield from table.request.noting(_records(stream, table))


def open_table(stream: Stream, request: ReadRequest) -> CsvTable | None:
    """What a stream holds; None if it has no rows, which ends it or raises its damage.

    Raises
    ------
    InputError
        It does not read as a table, or not as the request asks.
    """
    stream.end_lines_with_newlines()
    head = stream.look_at_lines(SNIFFED_LINES)
    if not head and not stream.ended:
        raise request.file_error(f"its first row is longer than {HEAD_BYTES} bytes: it does not read as a table")
    lines = [line for line in split_lines([head], LONGEST_LINE) if line.data.strip()]
    if not lines:
        # Nothing but blank lines, or damage before the end of the first row, which is raised here.
        deque(split_lines(stream, LONGEST_LINE), maxlen=0)
        return None
    layout = find_layout(lines, request)
    return CsvTable(layout, request.matched(layout.names, layout.notes))


def _records(stream: Iterable[bytes], table: CsvTable) -> Iterator[ParsedRow | RowError]:
    lines = split_lines(stream, LONGEST_LINE)
    for row in table.split(lines):
        yield from table.read(row)
    yield from table.finish()


class CsvTable:
    """Makes records of the rows of one table, given in their order.

    Attributes
    ----------
    request : ReadRequest
        For this file.
    names : tuple of str
        The learned names of its columns.
    columns : list of str
        Those that make a record.
    time : str or None
        That of the times.
    numeric : bool
        Whether the first of ``columns`` holds numbers.
    """

    def __init__(self, layout: Layout, request: ReadRequest) -> None:
        self.layout = layout
        self.names = names = tuple(request.with_learned_names(dict.fromkeys(layout.names)))
        self.request = request = request.restricted_to(names)
        request.check_columns(names)
        self.columns = request.columns_of(names, request.table.left_out)
        if not self.columns:
            raise request.file_error("has no column left to make a text of: only a label or a time")
        self.time = time_column(names)
        single = names.index(self.columns[0])
        first_cells = (cell for cells in layout.sample for cell in cells[single : single + 1])
        self.numeric = all(_is_number(cell, self.columns[0], request) for cell in first_cells)
        self._notes = tuple[str, ...]()
        self._headers = self._short = 0
        self._is_empty = True
        # the last record, which gets the number of short rows; of a pipe none waits for the next
        self._held: ParsedRow | None = None

    def split(self, lines: Iterable[RawLine]) -> Iterator[Row | BrokenRow]:
        """The rows of the table's lines."""
        of_table = (line for line in lines if line.number >= self.layout.first_line)
        if self.layout.commented:
            of_table = (line for line in of_table if not line.data.startswith(b"#"))
        return split_rows(of_table, self.layout.dialect, len(self.names), self.layout.header)

    def read(self, row: Row | BrokenRow) -> Iterator[ParsedRow | RowError]:
        """What a row gives: none or more records or errors."""
        request, names = self.request, self.names
        if isinstance(row, BrokenRow):
            self._is_empty = False
            yield request.row_error(row.line, row.reason)
        elif row.cells == self.layout.header:
            self._headers += 1
            if self._headers > 1:
                self._notes = (*self._notes, f"line {row.line} is the header again and is left out")
        else:
            self._is_empty, cells = False, dict(zip(names, row.cells, strict=True))
            self._short += bool(row.missing)
            if row.missing and self._short == 1:
                found = f"{len(names) - row.missing} of {len(names)}"
                self._notes = (
                    *self._notes,
                    f"has {found} cells; those missing are empty, also in later rows",
                )
            notes = (*self._notes, *row.notes)
            read = request.parse_cells(row.line, cells, self.columns, time=self.time, numeric=self.numeric, notes=notes)
            self._notes = ()
            if not self._short or request.file == "-" or isinstance(read, RowError):
                yield read
                return
            yield from self._release()
            self._held = read

    def skip(self, *, is_last: bool) -> Iterator[ParsedRow]:
        """Records are read otherwise; the record that waits for the end, if they come after it."""
        self._is_empty = False
        if is_last:
            yield from self._release()

    def _release(self) -> Iterator[ParsedRow]:
        if self._held is not None:
            yield self._held
        self._held = None

    def finish(self) -> Iterator[ParsedRow]:
        """The record that waits for the end.

        Raises
        ------
        InputError
            There were no records.
        """
        if self._held is not None:
            yield replace(self._held, notes=(*self._held.notes, *self.count_of_short()))
        if self._is_empty:
            raise self.request.file_error("has no records below its header")

    def count_of_short(self) -> tuple[str, ...]:
        """The note for the last record on rows that have fewer cells."""
        return (f"{self._short:,} rows of the file have fewer cells than columns",) if self._short > 1 else ()


def _is_number(cell: str, column: str, request: ReadRequest) -> bool:
    """Whether a cell may be one of a column of numbers; in a survey, in whatever notation."""
    if request.raw:
        return is_missing(cell) or split_cell(cell) is not None
    return isinstance(request.table.typed(column, cell), float | None)
