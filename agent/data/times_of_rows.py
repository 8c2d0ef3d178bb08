"""Columns that say when a row was made: dates in words, and numbers that are times since 1970 or days of a calendar."""

from __future__ import annotations

import re

# 1990 to 2099 in seconds, and units of 1/1, 1/1,000, ... of a second
_FROM, _UNTIL = 631_152_000, 4_102_444_800
_UNITS = (1, 1_000, 1_000_000, 1_000_000_000)
_FIRST_YEAR, _LAST_YEAR = 1990, 2099
# numbers whose digits are a day, and a day and a time of it; digits after the year
_CALENDARS = {"yyyymmdd": 4, "yyyymmddhhmm": 8, "yyyymmddhhmmss": 10, "yyyymmddhhmmssfff": 13}
# a table is of some years; amounts and sizes are farther apart
_MOST_YEARS, _YEAR_SECONDS = 5, 31_557_600
_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)\.?"
)
_WEEKDAY = r"(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?\.?,?\s+"
_DAY = r"(?:0?[1-9]|[12]\d|3[01])"
_YEAR, _TWO_DIGITS = r"(?:19|20)\d\d", r"(?:0[1-9]|[12]\d|3[01])"
_DATE = (
    rf"(?:{_YEAR}[-/.](?:0?[1-9]|1[0-2])[-/.]{_DAY}|{_YEAR}-(?:0[1-9]|1[0-2])|{_YEAR}-W[0-5]\d(?:-[1-7])?"
    rf"|{_YEAR}年\d\d?月\d\d?日|{_DAY}[-/.]{_DAY}[-/.]{_YEAR}|{_DAY}/{_DAY}/\d\d"
    rf"|{_TWO_DIGITS}([-.]){_TWO_DIGITS}\1\d\d|{_DAY}[ /-]{_MONTH}[ /-](?:{_YEAR}|\d\d)"
    rf"|{_MONTH}\s+(?:{_YEAR}|{_DAY}(?:,?\s+{_YEAR})?))"
)
_CLOCK = r"\d\d?[:.]\d\d(?:[:.]\d\d(?:[.,]\d{1,9})?)?(?:\s?[ap]m)?"
_ZONE = r"\s?(?:z|[+-]\d\d(?::?\d\d)?|[a-z]{2,5}(?:[+-]\d\d?(?::?\d\d)?)?)"
_COMPACT = rf"{_YEAR}(?:0[1-9]|1[0-2]){_TWO_DIGITS}[t_ -]\d{{4}}(?:\d\d(?:[.,]\d{{1,9}})?)?(?:{_ZONE})?"
_DATED = re.compile(
    rf"\[?(?:{_WEEKDAY})?{_DATE}(?:(?:\s*t\s*|[\s,:-]+){_CLOCK}(?:{_ZONE}){{0,2}}(?:\s+{_YEAR})?)?(?:\[[\w/+-]+\])?\]?"
    rf"|{_COMPACT}",
    re.IGNORECASE,
)
_WORDS = frozenset(
    re.findall(
        r"\S+",
        """
        ts at time times timestamp timestamps datetime date day epoch unix stamp when start started begin end ended
        first last seen created updated modified received logged occurred opened closed
        """,
    )
)
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")


def is_date(cell: str) -> bool:
    """Whether a cell is a date, with or without the time of the day.

    >>> is_date("2026-03-01T10:11:12Z"), is_date("Sun Mar  1 10:11:12 2026"), is_date("1.2.3"), is_date("10:11:12")
    (True, True, False, False)
    """
    return len(cell) < 64 and _DATED.fullmatch(cell.strip()) is not None


def unit_of_time(number: float) -> int | str | None:
    """The unit in which a number may be a time: how many make a second, or digits of a calendar; None if it is none.

    >>> unit_of_time(1772323200.25), unit_of_time(1772323200250.0), unit_of_time(443.0)
    (1, 1000, None)
    >>> unit_of_time(20260301.0), unit_of_time(20260301101112.0), unit_of_time(20260399.0)
    ('yyyymmdd', 'yyyymmddhhmmss', None)
    """
    if number.is_integer() and number >= 0:
        digits = str(int(number))
        form = next((form for form in _CALENDARS if len(form) == len(digits)), None)
        if form and _FIRST_YEAR <= int(digits[:4]) <= _LAST_YEAR:
            month, day, hour, minute = int(digits[4:6]), int(digits[6:8]), digits[8:10] or "0", digits[10:12] or "0"
            return form if 1 <= month <= 12 and 1 <= day <= 31 and int(hour) < 24 and int(minute) < 60 else None
    return next((unit for unit in _UNITS if _FROM * unit <= number < _UNTIL * unit), None)


def are_of_few_years(least: float, greatest: float, unit: int | str) -> bool:
    """Whether numbers in a unit of `unit_of_time` are times of some years."""
    year = 10.0 ** _CALENDARS[unit] if isinstance(unit, str) else unit * _YEAR_SECONDS
    return (greatest - least) / year <= _MOST_YEARS


def names_times(name: str) -> bool:
    """Whether a word of the name of a column says that it holds times.

    >>> names_times("flowStart_ms"), names_times("created_at"), names_times("spend"), names_times("endpoint")
    (True, True, False, False)
    """
    return any(word.lower() in _WORDS for word in _WORD.findall(name))
