"""Tables by the block: rows that are regular are split by polars, all others as `agent.data.readers.csv` does.

A block is regular where each line is one row with as many cells as there are columns, quotes enclose whole cells, and
no character has to be replaced. Both readers then give the same records.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np
import polars as pl

from agent.data.readers.blocks import Block, Items, in_lists, noted, regular_lines, whole_lines
from agent.data.readers.byte_stream import Damaged, Stream
from agent.data.readers.csv import CsvTable, open_table
from agent.data.readers.csv_rows import LONGEST_LINE
from agent.data.readers.lines import split_lines
from agent.data.readers.row import ParsedRow, ReadRequest, RowError
from agent.data.readers.table_block import TableBlock

# bytes of a line in a block
_LONGEST = 1 << 16
_QUOTE = b'"'


def read_csv_blocks(stream: Stream, request: ReadRequest) -> Iterator[Block | Items]:
    """The rows of `agent.data.readers.csv.read_csv` in order, by the block where they are regular."""
    stream, table = open_table(stream, request)
    if table is not None:
        yield from noted(_in_order(stream, table), table.request)


def _in_order(stream: Stream, table: CsvTable) -> Iterator[Block | Items]:
    chunks, number = whole_lines(stream), 1
    try:
        for chunk in chunks:
            start = 0 if number > 1 else _end_of_header(chunk, table)
            if start is None or not (table.is_regular and _is_closed(chunk[start:], table)):
                yield from in_lists(_rows(chain([chunk], chunks), number, table))
                break
            yield list(_rows([chunk[:start]], number, table))
            first = number + chunk.count(b"\n", 0, start)
            block = _block(chunk[start:], table, first)
            if block is None:
                yield from in_lists(_rows([chunk[start:]], first, table))
            else:
                yield [*table.skip(is_last=True)]
                yield block
            number += chunk.count(b"\n")
    except Damaged as damage:
        raise Damaged(damage.reason, damage.line or number) from damage
    yield [*table.finish()]


def _rows(chunks: Iterable[bytes], number: int, table: CsvTable) -> Iterator[ParsedRow | RowError]:
    """The rows of chunks, the first line of which has that number."""
    for row in table.split(split_lines(chunks, LONGEST_LINE, number=number)):
        yield from table.read(row)


def _end_of_header(chunk: bytes, table: CsvTable) -> int | None:
    """Where the first row begins below the header; None where blocks are not possible."""
    layout, request = table.layout, table.request
    dialect = layout.dialect
    is_usual = dialect.escape is None and not dialect.spaced and dialect.quote.encode() == _QUOTE
    is_table = len(table.columns) > 1 and len(table.names) == len(layout.names) and request.lenient and not request.raw
    if layout.commented or not (is_usual and is_table and len(dialect.delimiter.encode()) == 1):
        return None
    end = 0
    for _ in range(layout.first_line - (layout.header is None)):
        end = chunk.find(b"\n", end) + 1
        if not end:
            return None
    return None if dialect.quoted and chunk.count(_QUOTE, 0, end) % 2 else end


def _is_closed(data: bytes, table: CsvTable) -> bool:
    """Whether no quoted cell can go on behind the end of its line."""
    if not table.layout.dialect.quoted or _QUOTE not in data:
        return True
    delimiter = re.escape(table.layout.dialect.delimiter)
    cell = f'(?:[^"{delimiter}]*|"(?:[^"]|"")*")'
    lines = _lines(data)
    return bool(
        lines.filter(lines.str.contains('"', literal=True)).str.contains(f"^{cell}(?:{delimiter}{cell})*$").all()
    )


def _lines(data: bytes) -> pl.Series:
    return pl.Series(data.decode("utf-8", "replace").replace("\r\n", "\n").removesuffix("\n").split("\n"))


def _block(data: bytes, table: CsvTable, first: int) -> TableBlock | None:
    """The block of some lines, the first of which has that number; None if they are not regular."""
    dialect, width = table.layout.dialect, len(table.names)
    if (regular := regular_lines(data)) is None:
        return None
    data = regular
    codes = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(codes == ord("\n"))
    if np.diff(ends, prepend=-1).max() > _LONGEST:
        return None
    if dialect.quoted and _QUOTE in data:
        unquoted = _lines(data).str.replace_all('"(?:[^"]|"")*"', "")
        cells = unquoted.str.count_matches(dialect.delimiter, literal=True).to_numpy() + 1
    else:
        delimiters = np.flatnonzero(codes == ord(dialect.delimiter))
        cells = np.diff(np.searchsorted(delimiters, ends), prepend=0) + 1
    if (cells != width).any():
        return None
    frame = pl.read_csv(
        io.BytesIO(data),
        has_header=False,
        separator=dialect.delimiter,
        quote_char='"' if dialect.quoted else None,
        new_columns=list(table.names),
        infer_schema=False,
        empty_string_is_null=False,
    )
    header = table.layout.header
    if frame.shape != (len(ends), width) or (header and (frame.to_series(0) == header[0]).any()):
        return None
    return TableBlock(table.request, frame, tuple(table.columns), table.time, first)
