"""Numbers that stay in masked texts because they tell the labels of a source apart: status, exit and event codes.

The place of a number is given by the literal text before it, from the last word on, in which other numbers are written
as ``<n>``: ``status=``, ``code ``, ``HTTP/<n>" ``. So it is the same place in all templates.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from retrieval.lru_cache import cached
from retrieval.text.masking import PLACEHOLDERS, VARIABLE_PARTS, mask, remask

if TYPE_CHECKING:
    import polars as pl

_NUMBERS = ("<n>", "<hex>")
# a placeholder inside a place, and the end of what a place may look back to (other placeholders, the line's start)
_NUMBER, _BORDER = "\0", "\1"
_PLACE = re.compile(r"(?:[A-Za-z_]+|\x01)[^A-Za-z_\x01]*\Z")
_LOOK_BACK = 48
_SPACE = re.compile(r"\s+")
# digits that the second pass of masking does not see
_HIDDEN = {ord("0") + digit: 0xE000 + digit for digit in range(10)}
_SHOWN = {hidden: digit for digit, hidden in _HIDDEN.items()}


class KeptPlace(NamedTuple):
    """A place whose numbers stay in the text, and which numbers: those that cases have there."""

    place: str
    values: frozenset[str]


# hashable, because masked texts are cached
KeptNumbers = tuple[KeptPlace, ...]


class PlacedNumber(NamedTuple):
    """A number of a text, as it is written, and its place."""

    place: str
    value: str
    start: int
    end: int


def placed_numbers(text: str) -> Iterator[PlacedNumber]:
    """The numbers of a text with their places.

    >>> [number[:2] for number in placed_numbers('"GET /item/7 HTTP/1.1" 500 123')]
    [('item/', '7'), ('HTTP/', '1.1'), ('HTTP/<n>" ', '500'), ('HTTP/<n>" <n> ', '123')]
    """
    before, end = _BORDER, 0
    for found in VARIABLE_PARTS.finditer(text):
        literal = text[max(end, found.start() - _LOOK_BACK) : found.start()]
        if "\n" in literal:
            # bulk judging compares an entry line by line
            before, literal = _BORDER, literal.rpartition("\n")[2]
        before = (before + _SPACE.sub(" ", literal))[-_LOOK_BACK:]
        end, placeholder = found.end(), PLACEHOLDERS[found.lastgroup or ""]
        if placeholder in _NUMBERS and (place := _PLACE.search(before)):
            yield PlacedNumber(_written(place[0]), found[0], found.start(), end)
        before += _NUMBER if placeholder == "<n>" else _BORDER


def place_in_words(place: str) -> str:
    """Where a number stands: ``after “code ”``."""
    return f"after “{place}”" if place.strip() else "at the beginning"


def _written(place: str) -> str:
    return place.replace(_NUMBER, "<n>").replace(_BORDER, "")


@cached(512)
def mask_except(text: str, kept: KeptNumbers) -> str:
    """As `mask`, but for the ``kept`` numbers.

    >>> mask_except("job 17: exit code 137", (KeptPlace("code ", frozenset({"0", "137"})),))
    'job <n>: exit code 137'
    """
    if not kept:
        return mask(text)
    values, parts, end = dict(kept), list[str](), 0
    for number in placed_numbers(text):
        if number.value in values.get(number.place, ()):
            parts += [text[end : number.start], number.value.translate(_HIDDEN)]
            end = number.end
    return remask("".join([*parts, text[end:]])).translate(_SHOWN) if parts else mask(text)


def unseen_number(text: str, kept: KeptNumbers) -> PlacedNumber | None:
    """The first number at a kept place that no case has there."""
    values = dict(kept)
    return next((n for n in placed_numbers(text) if n.place in values and n.value not in values[n.place]), None)


def number_columns(lines: pl.Series, kept: KeptNumbers) -> list[pl.Series]:
    """For each kept place, what each line holds there, joined.

    Lines with the same skeleton (`retrieval.text.template_hash`) and the same values here have the same masked text.
    """
    return [lines.str.extract_all(_pattern(place.place)).list.join("\n") for place in kept]


def _pattern(place: str) -> str:
    """A regular expression of polars that finds at least the numbers of a place."""
    literal = r"[^A-Za-z_]+".join(re.escape(part).replace(r"\ ", r"\s+") for part in place.split("<n>"))
    return literal + r"[0-9A-Fa-fxX]+(?:[.,][0-9]+)*"
