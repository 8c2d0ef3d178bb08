"""Many rows of a table, or many sessions, as one block: their fields by column, or their events, as arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from agent.core.records import BETWEEN_EVENTS, Record
from agent.data.read_options import ReadOptions
from agent.data.readers import ParsedRow
from agent.data.readers.columns import time_column
from agent.data.readers.values import spell_out
from agent.data.record_reading import as_read, dropped_fields, note_on_reading
from retrieval.encoding.field_columns import FieldColumns
from retrieval.encoding.session_block import SessionBlock
from retrieval.text.masking import find_time, has_part_of_time
from retrieval.text.prompt_injection import find_injections, have_injections, may_be_of_injection

if TYPE_CHECKING:
    from agent.data.record_parts import RecordPart
    from agent.data.session_rows import SessionRows
    from agent.data.table_block import TableBlock

T = TypeVar("T")


@dataclass(frozen=True)
class RecordBlock:
    """n records with fields and no events, or with events and no fields.

    Parameters
    ----------
    features : FieldColumns or SessionBlock
    hashes : sequence of str
        Their content hashes.
    lines : shape (n,)
        Their places in the file; 0 for a record that has none.
    plain : shape (n,)
        Which of them have nothing else: their text spells out their fields or events, holds no prompt injection, and
        they are read as they are.
    record : callable
        Makes the record at an index.
    texts : callable
        Makes the texts of the records at indices of shape (k,).
    times : callable
        Gives their times, None for a record that has none.
    notes : sequence of (int, str)
        Notes by the lines of records.
    may_begin_with_time : bool
        Whether a text may begin with a time.
    """

    features: FieldColumns | SessionBlock
    hashes: Sequence[str]
    lines: NDArray[np.int64]
    plain: NDArray[np.bool_]
    record: Callable[[int], Record]
    texts: Callable[[NDArray[np.int64]], list[str]]
    times: Callable[[NDArray[np.int64]], list[str | None]]
    notes: Sequence[tuple[int, str]] = ()
    may_begin_with_time: bool = True

    def __len__(self) -> int:
        return len(self.features)

    def times_seen(self, indices: NDArray[np.int64]) -> list[str | None]:
        """The times of records, or those that their texts begin with."""
        if not self.may_begin_with_time:
            return self.times(indices)
        pairs = zip(self.times(indices), self.texts(indices), strict=True)
        return [time or find_time(text) for time, text in pairs]

    @classmethod
    def of(cls, records: Sequence[Record], options: ReadOptions) -> RecordBlock:
        """The block of n records of a file that is read by these options."""
        if all(record.events and not record.fields for record in records):
            return cls._of_sessions(records)
        columns = FieldColumns.of([record.fields for record in records])
        read = _ReadAsTheyAre(options)
        plain = np.array(
            [
                record.series is None
                and not record.events
                and record.text == spell_out(record.fields)
                and read.keeps_names(record)
                and not find_injections(record.text)
                for record in records
            ],
            bool,
        )
        plain &= read.keeps_values(columns)
        return cls(
            columns,
            [record.content_hash for record in records],
            np.array([record.line or 0 for record in records], np.int64),
            plain,
            records.__getitem__,
            lambda indices: [records[i].text for i in indices.tolist()],
            lambda indices: [records[i].time for i in indices.tolist()],
        )

    @classmethod
    def _of_sessions(cls, records: Sequence[Record]) -> RecordBlock:
        plain = [
            record.series is None
            and record.text == BETWEEN_EVENTS.join(record.events)
            and record.text == record.text.strip()
            and not find_injections(record.text)
            for record in records
        ]
        return cls(
            SessionBlock.of([record.events for record in records]),
            [record.content_hash for record in records],
            np.array([record.line or 0 for record in records], np.int64),
            np.array(plain, bool),
            records.__getitem__,
            lambda indices: [records[i].text for i in indices.tolist()],
            lambda indices: [records[i].time for i in indices.tolist()],
        )

    @classmethod
    def of_part(cls, part: RecordPart, options: ReadOptions) -> RecordBlock:
        """The block of the rows or sessions of a file, see `agent.data.record_parts.with_odd_apart`."""
        from agent.data.record_parts import MixedRows
        from agent.data.table_block import TableBlock

        if isinstance(part, TableBlock):
            return cls._of_table(part, options)
        if not isinstance(part, MixedRows):
            return cls._of_session_rows(part)
        block = cls.of_part(part.block, options)
        records = [row.record for row in part.others if isinstance(row, ParsedRow)]
        merged = block._merged_with(cls.of(records, options)) if records else block
        return replace(merged, notes=(*part.notes, *block.notes))

    def _merged_with(self, other: RecordBlock) -> RecordBlock:
        """These records and others, in the order of their lines."""
        count, both = len(self), np.concatenate([self.lines, other.lines])
        order, plain = np.argsort(both, kind="stable"), np.concatenate([self.plain, other.plain])
        if isinstance(self.features, FieldColumns) and isinstance(other.features, FieldColumns):
            features: FieldColumns | SessionBlock = self.features.followed_by(other.features).take(order)
        else:
            # the features of the others are not needed where they are not plain
            plain[count:] = False
            features = self.features.take(np.where(order < count, order, 0))

        def of_both(
            first: Callable[[NDArray[np.int64]], list[T]], second: Callable[[NDArray[np.int64]], list[T]]
        ) -> Callable[[NDArray[np.int64]], list[T]]:
            def at(indices: NDArray[np.int64]) -> list[T]:
                places = order[indices]
                found = iter(first(places[places < count])), iter(second(places[places >= count] - count))
                return [next(found[place >= count]) for place in places.tolist()]

            return at

        def record(index: int) -> Record:
            place = int(order[index])
            return self.record(place) if place < count else other.record(place - count)

        hashes = [*self.hashes, *other.hashes]
        return RecordBlock(
            features,
            [hashes[place] for place in order.tolist()],
            both[order],
            plain[order],
            record,
            of_both(self.texts, other.texts),
            of_both(self.times, other.times),
            may_begin_with_time=self.may_begin_with_time or other.may_begin_with_time,
        )

    @classmethod
    def _of_session_rows(cls, block: SessionRows) -> RecordBlock:
        return cls(
            SessionBlock.of_events(block.session, *block.events),
            block.hashes(),
            block.lines,
            block.are_plain(),
            block.record,
            block.texts,
            block.times,
            block.notes,
        )

    @classmethod
    def _of_table(cls, block: TableBlock, options: ReadOptions) -> RecordBlock:
        fields = block.fields
        read = _ReadAsTheyAre(options)
        plain = read.keeps_values(fields)
        if not read.keeps_names(block.record(0)):
            plain[:] = False
        for name in block.columns:
            # what is no number in JSON
            plain &= ~np.isinf(fields[name].numbers)
        hashes = block.hashes()
        for i in np.flatnonzero(~plain).tolist():
            hashes[i] = block.record(i).content_hash
        plain &= ~_have_injections(block)
        begins = _may_begin_with_time(block)
        return cls(fields, hashes, block.lines, plain, block.record, block.texts, block.times, block.notes, begins)


def _may_begin_with_time(block: TableBlock) -> bool:
    """Whether the text of a row may begin with a time, before which no word may stand as the "is" after a name.

    That is in a name, or in a value as of logs of accesses: `name is value [`.
    """
    words = (word for name in block.columns for word in block.fields[name].words if "[" in word)
    return any(map(has_part_of_time, chain(block.columns, words)))


def _have_injections(block: TableBlock) -> NDArray[np.bool_]:
    """Which records of a block have a prompt injection in their texts, shape (n,)."""
    suspect = np.full(len(block), any(map(may_be_of_injection, block.columns)))
    for name in block.columns:
        column = block.fields[name]
        of_word = np.array([*map(may_be_of_injection, column.words), False], bool)
        suspect |= of_word[column.codes]
    indices = np.flatnonzero(suspect)
    suspect[indices] = have_injections(block.texts(indices))
    return suspect


class _ReadAsTheyAre:
    """Tells which records of a file `as_read` does not change, by their names and their texts."""

    def __init__(self, options: ReadOptions) -> None:
        self._options = options
        self._kept: dict[tuple[str, ...], bool] = {}

    def keeps_names(self, record: Record) -> bool:
        """Whether records with these names are read as they are, and are not noted."""
        names = tuple(record.fields)
        if names not in self._kept:
            read = as_read(record, self._options)
            self._kept[names] = (
                tuple(read.fields) == names
                and time_column(names) is None
                and not dropped_fields(record, read, self._options)
                and note_on_reading(record, read, self._options) is None
            )
        return self._kept[names]

    def keeps_values(self, columns: FieldColumns) -> NDArray[np.bool_]:
        """Which records have only texts that are not read as something else, shape (n,)."""
        kept, typed = np.ones(len(columns), bool), self._options.table.typed
        for name in columns.names:
            column = columns[name]
            same = np.array([*(typed(name, word) == word for word in column.words), True])
            kept &= same[column.codes]
        return kept
