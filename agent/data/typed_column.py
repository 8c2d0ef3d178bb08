"""Columns of cells to columns of values, as `agent.data.readers.values` makes them of single cells."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from agent.core.records import FieldValue
from agent.data.readers.values import LONGEST_NUMBER, NUMBER, Cell, spell_value
from retrieval.arrays import Ints
from retrieval.encoding.field_columns import Column

# numbers that polars and Python write in the same way, beside 0; the greatest whole ones without a decimal point
_LEAST, _MOST = 1e-4, 2.0**53
# numbers of at most 15 digits that Python writes in the same way: whole ones but for the decimal point, and others
_WHOLE, _WITH_POINT = r"^(?:0|-?[1-9][0-9]{0,14})$", r"^-?(?:0|[1-9][0-9]{0,7})\.(?:0|[0-9]{0,6}[1-9])$"
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
    json_end : str
        What follows each of them in JSON.
    """

    column: Column
    spelled: pl.Series
    as_json: pl.Series
    json_end: str = ""


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
    canonical = _canonical_columns(cells, others)
    rest = cells.select(pl.exclude(canonical))
    # unlike `select`, this has all rows where no column has a number that is written plainly
    plain = rest.with_columns([_plain_number(name, dtype, others) for name, dtype in rest.schema.items()])
    as_json = plain.select(pl.all().cast(pl.String))
    spelled = as_json.select(pl.all().str.strip_suffix(".0"))
    return {
        name: canonical[name]
        if name in canonical
        else _typed_column(name, cells[name], plain[name], spelled[name], as_json[name], typed)
        for name in cells.columns
    }


def _canonical_columns(cells: pl.DataFrame, others: Collection[str]) -> dict[str, TypedColumn]:
    """The columns of texts all of which are numbers as Python writes them, or all are whole ones without a point."""
    names = [name for name, dtype in cells.schema.items() if dtype == pl.String and name not in others]
    if not names or not len(cells):
        return {}
    # the first cell tells what the others may be
    forms = [_WITH_POINT if "." in (first or "") else _WHOLE for first in cells.select(names).row(0)]
    pairs = list(zip(names, forms, strict=True))
    fits = cells.select(pl.col(name).str.contains(form).fill_null(value=False).all() for name, form in pairs).row(0)
    found = {name: form for (name, form), is_so in zip(pairs, fits, strict=True) if is_so}
    whole = [name for name, form in found.items() if form == _WITH_POINT]
    has_whole = cells.select(pl.col(whole).str.ends_with(".0").any()).row(0) if whole else ()
    stripped = cells.select(
        pl.col(name).str.strip_suffix(".0") for name, is_so in zip(whole, has_whole, strict=True) if is_so
    )
    columns = dict[str, TypedColumn]()
    for name, form in found.items():
        written = cells[name]
        numbers = written.cast(pl.Float64).to_numpy(writable=True)
        spelled = stripped[name] if name in stripped.columns else written
        typed = TypedColumn(Column.of_numbers(numbers), spelled, written, "" if form == _WITH_POINT else ".0")
        columns[name] = _with_odd(typed)
    return columns


def _with_odd(typed: TypedColumn) -> TypedColumn:
    """The column with those numbers written as Python does that polars writes in another way."""
    numbers = typed.column.numbers
    absolute = np.abs(numbers)
    is_odd = ~((absolute >= _LEAST) & (absolute < _MOST)) & ~np.isnan(absolute)
    odd = np.flatnonzero(is_odd & ((absolute != 0) | np.signbit(numbers)))
    if not len(odd):
        return typed
    values = numbers[odd].tolist()
    spelled = _with(typed.spelled, odd, [escaped(spell_value(value)) for value in values])
    as_json = _with(typed.as_json, odd, [json.dumps(value) for value in values])
    return replace(typed, spelled=spelled, as_json=as_json)


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
    size, numbers = len(cells), plain.fill_null(np.nan).to_numpy(writable=True)
    number = _with_odd(TypedColumn(Column.of_numbers(numbers), spelled, as_json))
    others = np.flatnonzero(plain.is_null().to_numpy())
    if not len(others):
        return number
    codes, is_bool, words = np.full(size, -1, np.int32), np.zeros(size, bool), dict[str, int]()
    distinct, of_cell = _distinct(cells.gather(others))
    found = [typed(name, cell) for cell in distinct]
    as_number = [math.nan if value is None or isinstance(value, str) else float(value) for value in found]
    as_code = [words.setdefault(value, len(words)) if isinstance(value, str) else -1 for value in found]
    numbers[others] = np.array(as_number)[of_cell]
    codes[others] = np.array(as_code, np.int32)[of_cell]
    is_bool[others] = np.array([isinstance(value, bool) for value in found])[of_cell]
    texts = [None if value is None else escaped(spell_value(value)) for value in found]
    return TypedColumn(
        Column(numbers, codes, tuple(words), is_bool),
        _with(number.spelled, others, texts, of_cell),
        _with(number.as_json, others, [json.dumps(value, ensure_ascii=False) for value in found], of_cell),
    )


def _distinct(cells: pl.Series) -> tuple[Sequence[Cell], Ints]:
    """The distinct cells in their order, and for each of n cells which of them it is, shape (n,)."""
    if cells.dtype == pl.String:
        texts = cells.unique(maintain_order=True)
        # the last one is for missing cells
        codes = cells.cast(pl.Enum(texts.drop_nulls())).to_physical().fill_null(texts.len() - 1)
        return [*texts.drop_nulls(), *([None] if texts.null_count() else [])], codes.to_numpy().astype(np.int64)
    places = dict[Cell, int]()
    of_cell = np.array([places.setdefault(cell, len(places)) for cell in cells.to_list()], np.int64)
    return list(places), of_cell


def _with(
    texts: pl.Series,
    places: Ints,
    values: list[str | None] | list[str],
    indices: Ints | None = None,
) -> pl.Series:
    """The texts with others at some ``places``: of ``values``, the one at ``indices``."""
    others = pl.Series(values, dtype=pl.String)
    others = others if indices is None else others.gather(indices)
    if len(places) == len(texts):
        return others
    # in place, therefore on a copy
    return texts.clone().scatter(pl.Series(places, dtype=pl.UInt32), others)


def escaped(text: str) -> str:
    """A text as it is inside of a text of JSON."""
    return json.dumps(text, ensure_ascii=False)[1:-1]
