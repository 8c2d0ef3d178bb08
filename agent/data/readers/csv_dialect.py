"""What a table is written in: delimiter, quotes, lines before its header, and whether it has one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from agent.data.readers.columns import expand, header_names
from agent.data.readers.csv_rows import Dialect, Row, split_rows
from agent.data.readers.format_detection import extension
from agent.data.readers.lines import RawLine, decode
from agent.data.readers.row import ReadRequest
from agent.data.readers.table_schema import TableSchema
from agent.data.readers.values import parse_number

DELIMITERS = (",", "\t", ";", "|")
# of a file that has no delimiter, because it is a single column
_NO_DELIMITER = "\x1f"
# what programs call a column of texts
_TEXT_NAMES = frozenset({"text", "message", "msg", "log", "line", "content", "body", "description", "comment"})
_LONGEST_NAME = 60
_MOST_WORDS_A_NAME = 4
# rows among which the header is looked for
_MOST_BEFORE_HEADER = 20
# names of several columns that a note lists
_REPEATED_NAMED = 5
_SEPARATOR = re.compile(r"[\"']?sep=(?P<delimiter>[^\w\s]|\t)[\"']?", re.IGNORECASE)
_QUOTED = re.compile(r'(?:^|(?<=\t))"(?:[^"]|"")*"(?=\t|$)', re.MULTILINE)
# of a cell that goes on behind the first lines
_OPEN_QUOTE = re.compile(r'(?:^|(?<=\t))"[^"]*\Z', re.MULTILINE)


class Layout(NamedTuple):
    """How a table is laid out.

    Parameters
    ----------
    dialect
    names
        Of its columns; numbers where it has no header.
    header
        The header's cells, None if it has none.
    sample
        The first rows below the header.
    first_line
        The line of the header, or of the first row.
    commented
        Whether lines that begin with # are comments.
    notes
        What is left out.
    """

    dialect: Dialect
    names: tuple[str, ...]
    header: list[str] | None
    sample: list[list[str]]
    first_line: int
    commented: bool
    notes: tuple[str, ...]


def find_layout(lines: list[RawLine], request: ReadRequest) -> Layout:
    """The layout that gives the most regular rows.

    Parameters
    ----------
    lines
        The first lines that are not blank.
    request
        The columns that it names are looked for in the header.

    Raises
    ------
    InputError
        The lines do not read as a table.
    """
    delimiters: Sequence[str] = DELIMITERS
    before = 0
    if separator := _SEPARATOR.fullmatch(decode(lines[0].data)[0].strip()):
        delimiters, before = (separator["delimiter"],), 1
    elif len(lines) > 1 and is_learned_header(decode(lines[0].data)[0], request.table, delimiters=()):
        delimiters = (_NO_DELIMITER,)
    dialect, rows = _find_dialect(lines[before:], delimiters, request)
    start = _start_of_table(rows, request)
    rows = rows[start:]
    cells = [row.cells for row in rows]
    skipped = before + start
    commented = bool(skipped) and lines[before].data.startswith(b"#")
    notes: tuple[str, ...] = (f"what comes before line {rows[0].line} is not part of the table",) if skipped else ()
    if commented:
        notes = (*notes, "lines that begin with # are left out")
    if not _has_header(cells, request):
        numbers = tuple(map(str, range(_common_width(cells)[0])))
        return Layout(dialect, numbers, None, cells, rows[0].line, commented, notes)
    header, below = cells[0], cells[1:]
    if len(header) == 1 and _is_over_prose(header[0].strip(), below) and not request.table.are_names(header):
        notes = (*notes, f"its first line, {header[0].strip()!r}, is read as the name of its only column")
    width = _common_width(below)[0] if below else len(header)
    names = list(header)
    if width == len(header) + 1 and sum(bool(row[-1].strip()) for row in below if len(row) == width):
        # names of rows, as R writes them
        names = ["", *header]
    while len(names) > 1 and not names[-1].strip() and not any(any(row[len(names) - 1 :]) for row in below):
        names.pop()
    notes += _on_repeated_names(header, request)
    if below and not any(_fits(row, len(names)) for row in below):
        quotes = f"quotes {dialect.quote}" + (f" escaped by {dialect.escape}" if dialect.escape else "")
        raise request.file_error(
            f"does not read as a table: with the delimiter {dialect.delimiter!r} and {quotes} its header has "
            f"{len(names)} columns and its first rows have {width}"
        )
    return Layout(dialect, header_names(names), header, below, rows[0].line, commented, notes)


def _on_repeated_names(header: Sequence[str], request: ReadRequest) -> tuple[str, ...]:
    """A note on names that several columns have.

    Raises
    ------
    InputError
        One of them is the label's, which a file to learn must have once.
    """
    counts = Counter(name for cell in header if (name := cell.strip()))
    repeated = [name for name, count in counts.items() if count > 1]
    if request.label in repeated and not request.lenient:
        raise request.file_error(f"has {counts[request.label]} columns {request.label!r}: which one is the label?")
    listed = "; ".join(
        f"{counts[name]} columns are named {name!r}: the second is read as {name + '.1'!r}"
        for name in repeated[:_REPEATED_NAMED]
    )
    return (listed,) if repeated else ()


def _fits(row: Sequence[str], width: int) -> bool:
    return len(row) == width or (len(row) == width + 1 and not row[-1].strip())


def _find_dialect(lines: list[RawLine], delimiters: Collection[str], request: ReadRequest) -> tuple[Dialect, list[Row]]:
    """The dialect that gives the most regular rows, and the first rows read with it."""
    named = {*request.text, request.label}
    best: tuple[tuple[float, ...], Dialect, list[Row]] | None = None
    text = "\n".join(decode(line.data)[0] for line in lines)
    for dialect in _candidates(text, lines, delimiters):
        items = list(split_rows(iter(lines), dialect, None))
        rows = [item for item in items if isinstance(item, Row)]
        if not rows:
            continue
        width, share = _common_width([row.cells for row in rows])
        share *= len(rows) / len(items)
        is_tab = dialect.delimiter == "\t"
        if is_tab and width > 1 and extension(request.file) == ".tsv":
            return dialect, rows
        in_header = len(named.intersection(header_names(rows[0].cells)))
        words = {name for name in named if name and not name.isdecimal()}
        for row in rows[1:_MOST_BEFORE_HEADER]:
            in_header = max(in_header, len(words.intersection(header_names(row.cells))))
        # Commas are in prose and in numbers, tabs are not.
        score = (in_header, share, is_tab, width) if width > 1 else (0, 0.0, is_tab, width)
        if best is None or score > best[0]:
            best = score, dialect, rows
    if best is None:
        raise request.file_error("does not read as a table: its first rows are all broken")
    return best[1], best[2]


def _candidates(text: str, lines: list[RawLine], delimiters: Collection[str]) -> Iterator[Dialect]:
    """The dialects that the text may be written in, the usual one of each delimiter first."""
    for delimiter in delimiters:
        quoted = delimiter not in ("\t", _NO_DELIMITER) or _is_quoted(lines)
        yield Dialect(delimiter, quoted)
        if quoted and f'{delimiter} "' in text:
            yield Dialect(delimiter, quoted, spaced=True)
        if quoted and '\\"' in text:
            yield Dialect(delimiter, quoted, escape="\\")
        if quoted and f"'{delimiter}" in text and f"{delimiter}'" in text:
            yield Dialect(delimiter, quoted, quote="'")
            if "\\'" in text:
                yield Dialect(delimiter, quoted, quote="'", escape="\\")


def _start_of_table(rows: Sequence[Row], request: ReadRequest) -> int:
    """The place of the header where titles or comments come before it, else 0."""
    width, _ = _common_width([row.cells for row in rows])
    for place, row in enumerate(rows[:_MOST_BEFORE_HEADER]):
        if (
            width > 1
            and len(row.cells) >= width - 1
            and not (place == 0 and row.cells[0].startswith("#") and len(row.cells) != width)
        ):
            below = [other.cells for other in rows[place:]]
            return place if place and len(below) > 1 and _has_header(below, request) else 0
    return 0


def _common_width(rows: Sequence[Sequence[str]]) -> tuple[int, float]:
    """The commonest number of cells, and the share of rows that have it."""
    width, count = Counter(map(len, rows)).most_common(1)[0]
    return width, count / len(rows)


def _is_quoted(lines: list[RawLine]) -> bool:
    """Whether quotes enclose cells of this file without commas, rather than stand in its prose as they come."""
    text = "\n".join(decode(line.data)[0].strip() for line in lines)
    return bool(_QUOTED.search(text)) and '"' not in _OPEN_QUOTE.sub("", _QUOTED.sub("", text))


def is_learned_header(line: str, table: TableSchema, delimiters: Collection[str] = DELIMITERS) -> bool:
    """Whether a line is a header with learned columns: the name of the only column, or cells of which half are names.

    Of a source of texts, in which a line may hold the word that is a column's name, all cells must read as names.
    """
    for cells in [[line], *(line.split(delimiter) for delimiter in delimiters if delimiter in line)]:
        names = [cell.strip(" \"'\r\ufeff") for cell in cells]
        if table.are_names(names) and (table.text_column is None or all(map(_is_name, names))):
            return True
    return False


def _has_header(sample: list[list[str]], request: ReadRequest) -> bool:
    """Whether the first row holds names: those of the request, or what can only be names."""
    first, *below = sample
    names = header_names(first)
    requested = expand(request.text, names) + ([] if request.label is None else [request.label])
    words = [name for name in requested if not name.isdecimal()]
    if any(word in names for word in words) or request.table.are_names(first):
        return True
    if not requested or words:
        return _reads_as_header(first, below)
    # A first row 0,1,2,… or 2024,2025 is a header if it has all requested names and never comes again.
    numbered = all(name.isdecimal() for name in names) and all(name in names for name in requested)
    if not request.lenient and len(first) > 1 and not below and _reads_as_header(first, below):
        raise request.file_error("has no records below its header")
    if not numbered and _reads_as_header(first, below) and _has_numeric_column(first, below):
        listed = ", ".join(names)
        raise request.file_error(f"has a header: name a column of it instead of a number; there are {listed}")
    return numbered and not _comes_again(names, below)


def _reads_as_header(first: list[str], below: list[list[str]]) -> bool:
    """Short words that never come again in their columns; a single one or equal ones only over numbers or prose."""
    names = [cell.strip() for cell in first]
    if not all(map(_is_name, names)) or _comes_again(names, below):
        return False
    if len(set(names)) < len(names):
        # several columns may have one name
        return _has_numeric_column(first, below)
    return (
        len(names) > 1
        or (bool(below) and all(parse_number(row[0]) is not None for row in below))
        or _is_over_prose(names[0], below)
    )


def _is_over_prose(name: str, below: list[list[str]]) -> bool:
    """Whether a word stands over texts, each of which has several; over a single one only a usual name is a header."""
    enough = len(below) > 1 or (bool(below) and name.casefold() in _TEXT_NAMES)
    return enough and len(name.split()) == 1 and all(len(",".join(row).split()) > 1 for row in below)


def _has_numeric_column(first: list[str], below: list[list[str]]) -> bool:
    """Whether some column holds numbers under its first cell."""
    columns = zip(first, *(row for row in below if len(row) == len(first)), strict=False)
    return bool(below) and any(all(parse_number(cell) is not None for cell in cells) for _, *cells in columns)


def _is_name(cell: str) -> bool:
    return 0 < len(cell.split()) <= _MOST_WORDS_A_NAME and parse_number(cell) is None and len(cell) <= _LONGEST_NAME


def _comes_again(first: Sequence[str], below: list[list[str]]) -> bool:
    return any(cell.strip() == name for row in below for name, cell in zip(first, row, strict=False))
