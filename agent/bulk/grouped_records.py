"""Records of a part of a file by array: their lines, groups, texts and times, and what was not read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from agent.bulk.hash_table import GroupNumbers
from agent.bulk.judged_groups import JudgedGroups
from agent.bulk.prepared_chunk import PreparedChunk
from agent.bulk.summary import first_of_each
from agent.bulk.template_grouping import BLANK, TemplateGrouper
from agent.bulk.unread_lines import unread_lines
from agent.core.records import content_hash
from agent.data.blocks import Block, BlockTable
from agent.data.readers import ParsedRow, RowError
from agent.data.readers.row import EMPTY
from agent.data.readers.values import Cell
from agent.data.redacted_columns import redacted_texts
from agent.scoring.batch_rate import BatchProbabilities
from retrieval.text.masking import find_time

if TYPE_CHECKING:
    import polars as pl

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class GroupedRecords:
    """Records of n lines.

    Attributes
    ----------
    lines : ndarray of int64, shape (n,)
        Their line numbers, ascending.
    groups : ndarray of int32, shape (n,)
        The numbers of their groups.
    texts : callable
        Gives the texts of the records at an array of indices, shape (k,).
    position : (int, int)
        Where reading goes on after them.
    times : callable or None
        Gives the times of records at indices; None for logs, whose texts hold them.
    failures : list of RowError
        What was not read.
    blank : int
        Blank lines.
    notes : list of str
        What the reader changed.
    size : int
        Offset in the file after them; 0 if it is not known.
    """

    lines: Indices
    groups: GroupNumbers
    texts: Callable[[Indices], Sequence[str]]
    position: tuple[int, int]
    times: Callable[[Indices], Sequence[str | None]] | None = None
    failures: list[RowError] = field(default_factory=list)
    blank: int = 0
    notes: list[str] = field(default_factory=list)
    size: int = 0

    def times_seen(self, indices: Indices) -> list[str | None]:
        """The times of records, or those that their texts begin with."""
        times = self.times(indices) if self.times else [None] * len(indices)
        return [time or find_time(text) for time, text in zip(times, self.texts(indices), strict=True)]


def of_log(prepared: PreparedChunk, numbers: GroupNumbers) -> GroupedRecords:
    """The records of a chunk of a log with the group numbers of its lines."""
    chunk, unread = prepared.chunk, unread_lines(prepared, numbers)
    judged = np.flatnonzero(numbers >= 0)
    return GroupedRecords(
        chunk.first + judged,
        numbers[judged],
        lambda indices: prepared.texts(judged[indices]),
        (chunk.end, chunk.first + len(numbers)),
        failures=unread,
        blank=int((numbers == BLANK).sum()) - len(unread),
        size=chunk.end,
    )


class TextBlocks:
    """The records of a table, each the text of one column, grouped by their templates.

    Parameters
    ----------
    table : BlockTable
    grouper : TemplateGrouper
    """

    def __init__(self, table: BlockTable, grouper: TemplateGrouper) -> None:
        self._table, self._grouper = table, grouper
        self._text, self._time = table.columns[0], table.time

    def prepare(self) -> Iterator[tuple[Block, PreparedChunk | None]]:
        """The blocks, hashed; may be called in a thread."""
        for block in self._table.blocks:
            prepared = None
            if len(block.lines):
                texts = redacted_texts(self._text, block.frame.get_column(self._text), self._table.request)
                block = replace(block, frame=block.frame.with_columns(texts.alias(self._text)))
                prepared = self._grouper.prepare_texts(texts, block.lines, self._table.request)
            yield block, prepared

    def group(self, block: Block, prepared: PreparedChunk | None, done: int) -> GroupedRecords:
        """The records of a block, of ``done`` rows with those before it."""
        file = self._table.request.file
        rows = [row for row in block.rest if isinstance(row, ParsedRow)]
        notes = [f"{file}:{line}: {note}" for line, note in block.notes]
        notes += [f"{file}:{row.record.line}: {note}" for row in rows for note in row.notes]
        numbers = np.zeros(0, np.int32) if prepared is None else self._grouper.assign(prepared)
        others = np.array([self._grouper.number_of_row(row) for row in rows], np.int32)
        lines = np.concatenate([block.lines, np.array([row.record.line or 0 for row in rows], np.int64)])
        groups = np.concatenate([numbers, others])
        order = np.argsort(lines, kind="stable")
        # characters that only Python takes for spaces
        blank = lines[groups < 0].tolist()
        order = order[groups[order] >= 0]
        frame, text, time = block.frame, self._text, self._time

        def texts(indices: Indices) -> list[str]:
            return self._texts(frame.get_column(text) if len(frame) else None, order[indices], rows)

        def times(indices: Indices) -> Sequence[str | None]:
            if time is None:
                return [None] * len(indices)
            return self._times(frame.get_column(time) if len(frame) else None, order[indices], rows)

        return GroupedRecords(
            lines[order],
            groups[order],
            texts,
            (done, 1),
            times,
            failures=[row for row in block.rest if isinstance(row, RowError)]
            + [self._table.request.row_error(line, EMPTY) for line in blank],
            notes=notes,
        )

    @staticmethod
    def _texts(cells: pl.Series | None, places: Indices, rows: Sequence[ParsedRow]) -> list[str]:
        texts: list[str] = [] if cells is None else cells.gather(places[places < len(cells)]).to_list()
        if not rows:
            return texts
        first, of_frame = 0 if cells is None else len(cells), iter(texts)
        return [next(of_frame) if place < first else rows[place - first].record.text for place in places.tolist()]

    def _times(self, cells: pl.Series | None, places: Indices, rows: Sequence[ParsedRow]) -> list[str | None]:
        of_frame = iter([] if cells is None else cells.gather(places[places < len(cells)]).to_list())
        first, request = 0 if cells is None else len(cells), self._table.request

        def time_of(cell: Cell) -> str | None:
            time = self._table.time_of(cell)
            return None if time is None else request.redacted(time)

        return [
            time_of(next(of_frame)) if place < first else rows[place - first].record.time for place in places.tolist()
        ]


def add_contents(batch: BatchProbabilities, records: GroupedRecords, judged: Indices, found: JudgedGroups) -> None:
    """Count the different contents of templates among the records at ``judged``, as of rows judged one by one."""
    groups = records.groups[judged]
    counts = np.bincount(groups)
    distinct = np.flatnonzero(counts)
    templates = [found.template(group) for group in distinct.tolist()]
    # the most anomalous record of a template counts, so there is one of each group
    wanted = np.zeros(len(counts), np.int64)
    wanted[distinct] = [max(1, batch.missing_contents(template)) for template in templates]
    places = np.concatenate([first_of_each(groups), np.flatnonzero(wanted[groups] > 1)])
    places = np.unique(places)
    order = places[np.argsort(groups[places], kind="stable")]
    sizes = np.bincount(groups[order], minlength=len(counts))[distinct]
    starts, most = np.cumsum(sizes) - sizes, np.minimum(wanted[distinct], sizes)
    within = np.arange(most.sum()) - np.repeat(np.cumsum(most) - most, most)
    texts = iter(records.texts(judged[order[np.repeat(starts, most) + within]]))
    probabilities = found.traits["probability"][distinct].tolist()
    for template, probability, count in zip(templates, probabilities, most.tolist(), strict=True):
        for text in islice(texts, count):
            batch.add(template, content_hash(text, {}, ()), probability)
