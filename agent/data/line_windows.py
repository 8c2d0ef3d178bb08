"""Windows of consecutive lines of a log as sessions, so that what lies in their order and counts can be judged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from agent.core.errors import UsageError
from agent.core.records import Record
from agent.data.readers import ParsedRow, RowError
from agent.data.readers.jsonl import MAX_EVENTS


def check_size(size: int, step: int) -> None:
    """Raise if windows of so many lines, begun every ``step`` lines, are no sessions or leave lines out.

    Raises
    ------
    UsageError
        ``size`` is not from 2 to the most events of a session, or ``step`` not from 1 to ``size``.
    """
    if not 2 <= size <= MAX_EVENTS:
        raise UsageError(f"--size {size}: a window has from 2 to {MAX_EVENTS:,} lines")
    if not 1 <= step <= size:
        raise UsageError(f"--step {step}: from 1 to the {size} lines of a window, or lines would be in none")


def line_windows(rows: Iterable[ParsedRow | RowError], size: int, step: int) -> Iterator[ParsedRow | RowError]:
    """The windows of one file's records; every record is in one, a last window may be shorter.

    Parameters
    ----------
    rows
        Records in their order; one that could not be read is in no window, and is passed on.
    size, step
        Records of a window, and from one window's first to the next one's, see `check_size`.

    Returns
    -------
    iterator of ParsedRow or RowError
        A window's label is anomalous if that of one record is; it has the time, file and line of its first record.
    """
    check_size(size, step)
    held: list[ParsedRow] = []
    # of those held, how many are in a window already
    covered = 0
    for row in rows:
        if isinstance(row, RowError):
            yield row
            continue
        held.append(row)
        if len(held) == size:
            yield _window(held)
            del held[:step]
            covered = len(held)
    if len(held) > covered:
        yield _window(held)


def _window(rows: list[ParsedRow]) -> ParsedRow:
    first = rows[0].record
    worst = next((row for row in rows if row.label == "anomalous"), rows[0])
    labels = {row.label for row in rows}
    events = tuple(row.record.text for row in rows)
    record = Record(events=events, file=first.file, line=first.line, time=first.time)
    notes = tuple(dict.fromkeys(note for row in rows for note in row.notes))
    return ParsedRow(record, None if labels == {None} else worst.label, worst.label_value, notes)
