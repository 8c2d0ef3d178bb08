"""The features of many records by column, as arrays: what all encoders of fields read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from retrieval.arrays import Bools, Floats, Ints

FieldValue = float | str | bool | None
Row = Mapping[str, FieldValue]
Codes = NDArray[np.int32]


@dataclass(frozen=True)
class Column:
    """The values of one feature in n records.

    Parameters
    ----------
    numbers : shape (n,)
        NaN where the value is none.
    codes : shape (n,)
        Index of the value in ``words``; -1 where it is no text.
    words : tuple of str
        Distinct texts.
    is_bool : shape (n,)
        Which of the numbers are booleans.
    """

    numbers: Floats
    codes: Codes
    words: tuple[str, ...]
    is_bool: Bools

    @classmethod
    def of(cls, values: Sequence[FieldValue]) -> Column:
        """The column of n values, None where there is none."""
        size = len(values)
        numbers, codes, is_bool = np.full(size, np.nan), np.full(size, -1, np.int32), np.zeros(size, bool)
        words: dict[str, int] = {}
        for i, value in enumerate(values):
            if isinstance(value, str):
                codes[i] = words.setdefault(value, len(words))
            elif value is not None:
                numbers[i], is_bool[i] = value, isinstance(value, bool)
        return cls(numbers, codes, tuple(words), is_bool)

    @classmethod
    def of_numbers(cls, numbers: Floats) -> Column:
        """The column of n numbers, NaN where there is none."""
        size = len(numbers)
        return cls(numbers, np.full(size, -1, np.int32), (), np.zeros(size, bool))

    @cached_property
    def filled(self) -> Bools:
        """Which records have a value."""
        return np.asarray((self.codes >= 0) | ~np.isnan(self.numbers))

    @cached_property
    def written(self) -> tuple[Codes, tuple[str, ...]]:
        """Codes of the values as texts, shape (n,), -1 for missing ones; and the texts."""
        is_number = ~np.isnan(self.numbers)
        if not is_number.any():
            return self.codes, self.words
        codes, words = self.codes.copy(), {word: code for code, word in enumerate(self.words)}
        for is_bool in (False, True):
            of_type = np.flatnonzero(is_number & (self.is_bool == is_bool))
            # by their bits, which tell 0.0 from -0.0
            bits, inverse = np.unique(self.numbers[of_type].view(np.int64), return_inverse=True)
            texts = [str(bool(value) if is_bool else value) for value in bits.view(np.float64).tolist()]
            codes[of_type] = np.array([words.setdefault(text, len(words)) for text in texts], np.int32)[inverse]
        return codes, tuple(words)

    def is_among(self, texts: Mapping[str, object] | frozenset[str]) -> Bools:
        """Which values, as texts, are among these; shape (n,), False for missing ones."""
        codes, words = self.written
        # the last one is for missing values, whose code is -1
        return np.array([*(word in texts for word in words), False])[codes]

    def followed_by(self, other: Column) -> Column:
        """The column of these records and then of others."""
        words = {word: code for code, word in enumerate(self.words)}
        # the last one is for values that are no text, whose code is -1
        code_of = np.array([*(words.setdefault(word, len(words)) for word in other.words), -1], np.int32)
        return Column(
            np.concatenate([self.numbers, other.numbers]),
            np.concatenate([self.codes, code_of[other.codes]]),
            tuple(words),
            np.concatenate([self.is_bool, other.is_bool]),
        )

    def take(self, indices: Ints) -> Column:
        """The column of the records at ``indices``."""
        return replace(self, numbers=self.numbers[indices], codes=self.codes[indices], is_bool=self.is_bool[indices])

    def value(self, index: int) -> FieldValue:
        """The value of a record."""
        if self.codes[index] >= 0:
            return self.words[int(self.codes[index])]
        number = float(self.numbers[index])
        return None if np.isnan(number) else bool(number) if self.is_bool[index] else number


class FieldColumns:
    """The features of n records by name; a record that lacks a name has no value there.

    Parameters
    ----------
    size : int
        The number of records.
    columns : dict of str to Column
    rows : sequence of mapping
        The records, where their columns are made when they are first needed.
    """

    def __init__(self, size: int, columns: Mapping[str, Column], rows: Sequence[Row] = ()) -> None:
        self._size, self._columns, self._rows = size, dict(columns), rows
        self._given = tuple(columns)

    @classmethod
    def of(cls, rows: Sequence[Row]) -> FieldColumns:
        """The columns of the features of n records."""
        return cls(len(rows), {}, rows)

    def __len__(self) -> int:
        return self._size

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names that any record has."""
        return tuple(dict.fromkeys([*self._given, *(name for row in self._rows for name in row)]))

    def __getitem__(self, name: str) -> Column:
        if name not in self._columns:
            values = [row.get(name) for row in self._rows] or [None] * self._size
            self._columns[name] = Column.of(values)
        return self._columns[name]

    def numbers(self, name: str, absent: float | None = None) -> Floats:
        """The numbers of a column, shape (n,); NaN, or ``absent``, where there is none."""
        numbers = self[name].numbers
        return numbers if absent is None else np.where(np.isnan(numbers), absent, numbers)

    def followed_by(self, other: FieldColumns) -> FieldColumns:
        """The columns of these records and then of others."""
        names = dict.fromkeys([*self.names, *other.names])
        return FieldColumns(len(self) + len(other), {name: self[name].followed_by(other[name]) for name in names})

    def take(self, indices: Ints) -> FieldColumns:
        """The columns of the records at ``indices``."""
        return FieldColumns(len(indices), {name: self[name].take(indices) for name in self.names})

    def with_columns(self, columns: Mapping[str, Column]) -> FieldColumns:
        """The same with other columns of these names."""
        return FieldColumns(self._size, {**{name: self[name] for name in self.names}, **columns})

    def row(self, index: int) -> dict[str, FieldValue]:
        """The features of one record, None where it has no value."""
        if self._rows:
            return dict(self._rows[index])
        return {name: self._columns[name].value(index) for name in self._given}
