"""Tables: CSV with any of four delimiters, with or without a header."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterator, Sequence

from agent.data.readers.byte_stream import HEAD_BYTES, Stream
from agent.data.readers.columns import default_columns, expand, header_names, time_column
from agent.data.readers.csv_rows import LONGEST_LINE, BrokenRow, Dialect, Row, split_rows
from agent.data.readers.format_detection import SNIFFED_LINES, extension
from agent.data.readers.lines import RawLine, decode, split_lines
from agent.data.readers.row import ParsedRow, ReadRequest, RowError
from agent.data.readers.values import parse_number, typed

_DELIMITERS = (",", "\t", ";", "|")
_LONGEST_NAME = 60
_MOST_WORDS_A_NAME = 4
_TAB_QUOTED = re.compile(r'(?:^|(?<=\t))"(?:[^"]|"")*"(?=\t|$)')


def read_csv(stream: Stream, request: ReadRequest) -> Iterator[ParsedRow | RowError]:
    """Each row under the header, or each row where there is none and columns have numbers."""
    head = stream.look_at_lines(SNIFFED_LINES)
    if not head and not stream.ended:
        raise request.file_error(f"its first row is longer than {HEAD_BYTES} bytes: it does not read as a table")
    lines = [line for line in split_lines([head], LONGEST_LINE) if line.data.strip()]
    if not lines:
        # Nothing but blank lines, or damage before the end of the first row, which is raised here.
        deque(split_lines(stream, LONGEST_LINE), maxlen=0)
        return
    dialect, sample = _detect_dialect(lines, request)
    header = _has_header(sample, request)
    names = header_names(sample[0]) if header else tuple(map(str, range(_common_width(sample)[0])))
    request = request.restricted_to(names)
    columns = request.text_columns(names) or default_columns(names, request.label)
    if not columns:
        raise request.file_error("has no column left to make a text of: only a label or a time")
    time = time_column(names)
    single = names.index(columns[0])
    first_cells = (cell for cells in sample[header:] for cell in cells[single : single + 1])
    numeric = all(isinstance(typed(cell), float | None) for cell in first_cells)
    for row in split_rows(split_lines(stream, LONGEST_LINE), dialect, len(names)):
        if isinstance(row, BrokenRow):
            yield request.row_error(row.line, row.reason)
        elif header:
            header = False
        else:
            cells = dict(zip(names, row.cells, strict=True))
            yield request.parse_cells(row.line, cells, columns, time=time, numeric=numeric, notes=row.notes)


def _detect_dialect(lines: list[RawLine], request: ReadRequest) -> tuple[Dialect, list[list[str]]]:
    """The delimiter that gives the most regular rows, and the first rows read with it."""
    named = {*request.text, request.label}
    best: tuple[tuple[int, float, bool, int], Dialect, list[list[str]]] | None = None
    for delimiter in _DELIMITERS:
        dialect = Dialect(delimiter, delimiter != "\t" or _is_quoted(lines))
        rows = [row.cells for row in split_rows(iter(lines), dialect, None) if isinstance(row, Row)]
        if not rows:
            continue
        width, share = _common_width(rows)
        if delimiter == "\t" and width > 1 and extension(request.file) == ".tsv":
            return dialect, rows
        named_in_header = len(named.intersection(header_names(rows[0])))
        # Commas are in prose and in numbers, tabs are not.
        score = (named_in_header, share, delimiter == "\t", width) if width > 1 else (0, 0.0, delimiter == "\t", width)
        if best is None or score > best[0]:
            best = score, dialect, rows
    if best is None:
        raise request.file_error("does not read as a table: its first rows are all broken")
    return best[1], best[2]


def _common_width(rows: list[list[str]]) -> tuple[int, float]:
    """The commonest number of cells, and the share of rows that have it."""
    width, count = Counter(map(len, rows)).most_common(1)[0]
    return width, count / len(rows)


def _is_quoted(lines: list[RawLine]) -> bool:
    """Whether quotes enclose cells of this tab-separated file, rather than stand in its prose as they come."""
    texts = [decode(line.data)[0].strip() for line in lines]
    return any(map(_TAB_QUOTED.search, texts)) and not any('"' in _TAB_QUOTED.sub("", text) for text in texts)


def _has_header(sample: list[list[str]], request: ReadRequest) -> bool:
    """Whether the first row holds names: those of the request, or what can only be names."""
    first, *below = sample
    names = header_names(first)
    requested = expand(request.text, names) + ([] if request.label is None else [request.label])
    words = [name for name in requested if not name.isdecimal()]
    if any(word in names for word in words):
        return True
    if not requested or words:
        return _reads_as_header(first, below)
    # A first row 0,1,2,… or 2024,2025 is a header if it has all requested names and never comes again.
    numbered = all(name.isdecimal() for name in names) and all(name in names for name in requested)
    if not numbered and _reads_as_header(first, below) and _has_numeric_column(first, below):
        listed = ", ".join(names)
        raise request.file_error(f"has a header: name a column of it instead of a number; there are {listed}")
    return numbered and not _comes_again(names, below)


def _reads_as_header(first: list[str], below: list[list[str]]) -> bool:
    """Distinct short words that never come again in their columns; a single one only over numbers."""
    names = [cell.strip() for cell in first]
    if len(set(names)) < len(names) or not all(map(_is_name, names)) or _comes_again(names, below):
        return False
    return len(names) > 1 or (bool(below) and all(parse_number(row[0]) is not None for row in below))


def _has_numeric_column(first: list[str], below: list[list[str]]) -> bool:
    """Whether some column holds numbers under its first cell."""
    columns = zip(first, *(row for row in below if len(row) == len(first)), strict=False)
    return bool(below) and any(all(parse_number(cell) is not None for cell in cells) for _, *cells in columns)


def _is_name(cell: str) -> bool:
    return 0 < len(cell.split()) <= _MOST_WORDS_A_NAME and parse_number(cell) is None and len(cell) <= _LONGEST_NAME


def _comes_again(first: Sequence[str], below: list[list[str]]) -> bool:
    return any(cell.strip() == name for row in below for name, cell in zip(first, row, strict=False))
