"""Rows of a table as one block of cells."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from agent.core.records import Record, clean_text
from agent.data.readers.row import ParsedRow, ReadRequest, RowError
from agent.data.readers.values import to_time
from agent.data.redacted_columns import have_secret_numbers, redacted_cells
from agent.data.typed_column import TypedColumn, escaped, typed_columns
from retrieval.encoding.field_columns import FieldColumns

Ints = NDArray[np.int64]


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
    def _escaped_texts(self) -> pl.Series:
        """The texts of the records as they are inside of a text of JSON."""
        spelled = {name: typed.spelled for name, typed in self._typed.items()}
        frame = pl.DataFrame({str(j): column for j, column in enumerate(spelled.values())})
        before = [pl.lit(f"{escaped(name)} is ") for name in spelled]
        parts = [pl.concat_str(name, pl.col(str(j))) for j, name in enumerate(before)]
        return frame.select(text=pl.concat_str(parts, separator=" ", ignore_nulls=True)).to_series()

    def odd(self) -> NDArray[np.bool_]:
        """Which rows must be read one by one, shape (n,): empty or long ones, with NaN, or with a secret number."""
        odd: NDArray[np.bool_] = ~np.logical_or.reduce([self.fields[name].filled for name in self.columns])
        # as they are in JSON, where they may be longer
        odd |= (self._escaped_texts.str.len_chars() > self.request.max_chars).to_numpy()
        for column in self.cells.select(self.columns):
            if column.dtype in (pl.Float32, pl.Float64):
                odd |= column.is_nan().fill_null(value=False).to_numpy()
            if self.request.redactor is not None:
                odd |= have_secret_numbers(column, self.request.redactor).to_numpy()
        return odd

    def chosen(self, which: NDArray[np.bool_]) -> TableBlock:
        """The rows of a mask of shape (n,)."""
        return replace(self, cells=self.cells.filter(pl.Series(which)), lines=self.lines[which])

    def texts(self, indices: Ints) -> list[str]:
        """The texts of the records at indices of shape (k,)."""
        texts = self._escaped_texts.gather(indices).to_list()
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
        frame = pl.DataFrame([self._escaped_texts, *(self._typed[name].as_json.alias(name) for name in self.columns)])
        frame = frame.rename({name: str(j) for j, name in enumerate(frame.columns)})
        parts = [pl.lit('["'), pl.col("0"), pl.lit('", {')]
        for place, (name, j) in enumerate(sorted((name, j) for j, name in enumerate(self.columns, start=1))):
            parts += [pl.lit(f'{", " if place else ""}"{escaped(name)}": '), pl.col(str(j))]
        contents = frame.select(pl.concat_str([*parts, pl.lit("}, []]")])).to_series().cast(pl.Binary)
        return [hashlib.sha256(content).hexdigest() for content in contents.to_list()]


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
