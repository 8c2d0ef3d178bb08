"""Parts of a file of records with fields or events, in its order: blocks, and rows that are read one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from agent.data.blocks import line_of
from agent.data.readers.row import ParsedRow, ReadRequest, RowError
from agent.data.session_rows import SessionRows
from agent.data.table_block import TableBlock, with_notes

_ROWS = 2_048
Items = list[ParsedRow | RowError]


@dataclass(frozen=True)
class MixedRows:
    """Rows by the block among others that were read one by one, in the order of their lines.

    Parameters
    ----------
    block : TableBlock or SessionRows
        At least one row.
    others : list of ParsedRow or RowError
        At least one.
    notes : sequence of (int, str)
        Notes by the lines of rows.
    """

    block: TableBlock | SessionRows
    others: Items
    notes: Sequence[tuple[int, str]] = ()

    def __len__(self) -> int:
        return len(self.block) + len(self.others)

    @cached_property
    def _places(self) -> NDArray[np.int64]:
        """The place of each of the others among all rows."""
        before = np.searchsorted(self.block.lines, [line_of(row) for row in self.others], side="right")
        return before + np.arange(len(self.others))

    @property
    def lines(self) -> NDArray[np.int64]:
        """The lines of the records, ascending."""
        others = [line_of(row) for row in self.others if isinstance(row, ParsedRow)]
        return np.sort(np.concatenate([self.block.lines, np.array(others, np.int64)]))

    def slice(self, start: int, size: int | None = None) -> RecordPart | Items:
        """Some of the rows."""
        stop = len(self) if size is None else min(start + size, len(self))
        first, last = np.searchsorted(self._places, [start, stop]).tolist()
        block = self.block.slice(start - first, stop - start - (last - first))
        return mixed(block, self.others[first:last], () if start else self.notes)

    def rows(self) -> Items:
        """The rows one by one."""
        rows = sorted([*self.block.rows(), *self.others], key=line_of)
        return with_notes(rows, self.notes)


RecordPart = TableBlock | SessionRows | MixedRows


def mixed(block: TableBlock | SessionRows, others: Items, notes: Sequence[tuple[int, str]] = ()) -> RecordPart | Items:
    """The rows of a block, and others, in the order of their lines; either may be empty."""
    if not len(block):
        return with_notes(others, notes)
    # a short row waits for the end of its table, a row that cannot be read does not
    others = sorted(others, key=line_of)
    return MixedRows(block, others, notes) if others else replace(block, notes=(*notes, *block.notes))


def with_odd_apart(part: RecordPart | Items) -> RecordPart | Items:
    """The part with those rows of its table one by one that must be read so."""
    block = part.block if isinstance(part, MixedRows) else part
    if not isinstance(block, TableBlock) or not (odd := block.odd()).any():
        return part
    rows = replace(block, notes=()).chosen(odd).rows()
    if isinstance(part, MixedRows):
        rows = sorted([*part.others, *rows], key=line_of)
        return mixed(block.chosen(~odd), rows, part.notes)
    return mixed(replace(block, notes=()).chosen(~odd), rows, block.notes)


def in_lists(rows: Iterator[ParsedRow | RowError]) -> Iterator[Items]:
    """Rows many at a time."""
    while items := list(islice(rows, _ROWS)):
        yield items


def noted(parts: Iterable[RecordPart | Items], request: ReadRequest) -> Iterator[RecordPart | Items]:
    """The parts of a file, the first record with the notes on the file; without empty ones."""
    for part in parts:
        if isinstance(part, list):
            items = list(request.noting(part))
            if any(isinstance(item, ParsedRow) for item in items):
                request = replace(request, notes=())
            if items:
                yield items
        else:
            notes = [(int(part.lines[0]), note) for note in request.notes]
            yield replace(part, notes=(*notes, *part.notes))
            request = replace(request, notes=())


def with_more_notes(part: RecordPart | Items, notes: list[tuple[int, str]]) -> RecordPart | Items:
    """The part with notes by the lines of rows."""
    return with_notes(part, notes) if isinstance(part, list) else replace(part, notes=(*part.notes, *notes))
