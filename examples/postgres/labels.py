"""From the schedule to labels: which lines a fault caused.

A line takes a fault's kind when it was printed inside one of that fault's windows and its message matches a
pattern the fault declares. The lines that belong to such a message (DETAIL, HINT, CONTEXT, STATEMENT of the
same process) follow it. Everything else is normal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

NORMAL = "-"
_LINE = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}) UTC \[(?P<pid>\d+)\] "
    r"(?:(?P<who>\S+@\S+) )?(?P<severity>[A-Z0-9]+):  (?P<message>.*)"
)
_FOLLOW_UP = frozenset({"DETAIL", "HINT", "CONTEXT", "STATEMENT", "QUERY", "LOCATION"})
_MASKS = (
    (re.compile(r"^\S+ \S+ UTC \[\d+\] "), ""),
    (re.compile(r"/tmp/pg-\w+"), "<folder>"),
    (re.compile(r"0/[0-9A-F]{4,}|\b[0-9A-F]{24}\b"), "<lsn>"),
    (re.compile(r"\d{4}-\d\d-\d\d[ T][\d:.]+(?: UTC)?"), "<time>"),
    (re.compile(r"\d+(?:\.\d+)*"), "<n>"),
)


@dataclass(frozen=True)
class Window:
    """A stretch of time in which one fault was at work."""

    kind: str
    begin: datetime
    end: datetime


class Labelled(NamedTuple):
    """One log line with its label and the moment it was printed."""

    label: str
    line: str
    time: datetime


def join_lines(text: str) -> Iterator[str]:
    """Physical lines -> one line a message part: PostgreSQL starts the rest of a long one with a tab."""
    held = ""
    for line in text.splitlines():
        if line.startswith("\t"):
            held = f"{held} {line.strip()}"
            continue
        if held:
            yield held
        held = line
    if held:
        yield held


def label_lines(
    lines: Iterable[str], windows: Iterable[Window], patterns: Mapping[str, tuple[str, ...]]
) -> Iterator[Labelled]:
    """Give every line its label; a line that is not PostgreSQL's is an error, not a guess."""
    compiled = {kind: re.compile("|".join(f"(?:{part})" for part in parts)) for kind, parts in patterns.items()}
    ordered = sorted(windows, key=lambda window: window.begin)
    last: dict[str, str] = {}
    for line in lines:
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"not a line of the expected format: {line!r}")
        time = datetime.strptime(match["time"], "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=UTC)
        if match["severity"] in _FOLLOW_UP:
            label = last.get(match["pid"], NORMAL)
        else:
            label = next(
                (w.kind for w in ordered if w.begin <= time <= w.end and compiled[w.kind].match(match["message"])),
                NORMAL,
            )
            last[match["pid"]] = label
        yield Labelled(label, line, time)


def template(line: str) -> str:
    """The line without its time, process and numbers: a reviewer reads it once, not a hundred times."""
    for pattern, name in _MASKS:
        line = pattern.sub(name, line)
    return line
