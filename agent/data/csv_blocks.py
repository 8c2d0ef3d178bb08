"""CSV in blocks: lines whose cells are the same by any reader of CSV are read by array, all others one by one."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice

import numpy as np
import polars as pl

from agent.data.blocks import Block, BlockTable, line_of, noting, split_lines_by_array
from agent.data.chunks import SIZE, read_chunks
from agent.data.readers.byte_stream import Damaged, Stream
from agent.data.readers.csv import CsvTable, open_table
from agent.data.readers.csv_rows import LONGEST_LINE, UNCLOSED, BrokenRow
from agent.data.readers.lines import RawLine, split_lines
from agent.data.readers.row import ParsedRow, ReadRequest, RowError
from retrieval.arrays import Bools, Ints
from retrieval.text.template_hash import joined

# rows of a block that is read one by one; bytes and lines of a row that is not closed yet
_ROWS, _MOST_OPEN, _MOST_OPEN_LINES = 2_048, 1 << 20, 1_000
# characters that are removed or replaced where a line is decoded
_CHANGED = "[\x00\x1b\ufeff]"


def open_csv_blocks(stream: Stream, request: ReadRequest, size: int = SIZE) -> BlockTable | None:
    """A CSV in blocks of ``size`` bytes; None if it has no rows.

    Raises
    ------
    InputError
        As `agent.data.readers.csv.open_table`; the blocks raise what reading one by one does.
    """
    table = open_table(stream, request)
    return None if table is None else blocks_of(table, stream, size)


def blocks_of(table: CsvTable, stream: Stream, size: int = SIZE) -> BlockTable:
    """The rows of a table, whose stream was looked at only, in blocks of ``size`` bytes."""
    column = table.columns[0]
    is_text = len(table.columns) == 1 and not table.numeric and column not in table.request.table.notations
    blocks = noting(table.request, _CsvBlocks(table, stream, size).read())
    return BlockTable(table.request, table.columns, table.time, is_text, blocks)


@dataclass(frozen=True)
class _Lines:
    """Consecutive lines of a file, the first with that number; ``data`` holds them and maybe more."""

    first: int
    lines: pl.Series
    quotes: Ints
    data: bytes

    def __len__(self) -> int:
        return len(self.lines)

    def head(self, count: int) -> _Lines:
        """The first lines."""
        return _Lines(self.first, self.lines[:count], self.quotes[:count], self.data)

    def joined(self, chosen: Bools) -> bytes:
        """The bytes of the ``chosen`` lines, of which there is at least one, with their line ends."""
        if len(chosen) == self.data.count(b"\n") and chosen.all():
            return self.data
        return joined(self.lines.filter(pl.Series(chosen)))

    def raw(self, start: int, stop: int) -> list[RawLine]:
        """The lines from one index to another as they are in the file."""
        if b"\r" in self.data and start < stop:
            begin = int(self._ends[start - 1]) + 1 if start else 0
            lines = self.data[begin : int(self._ends[stop - 1])].split(b"\n")
        else:
            lines = [text.encode() for text in self.lines[start:stop].to_list()]
        return [RawLine(self.first + start + index, line) for index, line in enumerate(lines)]

    @cached_property
    def _ends(self) -> Ints:
        """Where the lines end in the data: polars leaves out the carriage return there, which a cell may hold."""
        return np.flatnonzero(np.frombuffer(self.data, np.uint8) == ord("\n"))


class _CsvBlocks:
    def __init__(self, table: CsvTable, stream: Stream, size: int) -> None:
        self._table, self._dialect = table, table.layout.dialect
        self._chunks = read_chunks(stream, size=size)
        self._width = len(table.names)
        # the last record that was read in a frame, if no other was read since
        self._last = 0
        delimiter = re.escape(self._dialect.delimiter)
        cell = rf'(?:[^"{delimiter}]*|"(?:[^"]|"")*")'
        self._regular = rf"^{cell}(?:{delimiter}{cell}){{{self._width - 1}}}$"
        names = sum(len(name) + len(" is  ") for name in table.columns)
        self._longest = table.request.max_chars - names

    def read(self) -> Iterator[Block]:
        dialect, data, first = self._dialect, b"", 1
        usual = dialect.escape is None and not dialect.spaced and (dialect.quote == '"' or not dialect.quoted)
        try:
            for chunk in self._chunks if usual else ():
                data += chunk.data
                if (lines := self._split(data, first)) is None:
                    break
                # a row may go on in the next chunk
                closed = np.flatnonzero(np.cumsum(lines.quotes) % 2 == 0)
                count = int(closed[-1]) + 1 if len(closed) else 0
                block, used = self._block(lines.head(count))
                yield block
                first += used
                left = len(lines) - used
                data = b"".join(line.data + b"\n" for line in lines.raw(used, used + left))
                if used < count or len(data) > _MOST_OPEN or left > _MOST_OPEN_LINES:
                    # a quote that may never be closed
                    break
        except Damaged:
            rows = self._table.split(split_lines([data], LONGEST_LINE, number=first))
            yield _of_rest(list(chain.from_iterable(map(self._table.read, rows))))
            raise
        yield from self._one_by_one([data], first)

    def _split(self, data: bytes, first: int) -> _Lines | None:
        """The lines of some data; None if they are not UTF-8, or so long that they are cut."""
        lines = split_lines_by_array(data, data.count(b"\n"))
        if lines is None or (lines.str.len_bytes() >= LONGEST_LINE).any():
            return None
        quotes = np.zeros(len(lines), np.int64)
        if self._dialect.quoted and b'"' in data:
            quotes = lines.str.count_matches('"', literal=True).to_numpy().astype(np.int64)
        return _Lines(first, lines, quotes, data)

    def _one_by_one(self, data: Iterable[bytes], first: int) -> Iterator[Block]:
        """All from line ``first`` on, of which ``data`` has been read."""
        lines = split_lines(chain(data, (chunk.data for chunk in self._chunks)), LONGEST_LINE, number=first)
        items = chain.from_iterable(map(self._table.read, self._table.split(lines)))
        while batch := list(islice(items, _ROWS)):
            self._last = 0
            yield _of_rest(batch)
        count = self._table.count_of_short()
        if rest := list(self._table.finish()):
            yield _of_rest([*rest])
        elif self._last and count:
            yield Block(pl.DataFrame(), np.zeros(0, np.int64), [], [(self._last, note) for note in count])

    def _block(self, lines: _Lines) -> tuple[Block, int]:
        """The rows of some lines, and how many of these were read."""
        certain = self._certain(lines)
        frame = self._frame(lines, certain)
        if frame is None:
            certain = np.zeros(len(certain), np.bool_)
            frame = pl.DataFrame()
        elif len(unsure := np.flatnonzero(self._is_unsure(frame))):
            frame = frame.filter(pl.Series(~self._is_unsure(frame)))
            certain[np.flatnonzero(certain)[unsure]] = False
        rest, used = self._rest(lines, certain)
        places = np.flatnonzero(certain)
        if used < len(certain):
            places = places[places < used]
            frame = frame.head(len(places))
        if len(places):
            last, others = lines.first + int(places[-1]), [line_of(row) for row in rest]
            is_last = not others or others[-1] < last
            self._last = last if is_last else 0
            rest += self._table.skip(is_last=is_last)
        elif rest:
            self._last = 0
        return Block(frame, lines.first + places, rest), used

    def _certain(self, lines: _Lines) -> Bools:
        """Which lines are a row whose cells do not depend on what comes before."""
        texts, layout = lines.lines, self._table.layout
        if b"\r" in lines.data:
            texts = texts.str.strip_suffix("\r")
        is_open = np.cumsum(lines.quotes) % 2
        certain: Bools = (lines.quotes % 2 == 0) & (is_open == 0)
        certain[: max(0, layout.first_line - lines.first + (layout.header is not None))] = False
        usual = ~texts.str.contains("\r", literal=True) & ~texts.str.contains(_CHANGED)
        usual &= (texts.str.len_bytes() <= self._longest) & (texts != "")
        if layout.commented:
            usual &= ~texts.str.starts_with("#")
        cells = texts.str.count_matches(self._dialect.delimiter, literal=True) == self._width - 1
        certain &= usual.to_numpy()
        quoted = np.flatnonzero(certain & (lines.quotes > 0))
        certain &= cells.to_numpy() | (lines.quotes > 0)
        if len(quoted):
            certain[quoted] = texts.gather(quoted).str.contains(self._regular).to_numpy()
        return certain

    def _frame(self, lines: _Lines, certain: Bools) -> pl.DataFrame | None:
        """The cells of lines that are certain; None if they cannot be read so."""
        names, count = list(self._table.names), int(certain.sum())
        if not count:
            return pl.DataFrame(schema=dict.fromkeys(names, pl.String))
        try:
            frame = pl.read_csv(
                io.BytesIO(lines.joined(certain)),
                has_header=False,
                separator=self._dialect.delimiter,
                quote_char='"' if self._dialect.quoted else None,
                schema=dict.fromkeys(names, pl.String),
                empty_string_is_null=False,
            )
        except pl.exceptions.PolarsError:
            return None
        return frame if len(frame) == count else None

    def _is_unsure(self, frame: pl.DataFrame) -> Bools:
        """Rows that are the header again, or have no text."""
        header, names = self._table.layout.header, self._table.names
        of_cells = [[pl.col(name).str.strip_chars() == "" for name in self._table.columns]]
        if header is not None and len(header) == len(names):
            of_cells.append([pl.col(name) == cell for name, cell in zip(names, header, strict=True)])
        # few rows have even one cell so
        suspect = frame.select(pl.any_horizontal(cells[0] for cells in of_cells)).to_series().to_numpy().copy()
        if suspect.any():
            unsure = pl.any_horizontal(pl.all_horizontal(cells) for cells in of_cells)
            suspect[suspect] = frame.filter(pl.Series(suspect)).select(unsure).to_series().to_numpy()
        return suspect

    def _rest(self, lines: _Lines, certain: Bools) -> tuple[list[ParsedRow | RowError], int]:
        """The rows that are read one by one, and the line up to which they could be."""
        is_open = np.cumsum(lines.quotes) % 2
        ends = np.flatnonzero((is_open == 0) & ~certain)
        rest, start = list[ParsedRow | RowError](), 0
        begins = np.concatenate([[0], np.flatnonzero(is_open == 0) + 1])
        for end in ends.tolist():
            # the row begins after the last line at whose end no quote was open
            start = int(begins[np.searchsorted(begins, end, side="right") - 1])
            rows = list(self._table.split(lines.raw(start, end + 1)))
            if any(isinstance(row, BrokenRow) and row.reason == UNCLOSED for row in rows):
                return rest, start
            for row in rows:
                rest += self._table.read(row)
        return rest, len(certain)


def _of_rest(rest: list[ParsedRow | RowError]) -> Block:
    return Block(pl.DataFrame(), np.zeros(0, np.int64), rest)
