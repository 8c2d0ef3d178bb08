"""Tables in blocks: the rows that are surely read as one by one as a data frame, all others one by one."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from agent.data.readers.row import ParsedRow, ReadRequest, RowError
from agent.data.readers.values import Cell, to_time

# the columns of frames that hold nothing but texts and times
TEXT, TIME = "text", "time"


@dataclass(frozen=True)
class Block:
    """Consecutive rows of a file.

    Attributes
    ----------
    frame : polars.DataFrame
        The cells of n rows, as text, by the learned names of their columns.
    lines : ndarray of int64, shape (n,)
        The line of each of these rows, ascending.
    rest : list of ParsedRow or RowError
        The other rows in their order.
    notes : list of (int, str)
        Notes on rows of the frame, by their lines.
    """

    frame: pl.DataFrame
    lines: NDArray[np.int64]
    rest: list[ParsedRow | RowError]
    notes: list[tuple[int, str]] = field(default_factory=list)

    @property
    def items(self) -> int:
        """Number of rows, unread ones included."""
        return len(self.lines) + len(self.rest)


@dataclass(frozen=True)
class BlockTable:
    """A file that is read in blocks.

    Attributes
    ----------
    request : ReadRequest
        For this file, as its rows are read one by one.
    columns : list of str
        The columns that make a record.
    time : str or None
        The column of its time.
    is_text : bool
        Whether a record is the text of its only column.
    blocks : iterator of Block
    time_of : callable
        The time as records have it, from its cell.
    """

    request: ReadRequest
    columns: list[str]
    time: str | None
    is_text: bool
    blocks: Iterator[Block]
    time_of: Callable[[Cell], str | None] = to_time


def line_of(row: ParsedRow | RowError) -> int:
    """The line of a row, 0 if it is not known."""
    return (row.record.line if isinstance(row, ParsedRow) else row.line) or 0


def noting(request: ReadRequest, blocks: Iterable[Block]) -> Iterator[Block]:
    """The blocks, the first record with the notes on the file."""
    waiting = request.notes
    for block in blocks:
        rows = [row for row in block.rest if isinstance(row, ParsedRow)]
        if waiting and (rows or len(block.lines)):
            first = int(block.lines[0]) if len(block.lines) else None
            if first is None or (rows and (rows[0].record.line or 0) < first):
                first = rows[0].record.line or 0
            block.notes[:0] = [(first, note) for note in waiting]
            waiting = ()
        yield block


def split_lines_by_array(data: bytes, count: int) -> pl.Series | None:
    """The ``count`` lines of some data; None if they are not UTF-8."""
    try:
        lines = pl.read_lines(io.BytesIO(data)).to_series()
    except pl.exceptions.PolarsError:
        return None
    return lines if len(lines) == count else None
