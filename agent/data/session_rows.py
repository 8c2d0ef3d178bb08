"""Sessions of a file as one block."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from agent.core.records import BETWEEN_EVENTS, Record, clean_text
from agent.data.readers.columns import expand, time_column
from agent.data.readers.jsonl import EVENTS, MAX_EVENTS, parse_object
from agent.data.readers.row import ParsedRow, ReadRequest, RowError
from agent.data.table_block import with_notes
from retrieval.arrays import Bools, Ints
from retrieval.encoding.session_block import distinct_events
from retrieval.text.prompt_injection import have_injections, may_be_of_injection

# between the elements of an array of texts in JSON, without the outer quotes
_BETWEEN = '", "'


@dataclass(frozen=True)
class SessionRows:
    """n sessions of a file, which have nothing that is read but their events, each on a line of its own.

    Parameters
    ----------
    request : ReadRequest
    values : sequence of mapping
        The objects that the sessions are.
    lines : shape (n,)
        Their lines.
    ids : sequence of str
        As of `agent.data.readers.jsonl.parse_object`.
    notes : sequence of (int, str)
        Notes by the lines of rows.
    """

    request: ReadRequest
    values: Sequence[dict[str, Any]]
    lines: Ints
    ids: Sequence[str]
    notes: Sequence[tuple[int, str]] = ()

    def __len__(self) -> int:
        return len(self.values)

    def slice(self, start: int, size: int | None = None) -> SessionRows:
        """Some of the sessions."""
        chosen = slice(start, None if size is None else start + size)
        notes = () if start else self.notes
        return replace(self, values=self.values[chosen], lines=self.lines[chosen], notes=notes)

    def rows(self) -> list[ParsedRow | RowError]:
        """The sessions one by one."""
        rows = [
            parse_object(self.request, line, value, ids=self.ids)
            for line, value in zip(self.lines.tolist(), self.values, strict=True)
        ]
        return with_notes(rows, self.notes)

    def record(self, index: int) -> Record:
        """The record of one session."""
        row = parse_object(self.request, int(self.lines[index]), self.values[index], ids=self.ids)
        assert isinstance(row, ParsedRow)
        return row.record

    @property
    def sessions(self) -> list[list[str]]:
        """Their events."""
        return [value[EVENTS] for value in self.values]

    @cached_property
    def events(self) -> tuple[list[str], Ints, Ints]:
        """See `retrieval.encoding.session_block.distinct_events`."""
        return distinct_events(self.sessions)

    def are_plain(self) -> Bools:
        """Which texts begin and end with a character and hold no prompt injection, shape (n,)."""
        events, codes, sizes = self.events
        suspect = np.array([may_be_of_injection(event) for event in events], bool)
        begins, ends = (
            np.array([bool(event) and not event[place].isspace() for event in events], bool) for place in (0, -1)
        )
        # each session has an event
        after = np.cumsum(sizes)
        plain: Bools = begins[codes[after - sizes]] & ends[codes[after - 1]]
        indices = np.flatnonzero(np.logical_or.reduceat(suspect[codes], after - sizes))
        plain[indices] &= ~have_injections(self.texts(indices))
        return plain

    def texts(self, indices: Ints) -> list[str]:
        """The texts of the sessions at indices of shape (k,)."""
        return [BETWEEN_EVENTS.join(self.values[i][EVENTS]) for i in indices.tolist()]

    def times(self, indices: Ints) -> list[str | None]:
        """The times of the sessions at indices of shape (k,)."""
        # all have the same names
        if time_column(self.request.with_learned_names(dict.fromkeys(self.values[0]))) is None:
            return [None] * len(indices)
        return [self.record(i).time for i in indices.tolist()]

    def hashes(self) -> list[str]:
        """The hashes of the records' contents, see `agent.core.records.content_hash`."""
        escaped, hashes = {event: json.dumps(event, ensure_ascii=False)[1:-1] for event in self.events[0]}, list[str]()
        for session in self.sessions:
            events = [escaped[event] for event in session]
            content = f'["{BETWEEN_EVENTS.join(events)}", {{}}, ["{_BETWEEN.join(events)}"]]'
            hashes.append(hashlib.sha256(content.encode()).hexdigest())
        return hashes


def session_rows(
    values: Sequence[dict[str, Any]], request: ReadRequest, lines: Ints, *, ids: Sequence[str]
) -> SessionRows | None:
    """The block of objects with the same keys that `is_session`; None if more than their events is read."""
    names = [name for name in values[0] if name != EVENTS]
    learned = request.with_learned_names(dict.fromkeys(names))
    read = expand(request.restricted_to(learned).text, learned)
    if not request.lenient or request.raw or set(read) - {EVENTS}:
        return None
    return SessionRows(request, _redacted(values, request), lines, ids)


def _redacted(values: Sequence[dict[str, Any]], request: ReadRequest) -> Sequence[dict[str, Any]]:
    """The objects with placeholders in their events, each distinct event redacted once."""
    if (redactor := request.redactor) is None:
        return values
    events = list(dict.fromkeys(event for value in values for event in value[EVENTS]))
    suspects = redactor.suspects(pl.Series(events, dtype=pl.String)).to_list()
    new = {event: redactor.text(clean_text(event)) for event, suspect in zip(events, suspects, strict=True) if suspect}
    return (
        [{**value, EVENTS: [new.get(event, event) for event in value[EVENTS]]} for value in values] if new else values
    )


def is_session(value: dict[str, Any], max_chars: int) -> bool:
    """Whether an object has events that are texts and are kept as they are, and beside them plain values."""
    events = value[EVENTS]
    if type(events) is not list or not 0 < len(events) <= MAX_EVENTS or set(map(type, events)) != {str}:
        return False
    if sum(map(len, events)) + len(BETWEEN_EVENTS) * len(events) > max_chars:
        return False
    return not any(isinstance(item, dict | list) for name, item in value.items() if name != EVENTS)
