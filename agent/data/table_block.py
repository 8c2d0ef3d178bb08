"""Rows of a table as one block of cells."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import polars as pl

from agent.core.records import Record, clean_text
from agent.data.readers.row import ParsedRow, ReadRequest, RowError
from agent.data.readers.values import to_time
from agent.data.redacted_columns import have_secret_numbers, redacted_cells
from agent.data.typed_column import TypedColumn, escaped, typed_columns
from retrieval.arrays import Bools, Ints
from retrieval.encoding.field_columns import FieldColumns


@dataclass(frozen=True)
class TableBlock:
    """n rows of a file.

    Parameters
    ----------
    request : ReadRequest
    cells : DataFrame of strings, numbers and booleans
        By the learned names of its columns.
    columns : tuple of str
        Those that make the records, at least two.
    time : str or None
        The column of the time.
    lines : shape (n,)
        The lines of the rows.
    notes : sequence of (int, str)
        Notes by the lines of rows.
    """

    request: ReadRequest
    cells: pl.DataFrame
    columns: tuple[str, ...]
    time: str | None
    lines: Ints
    notes: Sequence[tuple[int, str]] = ()

    @classmethod
    def of(
        cls, request: ReadRequest, cells: pl.DataFrame, columns: Sequence[str], time: str | None, lines: Ints
    ) -> TableBlock:
        """The block of rows with these cells, with placeholders where the source is redacted."""
        return cls(request, redacted_cells(cells, columns, request), tuple(columns), time, lines)

    def __len__(self) -> int:
        return len(self.cells)

    def slice(self, start: int, size: int | None = None) -> TableBlock:
        """Some of the rows."""
        lines = self.lines[start : None if size is None else start + size]
        return replace(self, cells=self.cells.slice(start, size), lines=lines, notes=() if start else self.notes)

    def rows(self) -> list[ParsedRow | RowError]:
        """The rows one by one."""
        names = self.cells.columns
        rows = [
            self.request.parse_cells(line, dict(zip(names, cells, strict=True)), self.columns, time=self.time)
            for line, cells in zip(self.lines.tolist(), self.cells.iter_rows(), strict=True)
        ]
        return with_notes(rows, self.notes)

    def record(self, index: int) -> Record:
        """The record of one row."""
        row = self.request.parse_cells(
            int(self.lines[index]), self.cells.row(index, named=True), self.columns, time=self.time
        )
        assert isinstance(row, ParsedRow)
        return row.record

    @cached_property
    def _typed(self) -> dict[str, TypedColumn]:
        return typed_columns(self.cells.select(self.columns), self.request.typed, self.request.table.notations)

    @cached_property
    def fields(self) -> FieldColumns:
        """The fields of the records."""
        return FieldColumns(len(self), {name: typed.column for name, typed in self._typed.items()})

    @cached_property
    def _contents(self) -> pl.Series:
        """What the records' hashes are of, see `agent.core.records.content_hash`."""
        fields = list[str | pl.Series]()
        for name in sorted(self.columns):
            typed = self._typed[name]
            fields += [f'{", " if fields else ""}"{escaped(name)}": ', typed.as_json, typed.json_end]
        texts = _texts_of({name: typed.spelled for name, typed in self._typed.items()})
        return _concatenated(['["', *texts, '", {', *fields, "}, []]"])

    def _escaped_texts(self, indices: Ints) -> pl.Series:
        """The texts of the records at indices of shape (k,), as they are inside of a text of JSON."""
        return _concatenated(_texts_of({name: typed.spelled.gather(indices) for name, typed in self._typed.items()}))

    def odd(self) -> Bools:
        """Which rows must be read one by one, shape (n,): empty or long ones, with NaN, or with a secret number."""
        odd: Bools = ~np.logical_or.reduce([self.fields[name].filled for name in self.columns])
        # a text is part of the content; as it is in JSON, where it may be longer
        long = (self._contents.str.len_bytes() > self.request.max_chars).arg_true().to_numpy()
        if len(long):
            odd[long] |= (self._escaped_texts(long).str.len_chars() > self.request.max_chars).to_numpy()
        for column in self.cells.select(self.columns):
            if column.dtype in (pl.Float32, pl.Float64):
                odd |= column.is_nan().fill_null(value=False).to_numpy()
            if self.request.redactor is not None:
                odd |= have_secret_numbers(column, self.request.redactor).to_numpy()
        return odd

    def chosen(self, mask: Bools) -> TableBlock:
        """The rows of a mask of shape (n,)."""
        return replace(self, cells=self.cells.filter(pl.Series(mask)), lines=self.lines[mask])

    def texts(self, indices: Ints) -> list[str]:
        """The texts of the records at indices of shape (k,)."""
        texts = self._escaped_texts(indices).to_list() if len(indices) else []
        return [json.loads(f'"{text}"') if "\\" in text else text for text in texts]

    def times(self, indices: Ints) -> list[str | None]:
        """The times of the records at indices of shape (k,)."""
        if self.time not in self.cells.columns:
            return [None] * len(indices)
        return [
            None if cell is None else self.request.redacted(clean_text(cell))
            for cell in map(to_time, self.cells[self.time].gather(indices))
        ]

    def hashes(self) -> list[str]:
        """The hashes of the records' contents, see `agent.core.records.content_hash`."""
        return [hashlib.sha256(content).hexdigest() for content in self._contents.cast(pl.Binary).to_list()]


def _texts_of(spelled: Mapping[str, pl.Series]) -> list[str | pl.Series]:
    """The parts of which texts consist, from the values as texts have them, by the names of the fields."""
    named = [(f"{escaped(name)} is ", column) for name, column in spelled.items()]
    if any(column.null_count() for _, column in named):
        pairs = pl.DataFrame([_concatenated(pair).alias(str(j)) for j, pair in enumerate(named)])
        return [pairs.select(text=pl.concat_str(pl.all(), separator=" ", ignore_nulls=True)).to_series()]
    return [part for j, (name, column) in enumerate(named) for part in (f"{' ' * bool(j)}{name}", column)]


def _concatenated(parts: Sequence[str | pl.Series]) -> pl.Series:
    """The parts of n texts one after the other, of which those that are no series are the same in all."""
    columns = [part.alias(str(j)) for j, part in enumerate(parts) if not isinstance(part, str)]
    form = "".join(part.replace("{", "{{").replace("}", "}}") if isinstance(part, str) else "{}" for part in parts)
    # `concat_str` takes twice the time
    return pl.DataFrame(columns).select(text=pl.format(form, *(column.name for column in columns))).to_series()


def with_notes(rows: Sequence[ParsedRow | RowError], notes: Sequence[tuple[int, str]]) -> list[ParsedRow | RowError]:
    """The rows with ``notes`` by their lines; one on a line that is no record is at the next record."""
    waiting, out = list(notes), list[ParsedRow | RowError]()
    for row in rows:
        if isinstance(row, ParsedRow) and waiting:
            line = row.record.line or 0
            ready = tuple(note for place, note in waiting if place <= line)
            waiting = [(place, note) for place, note in waiting if place > line]
            row = replace(row, notes=(*ready, *row.notes))
        out.append(row)
    return out
