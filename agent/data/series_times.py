"""Times of a series' rows: ISO 8601, and numbers as seconds, milliseconds, microseconds or nanoseconds since 1970."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from agent.core.records import CALENDAR
from agent.data.readers.values import Cell, parse_number

TIME_NAMES = ("@timestamp", "timestamp", "time", "datetime", "date_time", "date", "ts", "ds")
# from where on numbers are units of 1/1, 1/1,000, ... of a second since 1970, and below which they are no calendar
_UNITS = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3))
_CALENDAR = 1e8


class Moment(NamedTuple):
    """A time in seconds; ``zoned``: whether it names its time zone, ``plain``: whether it is a mere number."""

    seconds: float
    zoned: bool = False
    plain: bool = False


def parse_time(cell: Cell) -> Moment | None:
    """The time that a cell holds, None if it is none. A time without a zone is taken as UTC.

    >>> parse_time("2024-05-01T00:00:00Z"), parse_time("1714521600000"), parse_time(7)
    (Moment(seconds=1714521600.0, zoned=True, plain=False), Moment(seconds=1714521600.0, zoned=True, plain=False), \
Moment(seconds=7.0, zoned=False, plain=True))
    """
    if cell is None or isinstance(cell, bool):
        return None
    number = float(cell) if isinstance(cell, int | float) else parse_number(cell)
    if number is not None:
        return _of_number(number)
    try:
        moment = datetime.fromisoformat(str(cell).strip().replace("/", "-"))
    except ValueError:
        return None
    zoned = moment.tzinfo is not None
    seconds = (moment if zoned else moment.replace(tzinfo=UTC)).timestamp()
    return Moment(seconds, zoned) if CALENDAR[0] <= seconds <= CALENDAR[1] else None


def _of_number(number: float) -> Moment | None:
    if number != number or abs(number) > 1e20:
        return None
    size = abs(number)
    unit = next((unit for least, unit in _UNITS if size >= least), 1.0)
    if number / unit < CALENDAR[0]:
        return None
    return Moment(number / unit, zoned=size >= _CALENDAR, plain=size < _CALENDAR)


def spell_time(seconds: float, *, zoned: bool, plain: bool) -> str:
    """A time as `agent.core.records.Series.start` has it.

    >>> spell_time(0.5, zoned=False, plain=True), spell_time(60, zoned=True, plain=False)
    ('0.5', '1970-01-01T00:01:00+00:00')
    """
    if plain:
        return f"{round(seconds, 6):.6f}".rstrip("0").rstrip(".")
    moment = datetime.fromtimestamp(round(seconds, 6), UTC)
    return (moment if zoned else moment.replace(tzinfo=None)).isoformat()
