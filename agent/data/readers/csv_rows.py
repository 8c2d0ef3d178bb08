"""Rows of a delimited table; after a broken row, reading goes on at the next line."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from agent.data.readers.byte_stream import Damaged
from agent.data.readers.lines import RawLine, decode

LONGEST_LINE = 16 << 20
UNCLOSED = "an opening quote is never closed"
_LONGEST_FIELD = 1 << 20
_MOST_LINES_A_ROW = 1_000
# a byte order mark, inside of a file that was joined from several
_MARK = "\ufeff"

# The limit is the csv module's own, for the whole process, and 128 KiB unless raised.
csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_FIELD))


class Dialect(NamedTuple):
    """How cells are separated, and what encloses them: the quote, its escape, and whether spaces come before it."""

    delimiter: str
    quoted: bool
    quote: str = '"'
    escape: str | None = None
    spaced: bool = False


class Row(NamedTuple):
    """A row's cells, the line where it begins, and how many of the cells it lacks, which are empty."""

    line: int
    cells: list[str]
    notes: tuple[str, ...]
    missing: int = 0


class BrokenRow(NamedTuple):
    """A line that is not the beginning of a row, and why."""

    line: int
    reason: str


def split_rows(
    lines: Iterator[RawLine], dialect: Dialect, width: int | None, header: Sequence[str] | None = None
) -> Iterator[Row | BrokenRow]:
    """The rows of a table, blank lines left out; each must have ``width`` cells, where that is known.

    A row may end in a delimiter that one more cell would follow, and the ``header`` may have any width. The last cells
    may be missing (`Row.missing`), unless no delimiter shows that it is a row.

    A quoted cell may hold line ends. If its row does not come out right, only the line where it began is
    broken and reading goes on at the next, so that a stray quote never swallows what follows it.
    """
    feed = _LineFeed(lines)
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if dialect.quoted else csv.QUOTE_NONE
    while True:
        try:
            for cells in csv.reader(
                feed,
                delimiter=dialect.delimiter,
                quoting=quoting,
                quotechar=dialect.quote,
                escapechar=dialect.escape,
                skipinitialspace=dialect.spaced,
                strict=True,
            ):
                if len(cells) > 1 or any(cell.strip() for cell in cells):
                    cells[0] = cells[0].removeprefix(_MARK)
                    is_header = cells == header
                    if width is not None and len(cells) == width + 1 and not (is_header or cells[-1].strip()):
                        cells.pop()
                    missing = 0 if width is None or is_header else width - len(cells)
                    if missing < 0 or (missing and (len(cells) < 2 or len(feed.row) > 1)):
                        raise _Misfit(f"expected {width} column{'s' * (width != 1)}, found {len(cells)}")
                    yield Row(feed.row[0].number, cells + [""] * missing, tuple(feed.notes), missing)
                feed.next_row()
            break
        except (_Misfit, csv.Error) as error:
            first = feed.retry_after_first()
            read = _escaped_otherwise(first, dialect, width)
            yield Row(first.number, read, ()) if read else BrokenRow(first.number, _reason(str(error)))
    if feed.damage:
        raise feed.damage


def _escaped_otherwise(line: RawLine, dialect: Dialect, width: int | None) -> list[str] | None:
    r"""The cells of a line that fits only if a backslash before a quote is read as it is not in the other lines.

    It escapes the quote in ``"say \"hi\""``, and stands for itself in ``"C:\dir\"``.
    """
    text, escape = decode(line.data)[0], "\\" if dialect.escape is None else None
    if width is None or line.cut or not dialect.quoted or f"\\{dialect.quote}" not in text:
        return None
    reader = csv.reader([text], delimiter=dialect.delimiter, quotechar=dialect.quote, escapechar=escape, strict=True)
    try:
        (cells,) = reader
    except (csv.Error, ValueError):
        return None
    return cells if len(cells) == width else None


class _Misfit(Exception):
    """A row that cannot be what was meant."""


def _reason(message: str) -> str:
    if "field limit" in message:
        return f"a field longer than {_LONGEST_FIELD} characters"
    if "new-line character" in message:
        return "a carriage return inside a field that is not quoted"
    return "a quote inside a quoted field that is not doubled" if "expected after" in message else message


class _LineFeed:
    """Lines for a ``csv.reader``, which takes several for one row only while a quote is open."""

    def __init__(self, lines: Iterator[RawLine]) -> None:
        self.row: list[RawLine] = []
        self.notes: list[str] = []
        self.damage: Damaged | None = None
        self._lines = lines
        self._again: deque[RawLine] = deque()
        self._length = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line, quote_is_open = self._next_line(), bool(self.row)
        if line is None and not quote_is_open:
            raise StopIteration
        if line is not None:
            self.row.append(line)
        if line is None or (quote_is_open and self._is_too_long()):
            raise _Misfit(UNCLOSED)
        if line.cut:
            raise _Misfit(f"longer than {LONGEST_LINE >> 20} MiB")
        text, notes = decode(line.data)
        self._length += len(text)
        self.notes += notes
        return text + "\n"

    def _is_too_long(self) -> bool:
        return len(self.row) > _MOST_LINES_A_ROW or self._length > _LONGEST_FIELD

    def _next_line(self) -> RawLine | None:
        if self._again:
            return self._again.popleft()
        try:
            return next(self._lines, None)
        except Damaged as damage:
            self.damage = damage
            return None

    def next_row(self) -> None:
        self.row.clear()
        self.notes.clear()
        self._length = 0

    def retry_after_first(self) -> RawLine:
        """Give back all lines of the row but its first, and return that one."""
        first, *rest = self.row
        self._again.extendleft(reversed(rest))
        self.next_row()
        return first
