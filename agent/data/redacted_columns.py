"""Columns of texts with placeholders, by array: only texts in which something may be found are looked at one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import polars as pl

from agent.core.records import clean_text
from agent.data.readers.redacting import redacted_text
from agent.data.readers.row import ReadRequest
from agent.data.readers.values import to_text

if TYPE_CHECKING:
    from retrieval.text.redaction import Redactor

_FIRST_WORD = r"^\s*\S+\s+"


def redacted_lines(lines: pl.Series, request: ReadRequest) -> pl.Series:
    """The lines of a log as `agent.data.readers.log.parse_entry` reads each; the word that is a label stays."""
    if (redactor := request.redactor) is None:
        return lines
    heads = None if request.label is None else lines.str.extract(f"({_FIRST_WORD})").fill_null("")
    texts = lines if heads is None else lines.str.replace(_FIRST_WORD, "")
    redacted = _replaced(texts, redactor.suspects(texts), lambda text: redacted_text(redactor, clean_text(text)))
    return redacted if heads is None or redacted is texts else heads + redacted


def redacted_texts(name: str, texts: pl.Series, request: ReadRequest) -> pl.Series:
    """The cells of a column that is the text of its records."""
    if (redactor := request.redactor) is None:
        return texts

    def redact(text: str) -> str:
        return redacted_text(redactor, to_text(redactor.field(name, clean_text(text))))

    return _replaced(texts, _suspects(name, texts, redactor), redact)


def redacted_cells(cells: pl.DataFrame, columns: Sequence[str], request: ReadRequest) -> pl.DataFrame:
    """The cells of a table whose ``columns`` make its records, with placeholders in those of texts."""
    if (redactor := request.redactor) is None:
        return cells

    def redact(name: str) -> Callable[[str], str]:
        def of_cell(cell: str) -> str:
            value = request.typed(name, clean_text(cell))
            redacted = redactor.field(name, value)
            return cell if redacted == value else to_text(redacted)

        return of_cell

    changed = [
        _replaced(column, _suspects(column.name, column, redactor), redact(column.name))
        for column in cells.select(columns)
        if column.dtype == pl.String
    ]
    return cells.with_columns(changed) if changed else cells


def have_secret_numbers(column: pl.Series, redactor: Redactor) -> pl.Series:
    """Which cells of a column of numbers are redacted."""
    if not column.dtype.is_numeric():
        return pl.Series([False]).new_from_index(0, len(column))
    suspect = column.is_not_null()
    if not redactor.is_telling(column.name):
        suspect &= column.abs() >= redactor.LEAST_NUMBER
    values = column.filter(suspect).unique().to_list()
    found = [value for value in values if redactor.field(column.name, float(value)) != float(value)]
    return column.is_in(found).fill_null(value=False)


def _suspects(name: str, texts: pl.Series, redactor: Redactor) -> pl.Series:
    return texts.is_not_null() if redactor.is_telling(name) else redactor.suspects(texts)


def _replaced(texts: pl.Series, suspects: pl.Series, redact: Callable[[str], str]) -> pl.Series:
    """The texts with those of them that ``redact`` changes replaced, each distinct one once."""
    places = suspects.arg_true()
    if not len(places):
        return texts
    old = texts.gather(places).to_list()
    by_text = {text: redact(text) for text in dict.fromkeys(old)}
    changed = [
        (place, by_text[text]) for place, text in zip(places.to_list(), old, strict=True) if by_text[text] != text
    ]
    if not changed:
        return texts
    at, new = zip(*changed, strict=True)
    return texts.clone().scatter(at, new)
