"""Names of columns: as a user writes them, as files have them, and which are used by default."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

from agent.core.errors import UsageError

_RANGE = re.compile(r"([0-9]{1,6})-([0-9]{1,6})")
TIME_NAMES = ("@timestamp", "timestamp", "time")


def expand(names: Iterable[str], known: Collection[str]) -> list[str]:
    """The columns meant by ``--text``: names, lists with commas, ranges of numbers; each once, in that order.

    The name of a ``known`` column means that column, even if it looks like a list or a range.
    """
    columns: list[str] = []
    for item in names:
        for part in [item] if item in known else item.split(","):
            name = part if part in known else part.strip()
            match = None if name in known else _RANGE.fullmatch(name)
            if match is None:
                columns.append(name)
                continue
            first, last = int(match[1]), int(match[2])
            if first > last:
                raise UsageError(f"--text {name}: a range goes upwards, {last}-{first}")
            columns += map(str, range(first, last + 1))
    return list(dict.fromkeys(columns))


def time_column(names: Iterable[str]) -> str | None:
    """The column that holds a record's time, if one is named so."""
    by_name = {name.casefold(): name for name in reversed(list(names))}
    return next((by_name[time] for time in TIME_NAMES if time in by_name), None)


def default_columns(names: Iterable[str], label: str | None, excluded: Collection[str]) -> list[str]:
    """What makes the text when no column is named: every column but the label, the time and those excluded."""
    return [name for name in names if name != label and name not in excluded and name.casefold() not in TIME_NAMES]


def header_names(cells: Sequence[str]) -> tuple[str, ...]:
    """A header's cells as names: stripped, never empty, never twice (``a``, ``a.1``)."""
    names: dict[str, None] = {}
    for position, cell in enumerate(cells):
        name = stem = cell.strip() or str(position)
        repeat = 0
        while name in names:
            repeat += 1
            name = f"{stem}.{repeat}"
        names[name] = None
    return tuple(names)
