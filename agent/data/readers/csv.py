"""Tables: CSV with any of four delimiters, with or without a header, broken rows or not."""

from __future__ import annotations

import csv
import re
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agent.data.readers.byte_stream import HEAD_BYTES, Damaged, Stream
from agent.data.readers.columns import default_columns, expand, header_names, time_of
from agent.data.readers.format_detection import SNIFFED_LINES, extension
from agent.data.readers.lines import RawLine, decode, split_lines
from agent.data.readers.row import ParsedRow, ReadRequest, RowError
from agent.data.readers.values import number, typed

_DELIMITERS = (",", "\t", ";", "|")
_LONGEST_LINE = 16 << 20
_LONGEST_FIELD = 1 << 20
_MOST_LINES_A_ROW = 1_000
_LONGEST_NAME = 60
_MOST_WORDS_A_NAME = 4
_TAB_QUOTED = re.compile(r'(?:^|(?<=\t))"(?:[^"]|"")*"(?=\t|$)')

# The limit is the csv module's own, for the whole process, and 128 KiB unless raised.
csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_FIELD))


@dataclass(frozen=True, slots=True)
class Row:
    line: int
    cells: list[str]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BrokenRow:
    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Dialect:
    delimiter: str
    quoted: bool


def read_table(stream: Stream, request: ReadRequest) -> Iterator[ParsedRow | RowError]:
    """Each row under the header, or each row where there is none and columns have numbers."""
    head = _head_lines(stream, request)
    if not head:
        # Nothing but blank lines, or damage before the end of the first row, which is raised here.
        deque(split_lines(stream, _LONGEST_LINE), maxlen=0)
        return
    dialect, beginning = _dialect(head, request)
    has_header = _has_header(beginning, request)
    names = header_names(beginning[0]) if has_header else _numbered(beginning)
    request = request.fitting(names)
    columns = request.columns(names) or default_columns(names, request.label)
    if not columns:
        raise request.wrong("has no column left to make a text of: only a label or a time")
    time = time_of(names)
    sample = [dict(zip(names, cells, strict=False)) for cells in beginning[has_header:]]
    numeric = len(columns) == 1 and all(isinstance(typed(row.get(columns[0])), float | None) for row in sample)

    header_ahead = has_header
    for row in rows(split_lines(stream, _LONGEST_LINE), dialect, len(names)):
        if isinstance(row, BrokenRow):
            yield request.unreadable(row.line, row.reason)
        elif header_ahead:
            header_ahead = False
        else:
            cells = dict(zip(names, row.cells, strict=True))
            yield request.row(row.line, cells, columns, time=time, numeric=numeric, notes=row.notes)


def rows(lines: Iterator[RawLine], dialect: Dialect, width: int | None) -> Iterator[Row | BrokenRow]:
    """The rows of a table, blank lines left out; each must have ``width`` cells, where that is known.

    A quoted cell may hold line ends. If its row does not come out right, only the line where it began is
    broken and reading goes on at the next, so that a stray quote never swallows what follows it.
    """
    feed = _Feed(lines)
    while True:
        reader = csv.reader(
            feed.texts(),
            delimiter=dialect.delimiter,
            quoting=csv.QUOTE_MINIMAL if dialect.quoted else csv.QUOTE_NONE,
            strict=True,
        )
        try:
            for cells in reader:
                line, notes = feed.taken[0].number, tuple(feed.notes)
                if len(cells) > 1 or any(cell.strip() for cell in cells):
                    if width is not None and len(cells) != width:
                        raise _Misfit(f"expected {_columns(width)}, found {len(cells)}")
                    yield Row(line, cells, notes)
                feed.next_row()
            break
        except (_Misfit, csv.Error) as error:
            yield BrokenRow(feed.retry_after_first(), _reason(error))
    if feed.damage:
        raise feed.damage


class _Misfit(Exception):
    """A row that cannot be what was meant."""


def _reason(error: Exception) -> str:
    said = str(error)
    if "field limit" in said:
        return f"a field longer than {_LONGEST_FIELD} characters"
    if "new-line character" in said:
        return "a carriage return inside a field that is not quoted"
    return "a quote inside a quoted field that is not doubled" if "expected after" in said else said


def _columns(number: int) -> str:
    return f"{number} column" if number == 1 else f"{number} columns"


class _Feed:
    """Lines for a ``csv.reader``, which takes more than one a row only while a quote is open."""

    def __init__(self, lines: Iterator[RawLine]) -> None:
        self._lines = lines
        self._again: deque[RawLine] = deque()
        self.taken: list[RawLine] = []
        self.notes: list[str] = []
        self.damage: Damaged | None = None
        self._length = 0

    def texts(self) -> Iterator[str]:
        while True:
            line = self._next()
            quote_is_open = bool(self.taken)
            if line is None and not quote_is_open:
                return
            if line is not None:
                self.taken.append(line)
            if line is None or (quote_is_open and self._is_too_much()):
                raise _Misfit("an opening quote is never closed")
            if line.cut:
                raise _Misfit(f"longer than {_LONGEST_LINE >> 20} MiB")
            text, notes = decode(line.data)
            self._length += len(text)
            self.notes += notes
            yield text + "\n"

    def _is_too_much(self) -> bool:
        return len(self.taken) > _MOST_LINES_A_ROW or self._length > _LONGEST_FIELD

    def _next(self) -> RawLine | None:
        if self._again:
            return self._again.popleft()
        try:
            return next(self._lines, None)
        except Damaged as damage:
            self.damage = damage
            return None

    def next_row(self) -> None:
        self.taken.clear()
        self.notes.clear()
        self._length = 0

    def retry_after_first(self) -> int:
        """Give back all lines of the row but its first, and say where that stood."""
        first, *rest = self.taken
        self._again.extendleft(reversed(rest))
        self.next_row()
        return first.number


def _head_lines(stream: Stream, request: ReadRequest) -> list[RawLine]:
    head = stream.look(lambda seen: sum(1 for line in seen.split(b"\n") if line.strip()) > SNIFFED_LINES)
    whole = head if stream.complete else head[: head.rfind(b"\n") + 1]
    if not whole and not stream.ended:
        raise request.wrong(f"its first row is longer than {HEAD_BYTES} bytes: it does not read as a table")
    return [line for line in split_lines([whole], _LONGEST_LINE) if line.data.strip()]


def _dialect(head: list[RawLine], request: ReadRequest) -> tuple[Dialect, list[list[str]]]:
    """The delimiter that gives the most regular rows, and the first rows read with it."""
    asked = {*request.text, request.label}
    best: tuple[tuple[int, float, bool, int], Dialect, list[list[str]]] | None = None
    for delimiter in _DELIMITERS:
        dialect = Dialect(delimiter, delimiter != "\t" or _clearly_quoted(head))
        found = [row.cells for row in rows(iter(head), dialect, None) if isinstance(row, Row)]
        if not found:
            continue
        width, times = Counter(len(cells) for cells in found).most_common(1)[0]
        score = (
            len(asked.intersection(header_names(found[0]))) if width > 1 else 0,
            times / len(found) if width > 1 else 0.0,
            # Commas are in prose and in numbers, tabs are not.
            delimiter == "\t",
            width,
        )
        if best is None or score > best[0]:
            best = score, dialect, found
        if delimiter == "\t" and width > 1 and extension(request.file) == ".tsv":
            return dialect, found
    if best is None:
        raise request.wrong("does not read as a table: its first rows are all broken")
    return best[1], best[2]


def _clearly_quoted(head: list[RawLine]) -> bool:
    """Whether quotes enclose cells of this tab-separated file, rather than stand in its prose as they come."""
    lines = [decode(line.data)[0].strip() for line in head]
    return any(_TAB_QUOTED.search(line) for line in lines) and not any(
        '"' in _TAB_QUOTED.sub("", line) for line in lines
    )


def _numbered(beginning: list[list[str]]) -> tuple[str, ...]:
    width = Counter(len(cells) for cells in beginning).most_common(1)[0][0]
    return tuple(str(position) for position in range(width))


def _has_header(beginning: list[list[str]], request: ReadRequest) -> bool:
    """Whether the first row holds names: those that were asked for, or what can only be names."""
    first, *below = beginning
    names = header_names(first)
    asked = expand(request.text, names) + ([] if request.label is None else [request.label])
    words = [name for name in asked if not name.isdecimal()]
    if any(word in names for word in words):
        return True
    if asked and not words:
        # A first row 0,1,2,… or 2024,2025 is a header if it has all that was asked for and never comes again.
        numbered = all(name.isdecimal() for name in names) and all(name in names for name in asked)
        if not numbered and _reads_as_header(first, below) and _over_numbers(first, below):
            raise request.wrong(f"has a header: name a column of it instead of a number; there are {', '.join(names)}")
        return numbered and not _comes_again(names, below)
    return _reads_as_header(first, below)


def _reads_as_header(first: list[str], below: list[list[str]]) -> bool:
    """Distinct short words that never come again in their columns; a lone one only over numbers."""
    names = [cell.strip() for cell in first]
    if len(set(names)) < len(names) or not all(_is_name(name) for name in names) or _comes_again(names, below):
        return False
    return len(names) > 1 or (bool(below) and all(number(row[0]) is not None for row in below))


def _over_numbers(first: list[str], below: list[list[str]]) -> bool:
    """Whether some column holds numbers under its first cell."""
    columns = zip(first, *(row for row in below if len(row) == len(first)), strict=False)
    return bool(below) and any(all(number(cell) is not None for cell in cells) for _, *cells in columns)


def _is_name(cell: str) -> bool:
    return 0 < len(cell.split()) <= _MOST_WORDS_A_NAME and number(cell) is None and len(cell) <= _LONGEST_NAME


def _comes_again(first: Sequence[str], below: list[list[str]]) -> bool:
    return any(cell.strip() == name for row in below for name, cell in zip(first, row, strict=False))
