"""How a column writes its numbers: decimal mark, separator of thousands, currency or unit; or spans of time."""

from __future__ import annotations

import math
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
# in place of a unit: spans of time in several units, which are read as seconds
DURATION = "duration"
_SECONDS_OF = {
    "ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0,
}  # fmt: skip
_UNIT_NAMES = {
    "ns": "ns", "us": "us µs μs", "ms": "ms msec msecs millisecond milliseconds", "s": "s sec secs second seconds",
    "m": "m min mins minute minutes", "h": "h hr hrs hour hours", "d": "d day days", "w": "w wk wks week weeks",
}  # fmt: skip
_UNITS = {name: _SECONDS_OF[unit] for unit, names in _UNIT_NAMES.items() for name in names.split()}
_DAYS = r"(?:(?P<days>[0-9]{1,6})(?:[.-]| ?d(?:ays?)?,? ?))?"
_CLOCK = re.compile(
    rf"{_DAYS}(?P<h>[0-9]{{1,4}}):(?P<m>[0-5][0-9])(?::(?P<s>[0-5][0-9](?:[.,][0-9]{{1,9}})?))?(?: ?(?P<half>[ap]m))?",
    re.IGNORECASE,
)
_ISO = re.compile(
    r"P(?=.)(?:(?P<w>[0-9.]+)W)?(?:(?P<d>[0-9.]+)D)?(?:T(?=.)(?:(?P<h>[0-9.]+)H)?(?:(?P<m>[0-9.]+)M)?(?:(?P<s>[0-9.]+)S)?)?"
)
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([a-zµμ]+)[, ]*(?:and )?", re.IGNORECASE)
_NOON = 12


def clock(seconds: float) -> str:
    """A time of the day, or a span of time, as people write it.

    >>> [clock(seconds) for seconds in (8250, 0, -90.5, 90000, 0.035)]
    ['2:17:30', '0:00:00', '-0:01:30.5', '25:00:00', '0:00:00.035']
    """
    if not math.isfinite(seconds):
        return f"{seconds:g}"
    milliseconds = round(abs(seconds) * 1_000)
    rest, fraction = divmod(milliseconds, 1_000)
    digits = f".{fraction:03}".rstrip("0").rstrip(".")
    return f"{'-' * (seconds < 0 < milliseconds)}{rest // 3_600}:{rest // 60 % 60:02}:{rest % 60:02}{digits}"


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
        if self.suffix == DURATION:
            unit, number = (parts.seconds_of_unit, parts.values.get(STYLES[0])) if parts else (None, None)
            # 1.1 hours are 3,960 seconds, and 826 ms .826
            return None if unit is None or number is None else float(f"{number * unit:.14g}")
        if parts is None or parts.prefix not in ("", self.prefix) or parts.suffix not in ("", self.suffix):
            return None
        return parts.values.get((self.decimal, self.thousands), parts.values.get((self.decimal, "")))

    def __str__(self) -> str:
        if self.suffix == DURATION:
            return "times, read as seconds"
        whole = f"1{self.thousands}234" if self.thousands else "12"
        space = " " if self.suffix[:1].isalpha() else ""
        return f"{self.prefix}{whole}{self.decimal}5{space}{self.suffix}"


class CellParts(NamedTuple):
    """A cell's prefix and suffix, and its number by each style that its digits can be read in."""

    prefix: str
    suffix: str
    values: dict[Style, float]

    @property
    def seconds_of_unit(self) -> float | None:
        """How many seconds the unit is; one without a unit, None of another unit than one of time."""
        return None if self.prefix else 1.0 if self.suffix in ("", DURATION) else _seconds_of(self.suffix)


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
    if match is None and (seconds := _seconds(text)) is not None:
        return CellParts("", DURATION, {STYLES[0]: seconds + 0.0})
    if match is None or (bool(match["sign"]) + bool(match["inner"]) + negative) > 1:
        return None
    sign = "-" if negative else match["sign"] or match["inner"]
    values = {}
    for decimal, thousands in STYLES:
        digits = _plain_digits(match["body"], decimal, thousands)
        if digits is not None:
            values[decimal, thousands] = float(f"{sign}{digits}{match['exponent']}")
    return CellParts(prefix=match["prefix"].strip(), suffix=match["suffix"].strip(), values=values) if values else None


def _seconds_of(unit: str) -> float | None:
    # M are millions
    return _UNITS.get(unit if len(unit) == 1 else unit.casefold())


def _seconds(text: str) -> float | None:
    """The seconds of a time of the day, or of a span of time in several units; None of another text.

    >>> [_seconds(text) for text in ("02:17:30", "2:30 pm", "1 day, 0:00:05", "-1h 5m", "PT1M30S", "10:99", "v1.2")]
    [8250.0, 52200.0, 86405.0, -3900.0, 90.0, None, None]
    """
    if len(text) > _LONGEST:
        return None
    sign, text = (-1.0, text[1:].lstrip()) if text.startswith("-") else (1.0, text)
    if clock := _CLOCK.fullmatch(text):
        hours = float(clock["h"])
        if clock["half"]:
            if not 1 <= hours <= _NOON:
                return None
            hours = hours % _NOON + _NOON * (clock["half"].casefold() == "pm")
        seconds = float((clock["s"] or "0").replace(",", "."))
        return sign * (86_400 * float(clock["days"] or 0) + 3_600 * hours + 60 * float(clock["m"]) + seconds)
    if iso := _ISO.fullmatch(text):
        try:
            return sign * sum(float(number) * _SECONDS_OF[unit] for unit, number in iso.groupdict().items() if number)
        except ValueError:
            return None
    total, end, units = 0.0, 0, list[float]()
    while end < len(text) and (part := _PART.match(text, end)) and (factor := _seconds_of(part[2])):
        total, end = total + float(part[1]) * factor, part.end()
        units.append(factor)
    is_whole = end == len(text) and len(units) > 1 and units == sorted(set(units), reverse=True)
    return sign * total if is_whole else None


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
