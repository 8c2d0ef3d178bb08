"""Times of log lines as seconds, by the notation that most lines of a file have."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
from numpy.typing import NDArray

# characters of a line that are searched; the year of times without one, which is a leap year
_HEADER_CHARS, _YEAR = 160, 2000
_SECONDS_PER_DAY = 86_400
_MONTHS = {
    name: number
    for number, name in enumerate(
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"], start=1
    )
}
_CLOCK = r"(?P<H>\d{1,2})[:.](?P<M>\d\d)[:.](?P<S>\d\d)(?:[.,:](?P<f>\d{1,9}))?"
_MONTH = r"(?P<b>Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_NOTATIONS = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(?P<Y>\d{{4}})[-/.](?P<m>\d\d)[-/.](?P<d>\d\d)[T ,-]+{_CLOCK} ?(?P<z>Z|UTC|GMT|[+-]\d\d:?\d\d)?",
        rf"\b{_MONTH} +(?P<d>\d{{1,2}}),? (?:(?P<Y>\d{{4}}) )?{_CLOCK}(?: (?P<Y2>\d{{4}})\b)?",
        rf"(?P<d>\d{{1,2}})[/ -]{_MONTH}[/ -](?P<Y>\d{{4}})[: ]{_CLOCK}(?: (?P<z>[+-]\d{{4}}))?",
        rf"\b(?P<y>\d\d)/(?P<m>\d\d)/(?P<d>\d\d) {_CLOCK}",
        rf"\b(?P<m>\d\d)/(?P<d>\d\d)/(?P<Y>\d{{4}}),? {_CLOCK}",
        rf"\b(?P<m>\d\d)[-.](?P<d>\d\d) {_CLOCK}",
        rf"\b(?P<Y>\d{{4}})(?P<m>\d\d)(?P<d>\d\d)[-T ]{_CLOCK}",
        r"(?:^|\s)(?P<y>\d\d)(?P<m>\d\d)(?P<d>\d\d) (?P<H>\d\d)(?P<M>\d\d)(?P<S>\d\d)\b",
        r"(?:^|[\s\[=:])(?P<e>1\d{9})(?:(?P<ms>\d{3})\b|\.(?P<f>\d{1,9}))?(?!\d)",
        rf"^\W{{0,2}}{_CLOCK}",
        r"^\[\s*(?P<e>\d+)\.(?P<f>\d{3,9})\]",
    )
)


class TimeReader:
    """Reads the times of one file's lines; its notation is chosen by the first lines."""

    def __init__(self) -> None:
        self._notation: re.Pattern[str] | None = None
        self._is_chosen = False

    def read(self, lines: Sequence[str]) -> list[float | None]:
        """Seconds since 1970 (of a year that is assumed, where there is none), None for a line without a time."""
        heads = [line[:_HEADER_CHARS] for line in lines]
        if not self._is_chosen and heads:
            counts = [sum(_seconds(notation, head) is not None for head in heads[:200]) for notation in _NOTATIONS]
            best = max(range(len(counts)), key=lambda index: (counts[index], -index))
            self._notation = _NOTATIONS[best] if counts[best] * 2 >= min(len(heads), 200) else None
            self._is_chosen = True
        notation = self._notation
        return [None] * len(heads) if notation is None else [_seconds(notation, head) for head in heads]


def _seconds(notation: re.Pattern[str], head: str) -> float | None:
    match = notation.search(head)
    if match is None:
        return None
    parts = {name: value for name, value in match.groupdict().items() if value is not None}
    fraction = float(f"0.{parts['f']}") if "f" in parts else 0.0
    if "e" in parts:
        return int(parts["e"]) + fraction + int(parts.get("ms", 0)) / 1_000
    year = int(parts.get("Y") or parts.get("Y2") or 0) or (2_000 + int(parts["y"]) if "y" in parts else _YEAR)
    month = _MONTHS[parts["b"]] if "b" in parts else int(parts.get("m", 1))
    try:
        moment = datetime(
            year, month, int(parts.get("d", 1)), int(parts["H"]), int(parts["M"]), int(parts["S"]), tzinfo=_zone(parts)
        )
    except ValueError:
        return None
    return moment.timestamp() + fraction


def _zone(parts: dict[str, str]) -> timezone:
    zone = parts.get("z", "")
    if zone[:1] not in ("+", "-"):
        return UTC
    minutes = int(zone[1:3]) * 60 + int(zone[-2:])
    return timezone(timedelta(minutes=-minutes if zone[0] == "-" else minutes))


def read_times(
    reader: TimeReader, count: int, most: int, lines_at: Callable[[NDArray[np.int64]], list[str]]
) -> NDArray[np.float64]:
    """Seconds of ``count`` lines, shape (n,), NaN where unknown: about ``most`` are read, the rest interpolated.

    Parameters
    ----------
    reader : TimeReader
    count, most : int
    lines_at : callable
        Gives the lines at an array of indices, shape (k,).
    """
    indices = np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))
    read = np.array([np.nan if time is None else time for time in reader.read(lines_at(indices))], np.float64)
    known = ~np.isnan(read)
    if known.mean() < 0.5:
        return np.full(count, np.nan)
    return np.interp(np.arange(count), indices[known], read[known])


def without_jumps(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Times of one file, shape (n,), in which a new year does not go back to the beginning of the assumed one."""
    steps = np.diff(times, prepend=times[:1])
    years = np.cumsum(np.where(steps < -180 * _SECONDS_PER_DAY, 366 * _SECONDS_PER_DAY, 0))
    shifted: NDArray[np.float64] = times + years
    return shifted


def spell(seconds: float) -> str:
    """Seconds as a time, without the year where it was assumed."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.strftime("%m-%d %H:%M:%S" if moment.year == _YEAR else "%Y-%m-%d %H:%M:%S")
