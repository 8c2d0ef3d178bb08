"""Columns that say when a row was made: dates in words, and numbers that are times since 1970 or days of a calendar."""

from __future__ import annotations

import re

# 1990 to 2099 in seconds, and units of 1/1, 1/1,000, ... of a second
_FROM, _UNTIL = 631_152_000, 4_102_444_800
_UNITS = (1, 1_000, 1_000_000, 1_000_000_000)
_FIRST_YEAR, _LAST_YEAR = 1990, 2099
_DAY_NUMBER = "yyyymmdd"
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}\.?"
_WEEKDAY = r"(?:mon|tue|wed|thu|fri|sat|sun)[a-z]{0,6}\.?,?\s+"
_YEAR = r"(?:19|20)\d\d"
_DATE = (
    rf"(?:{_YEAR}[-/.]\d\d?[-/.]\d\d?|\d\d?[-/.]\d\d?[-/.]{_YEAR}|\d\d?/\d\d?/\d\d"
    rf"|\d\d?[ /-]{_MONTH}[ /-](?:{_YEAR}|\d\d)|{_MONTH}\s+\d\d?(?:,?\s+{_YEAR})?)"
)
_CLOCK = r"\d\d?:\d\d(?::\d\d(?:[.,]\d{1,9})?)?(?:\s?[ap]m)?"
_ZONE = r"\s?(?:z|[+-]\d\d:?\d\d|[a-z]{2,5}(?:[+-]\d\d?(?::?\d\d)?)?)"
_DATED = re.compile(
    rf"\[?(?:{_WEEKDAY})?{_DATE}(?:(?:\s*t\s*|[\s,:]+){_CLOCK}(?:{_ZONE})?(?:\s+{_YEAR})?)?\]?", re.IGNORECASE
)
_NAMES_TIMES = re.compile(
    r"time|date|stamp|epoch|unix|when|start|begin|end|first|last|seen|created|updated|modified|received|logged|occurred"
    r"|(?:^|[^a-z])(?:ts|at|day)(?:$|[^a-z])",
    re.IGNORECASE,
)


def is_date(cell: str) -> bool:
    """Whether a cell is a date, with or without the time of the day.

    >>> is_date("2026-03-01T10:11:12Z"), is_date("Sun Mar  1 10:11:12 2026"), is_date("1.2.3"), is_date("10:11:12")
    (True, True, False, False)
    """
    return len(cell) < 64 and _DATED.fullmatch(cell.strip()) is not None


def unit_of_time(number: float) -> int | str | None:
    """The unit in which a number may be a time: how many make a second, or a day as ``yyyymmdd``; None if it is none.

    >>> unit_of_time(1772323200.25), unit_of_time(1772323200250.0), unit_of_time(20260301.0), unit_of_time(443.0)
    (1, 1000, 'yyyymmdd', None)
    """
    if number.is_integer() and _FIRST_YEAR <= number // 10_000 <= _LAST_YEAR:
        month, day = number // 100 % 100, number % 100
        return _DAY_NUMBER if 1 <= month <= 12 and 1 <= day <= 31 else None
    return next((unit for unit in _UNITS if _FROM * unit <= number < _UNTIL * unit), None)


def names_times(name: str) -> bool:
    """Whether the name of a column says that it holds times."""
    return _NAMES_TIMES.search(name) is not None
