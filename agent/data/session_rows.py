"""Sessions of a file as one block."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
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
from retrieval.text.prompt_injection import have_injections, may_be_of_injection

# between the elements of an array of texts in JSON, without the outer quotes
_BETWEEN = '", "'


@dataclass(frozen=True)
class SessionRows:
    """n sessions of a file, which have nothing that is read but their events, each on a line of its own.

    Parameters
    ----------
    request : ReadRequest
    sessions : polars.Series of lists of str, n of them
        Their events, at least one each.
    value : callable
        Gives the object that a session is, by its index; its events may still be to redact.
    lines : shape (n,)
        Their lines.
    ids : sequence of str
        As of `agent.data.readers.jsonl.parse_object`.
    notes : sequence of (int, str)
        Notes by the lines of rows.
    """

    request: ReadRequest
    sessions: pl.Series
    value: Callable[[int], dict[str, Any]]
    lines: Ints
    ids: Sequence[str]
    notes: Sequence[tuple[int, str]] = ()

    def __len__(self) -> int:
        return len(self.sessions)

    def slice(self, start: int, size: int | None = None) -> SessionRows:
        """Some of the sessions."""
        stop = None if size is None else start + size
        return replace(
            self,
            sessions=self.sessions.slice(start, size),
            value=lambda index: self.value(start + index),
            lines=self.lines[start:stop],
            notes=() if start else self.notes,
        )

    def session(self, index: int) -> list[str]:
        """The events of one session."""
        events: list[str] = self.sessions[index].to_list()
        return events

    def _parsed(self, index: int) -> ParsedRow | RowError:
        value = {**self.value(index), EVENTS: self.session(index)}
        return parse_object(self.request, int(self.lines[index]), value, ids=self.ids)

    def rows(self) -> list[ParsedRow | RowError]:
        """The sessions one by one."""
        return with_notes([self._parsed(index) for index in range(len(self))], self.notes)

    def record(self, index: int) -> Record:
        """The record of one session."""
        row = self._parsed(index)
        assert isinstance(row, ParsedRow)
        return row.record

    @cached_property
    def events(self) -> tuple[list[str], Ints, Ints]:
        """See `retrieval.encoding.session_block.distinct_events`."""
        events = self.sessions.explode()
        distinct = events.unique(maintain_order=True)
        codes = events.cast(pl.Enum(distinct)).to_physical().cast(pl.Int64)
        return distinct.to_list(), codes.to_numpy(), self.sessions.list.len().cast(pl.Int64).to_numpy()

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
        texts: list[str] = self.sessions.gather(indices).list.join(BETWEEN_EVENTS).to_list()
        return texts

    def times(self, indices: Ints) -> list[str | None]:
        """The times of the sessions at indices of shape (k,)."""
        # all have the same names
        if time_column(self.request.with_learned_names(dict.fromkeys(self.value(0)))) is None:
            return [None] * len(indices)
        return [self.record(i).time for i in indices.tolist()]

    def hashes(self) -> list[str]:
        """The hashes of the records' contents, see `agent.core.records.content_hash`."""
        events, codes, sizes = self.events
        escaped = [json.dumps(event, ensure_ascii=False)[1:-1] for event in events]
        sessions = self.sessions
        if escaped != events:
            of_session = pl.Series(np.repeat(np.arange(len(self)), sizes))
            frame = pl.DataFrame({"session": of_session, "event": pl.Series(escaped).gather(codes)})
            sessions = frame.group_by("session", maintain_order=True).agg("event").get_column("event")
        text, each = (sessions.list.join(between) for between in (BETWEEN_EVENTS, _BETWEEN))
        contents = pl.select(pl.concat_str(pl.lit('["'), text, pl.lit('", {}, ["'), each, pl.lit('"]]'))).to_series()
        return [hashlib.sha256(content.encode()).hexdigest() for content in contents.to_list()]


def session_rows(
    sessions: pl.Series,
    value: Callable[[int], dict[str, Any]],
    request: ReadRequest,
    lines: Ints,
    *,
    ids: Sequence[str],
) -> tuple[SessionRows | None, Bools]:
    """The block of those of n sessions whose events are kept as they are, and which these are, shape (n,).

    Parameters
    ----------
    sessions : polars.Series of lists of str, n of them
    value : callable
        Gives the object that a session is, by its index; all have the same keys.

    Returns
    -------
    SessionRows or None
        None if none is kept, or more than their events is read.
    shape (n,)
    """
    kept = _are_kept(sessions, request.max_chars)
    if not kept.any():
        return None, kept
    learned = request.with_learned_names(dict.fromkeys(name for name in value(0) if name != EVENTS))
    read = expand(request.restricted_to(learned).text, learned)
    if not request.lenient or request.raw or set(read) - {EVENTS}:
        return None, kept
    places = np.flatnonzero(kept)
    sessions = _redacted(sessions.gather(places), request)
    return SessionRows(request, sessions, lambda index: value(int(places[index])), lines[kept], ids), kept


def _are_kept(sessions: pl.Series, max_chars: int) -> Bools:
    """Which lists have texts alone, not too many and not too long together."""
    sizes = pl.col("events").list.len()
    chars = pl.col("events").list.eval(pl.element().str.len_chars()).list.sum()
    is_empty = pl.col("events").list.eval(pl.element().is_null()).list.any()
    kept = sizes.is_between(1, MAX_EVENTS) & (chars + len(BETWEEN_EVENTS) * sizes <= max_chars) & ~is_empty
    frame = sessions.alias("events").to_frame()
    return frame.select(kept.fill_null(value=False)).to_series().to_numpy().copy()


def _redacted(sessions: pl.Series, request: ReadRequest) -> pl.Series:
    """The sessions with placeholders in their events, each distinct event redacted once."""
    if (redactor := request.redactor) is None:
        return sessions
    events = sessions.explode().unique()
    suspects = events.filter(redactor.suspects(events)).to_list()
    new = {event: redactor.text(clean_text(event)) for event in suspects}
    return sessions.list.eval(pl.element().replace(new)) if new else sessions


def is_session(value: dict[str, Any]) -> bool:
    """Whether an object has events that are texts, and beside them plain values."""
    events = value[EVENTS]
    if type(events) is not list or set(map(type, events)) != {str}:
        return False
    return not any(isinstance(item, dict | list) for name, item in value.items() if name != EVENTS)
