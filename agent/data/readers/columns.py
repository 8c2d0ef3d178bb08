"""Names of columns: as the user writes them, as files have them, and what the defaults are."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

from agent.core.errors import UsageError

_RANGE = re.compile(r"([0-9]{1,6})-([0-9]{1,6})")
_TIME_NAMES = ("@timestamp", "timestamp", "time")


def expand(asked: Iterable[str], known: Collection[str]) -> list[str]:
    """The columns meant by ``--text``: names, lists with commas, ranges of numbers; each once, in that order.

    What is the name of a known column means that column, even if it looks like a list or a range.
    """
    columns: list[str] = []
    for item in asked:
        for part in [item] if item in known else item.split(","):
            name = part if part in known else part.strip()
            match = None if name in known else _RANGE.fullmatch(name)
            if match is None:
                columns.append(name)
                continue
            first, last = int(match[1]), int(match[2])
            if first > last:
                raise UsageError(f"--text {name}: a range goes upwards, {last}-{first}")
            columns += [str(number) for number in range(first, last + 1)]
    return list(dict.fromkeys(columns))


def time_of(names: Iterable[str]) -> str | None:
    """The column that holds a record's time, if one is named so."""
    by_name: dict[str, str] = {}
    for name in names:
        by_name.setdefault(name.casefold(), name)
    return next((by_name[time] for time in _TIME_NAMES if time in by_name), None)


def default_columns(names: Iterable[str], label: str | None, also_not: Collection[str] = ()) -> list[str]:
    """What makes the text when nothing is asked for: every column but the label and the time."""
    return [name for name in names if name != label and name not in also_not and name.casefold() not in _TIME_NAMES]


def header_names(cells: Sequence[str]) -> tuple[str, ...]:
    """A header's cells as names: stripped, never empty, never twice (``a``, ``a.1``)."""
    names: list[str] = []
    taken: set[str] = set()
    for position, cell in enumerate(cells):
        name = stem = cell.strip() or str(position)
        repeat = 0
        while name in taken:
            repeat += 1
            name = f"{stem}.{repeat}"
        taken.add(name)
        names.append(name)
    return tuple(names)
