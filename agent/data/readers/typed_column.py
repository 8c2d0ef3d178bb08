"""Columns of cells as text to columns of values, as `agent.data.readers.values` makes them of single cells."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from agent.core.records import FieldValue
from agent.data.readers.values import LONGEST_NUMBER, NUMBER, Cell, spell_value
from retrieval.encoding.field_columns import Column

# numbers that polars and Python write in the same way, beside 0
_LEAST, _MOST = 1e-4, 1e16
# whole numbers below it are written without a decimal point
_EXACT = 2.0**53


@dataclass(frozen=True)
class TypedColumn:
    """The values of a column of n cells, and how they are written.

    Parameters
    ----------
    column : Column
    spelled : Series of String
        As the text of a record has them; null for missing ones.
    as_json : Series of String
    """

    column: Column
    spelled: pl.Series
    as_json: pl.Series


def typed_column(cells: pl.Series, typed: Callable[[Cell], FieldValue], *, is_plain: bool = True) -> TypedColumn:
    """The values of cells.

    Parameters
    ----------
    cells : Series of strings, numbers or booleans
    typed : callable
        Gives the value of a cell.
    is_plain : bool
        Whether numbers that are written plainly are read as such.
    """
    if cells.dtype.is_numeric():
        is_number = cells.is_not_null()
        plain = cells.cast(pl.Float64)
    elif cells.dtype == pl.String and is_plain:
        of_form = cells.str.contains(f"^{NUMBER.pattern}$") & (cells.str.len_bytes() <= LONGEST_NUMBER)
        is_number = of_form.fill_null(False)
        plain = cells.set(~is_number, None).cast(pl.Float64, strict=True)
    else:
        is_number = pl.repeat(False, len(cells), eager=True)
        plain = pl.repeat(None, len(cells), dtype=pl.Float64, eager=True)
    numbers = plain.fill_null(np.nan).to_numpy().copy()
    spelled, as_json = _written(numbers)
    others = np.flatnonzero(~is_number.to_numpy())
    size = len(cells)
    codes, is_bool, words = np.full(size, -1, np.int32), np.zeros(size, bool), dict[str, int]()
    if len(others):
        distinct = dict[Cell, int]()
        of_cell = np.array([distinct.setdefault(cell, len(distinct)) for cell in cells.gather(others).to_list()])
        found = [typed(cell) for cell in distinct]
        as_number = [math.nan if value is None or isinstance(value, str) else float(value) for value in found]
        as_code = [words.setdefault(value, len(words)) if isinstance(value, str) else -1 for value in found]
        numbers[others] = np.array(as_number)[of_cell]
        codes[others] = np.array(as_code, np.int32)[of_cell]
        is_bool[others] = np.array([isinstance(value, bool) for value in found])[of_cell]
        at = pl.Series(others, dtype=pl.UInt32)
        texts = [None if value is None else escaped(spell_value(value)) for value in found]
        bodies = [json.dumps(value, ensure_ascii=False) for value in found]
        spelled = spelled.clone().scatter(at, pl.Series(texts, dtype=pl.String).gather(of_cell))
        as_json = as_json.clone().scatter(at, pl.Series(bodies, dtype=pl.String).gather(of_cell))
    return TypedColumn(Column(numbers, codes, tuple(words), is_bool), spelled, as_json)


def escaped(text: str) -> str:
    """A text as it is inside of a text of JSON."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _written(numbers: NDArray[np.float64]) -> tuple[pl.Series, pl.Series]:
    """Numbers as the text of a record has them, and as JSON has them."""
    size = np.abs(numbers)
    as_json = pl.Series(numbers).cast(pl.String)
    odd = np.flatnonzero(~((size >= _LEAST) & (size < _MOST)) & (size != 0) & ~np.isnan(size))
    if len(odd):
        texts = [json.dumps(value) for value in numbers[odd].tolist()]
        as_json = as_json.scatter(pl.Series(odd, dtype=pl.UInt32), pl.Series(texts, dtype=pl.String))
    whole = np.flatnonzero((numbers == np.floor(numbers)) & (size < _EXACT))
    if not len(whole):
        return as_json, as_json
    if len(whole) == len(numbers):
        return pl.Series(numbers).cast(pl.Int64).cast(pl.String), as_json
    texts_of_whole = pl.Series(numbers[whole]).cast(pl.Int64).cast(pl.String)
    return as_json.clone().scatter(pl.Series(whole, dtype=pl.UInt32), texts_of_whole), as_json
