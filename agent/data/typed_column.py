"""Columns of cells to columns of values, as `agent.data.readers.values` makes them of single cells."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection
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
Typed = Callable[[str, Cell], FieldValue]


@dataclass(frozen=True)
class TypedColumn:
    """The values of a column of n cells, and how they are written.

    Parameters
    ----------
    column : Column
    spelled : Series of String
        As the text of a record has them, escaped for JSON; null for missing ones.
    as_json : Series of String
    """

    column: Column
    spelled: pl.Series
    as_json: pl.Series


def typed_columns(cells: pl.DataFrame, typed: Typed, others: Collection[str]) -> dict[str, TypedColumn]:
    """The values of columns.

    Parameters
    ----------
    cells : DataFrame of strings, numbers or booleans
    typed : callable
        Gives the value of a cell of a column.
    others : collection of str
        Columns whose numbers are not written plainly.
    """
    plain = cells.with_columns([_plain_number(name, dtype, others) for name, dtype in cells.schema.items()])
    whole = (pl.all().floor() == pl.all()) & (pl.all().abs() < _EXACT)
    as_json = plain.select(pl.all().cast(pl.String))
    spelled = plain.select(
        pl.when(whole).then(pl.all().cast(pl.Int64, strict=False).cast(pl.String)).otherwise(pl.all().cast(pl.String))
    )
    return {
        name: _typed_column(name, cells[name], plain[name], spelled[name], as_json[name], typed)
        for name in cells.columns
    }


def _plain_number(name: str, dtype: pl.DataType, others: Collection[str]) -> pl.Expr:
    """The numbers of a column that are written as Python writes them, or as numbers are in files; null for the rest."""
    column = pl.col(name)
    if dtype.is_numeric():
        return column.cast(pl.Float64)
    if dtype != pl.String or name in others:
        return pl.when(False).then(0.0).alias(name)
    is_number = column.str.contains(f"^{NUMBER.pattern}$") & (column.str.len_bytes() <= LONGEST_NUMBER)
    return pl.when(is_number).then(column).cast(pl.Float64).alias(name)


def _typed_column(
    name: str, cells: pl.Series, plain: pl.Series, spelled: pl.Series, as_json: pl.Series, typed: Typed
) -> TypedColumn:
    size = len(cells)
    numbers = plain.fill_null(np.nan).to_numpy().copy()
    codes, is_bool, words = np.full(size, -1, np.int32), np.zeros(size, bool), dict[str, int]()
    absolute = np.abs(numbers)
    odd = np.flatnonzero(~((absolute >= _LEAST) & (absolute < _MOST)) & (absolute != 0) & ~np.isnan(absolute))
    if len(odd):
        values = numbers[odd].tolist()
        spelled = _with(spelled, odd, [escaped(spell_value(value)) for value in values])
        as_json = _with(as_json, odd, [json.dumps(value) for value in values])
    others = np.flatnonzero(plain.is_null().to_numpy())
    if len(others):
        distinct = dict[Cell, int]()
        of_cell = np.array([distinct.setdefault(cell, len(distinct)) for cell in cells.gather(others).to_list()])
        found = [typed(name, cell) for cell in distinct]
        as_number = [math.nan if value is None or isinstance(value, str) else float(value) for value in found]
        as_code = [words.setdefault(value, len(words)) if isinstance(value, str) else -1 for value in found]
        numbers[others] = np.array(as_number)[of_cell]
        codes[others] = np.array(as_code, np.int32)[of_cell]
        is_bool[others] = np.array([isinstance(value, bool) for value in found])[of_cell]
        spelled = _with(
            spelled, others, [None if value is None else escaped(spell_value(value)) for value in found], of_cell
        )
        as_json = _with(as_json, others, [json.dumps(value, ensure_ascii=False) for value in found], of_cell)
    return TypedColumn(Column(numbers, codes, tuple(words), is_bool), spelled, as_json)


def _with(
    texts: pl.Series,
    places: NDArray[np.int64],
    values: list[str | None] | list[str],
    which: NDArray[np.int64] | None = None,
) -> pl.Series:
    """The texts with others at some ``places``: of ``values``, the one at ``which``."""
    others = pl.Series(values, dtype=pl.String)
    others = others if which is None else others.gather(which)
    if len(places) == len(texts):
        return others
    # in place, therefore on a copy
    return texts.clone().scatter(pl.Series(places, dtype=pl.UInt32), others)


def escaped(text: str) -> str:
    """A text as it is inside of a text of JSON."""
    return json.dumps(text, ensure_ascii=False)[1:-1]
