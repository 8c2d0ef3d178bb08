"""How a column writes its numbers: decimal mark, separator of thousands, currency or unit."""

from __future__ import annotations

import re
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from retrieval.lru_cache import cached

_PLAIN_SIGNS = str.maketrans({"\u00a0": " ", "\u202f": " ", "\u2009": " ", "\u2212": "-", "\u2019": "'"})
_CELL = re.compile(
    r"(?P<sign>[+-]?)(?P<prefix>(?:[$€£¥₹₩₺₽]|[A-Z]{3} )?) ?(?P<inner>[+-]?)"
    r"(?P<body>[0-9](?:[0-9.,' ]*[0-9])?[.,]?|[.,][0-9]+)(?P<exponent>(?:[eE][+-]?[0-9]{1,4})?)"
    r"(?P<suffix>(?: ?[^\W\d_][^\s\d]{0,11}| ?[%‰°$€£¥₹₩₺₽][^\s\d]{0,6})?)"
)
_PLAIN = re.compile(r"[+-]?[0-9]{1,30}(?:\.(?P<fraction>[0-9]{1,30}))?")
_LONGEST = 64
# digits between two separators of thousands
_GROUP = 3
# decimal mark and separator of thousands, the commonest first
STYLES = ((".", ""), (",", ""), (".", ","), (",", "."), (",", " "), (".", " "), (".", "'"), (",", "'"))
Style = tuple[str, str]


class Notation(BaseModel):
    """A column's notation; cells without the prefix or the suffix are read as well, those with another one are not."""

    model_config = ConfigDict(frozen=True)

    decimal: str = "."
    thousands: str = ""
    prefix: str = ""
    suffix: str = ""

    def number(self, cell: str) -> float | None:
        """The number that a cell stands for, None if it is not one in this notation."""
        parts = split_cell(cell)
        if parts is None or parts.prefix not in ("", self.prefix) or parts.suffix not in ("", self.suffix):
            return None
        return parts.values.get((self.decimal, self.thousands), parts.values.get((self.decimal, "")))

    def __str__(self) -> str:
        whole = f"1{self.thousands}234" if self.thousands else "12"
        space = " " if self.suffix[:1].isalpha() else ""
        return f"{self.prefix}{whole}{self.decimal}5{space}{self.suffix}"


class CellParts(NamedTuple):
    """A cell's prefix and suffix, and its number by each style that its digits can be read in."""

    prefix: str
    suffix: str
    values: dict[Style, float]


@cached(1 << 16)
def split_cell(cell: str) -> CellParts | None:
    """The parts of a number with or without a currency or a unit, None for another text."""
    text = cell.strip()
    if plain := _PLAIN.fullmatch(text):
        number = float(text)
        if not plain["fraction"]:
            return CellParts("", "", {STYLES[0]: number, STYLES[1]: number})
        if len(plain["fraction"]) != _GROUP:
            return CellParts("", "", {STYLES[0]: number})
    text = text.translate(_PLAIN_SIGNS)
    # accountants write -5 as (5)
    negative = text.startswith("(") and text.endswith(")")
    match = _CELL.fullmatch(text[1:-1] if negative else text) if len(text) <= _LONGEST else None
    if match is None or (bool(match["sign"]) + bool(match["inner"]) + negative) > 1:
        return None
    sign = "-" if negative else match["sign"] or match["inner"]
    values = {}
    for decimal, thousands in STYLES:
        digits = _plain_digits(match["body"], decimal, thousands)
        if digits is not None:
            values[decimal, thousands] = float(f"{sign}{digits}{match['exponent']}")
    return CellParts(prefix=match["prefix"].strip(), suffix=match["suffix"].strip(), values=values) if values else None


def _plain_digits(body: str, decimal: str, thousands: str) -> str | None:
    """The digits as Python writes them, None if they are not in this style; thousands must be there if it has any."""
    whole, mark, fraction = body.partition(decimal)
    if thousands:
        groups = whole.split(thousands)
        first, *rest = groups
        regular = 0 < len(first) <= _GROUP and first[0] != "0" and all(len(group) == _GROUP for group in rest)
        if not rest or not regular:
            return None
        whole = "".join(groups)
    if not (whole + fraction).isdecimal() or not (whole + fraction).isascii():
        return None
    return f"{whole or '0'}{'.' if mark else ''}{fraction}"
