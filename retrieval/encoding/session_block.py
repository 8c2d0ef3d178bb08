"""The events of many sessions by kind, as arrays: what models of sessions read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from retrieval.arrays import Bools, Ints
from retrieval.encoding.field_columns import Column, FieldColumns, FieldValue
from retrieval.encoding.field_encoder import EVENT_KINDS, EVENTS, EventCount, features
from retrieval.text.masking import kind_of_event
from retrieval.text.template_hash import template_skeleton


def distinct_events(sessions: Sequence[Sequence[str]]) -> tuple[list[str], Ints, Ints]:
    """The distinct events of n sessions, which of them each is, of one session after the other, and how many each has.

    Returns
    -------
    list of str, and shapes (events,) and (n,)
    """
    sizes = np.fromiter(map(len, sessions), np.int64, len(sessions))
    flat = [event for session in sessions for event in session]
    distinct = list(dict.fromkeys(flat))
    places = dict(zip(distinct, range(len(distinct)), strict=True))
    return distinct, np.fromiter(map(places.__getitem__, flat), np.int64, len(flat)), sizes


@dataclass(frozen=True)
class SessionBlock:
    """The events of n sessions.

    Parameters
    ----------
    session : callable
        Gives the events of a session, by its index.
    kinds : tuple of str
        The kinds of all events, each once.
    codes : shape (events,)
        Index of each event's kind, of one session after the other.
    sizes : shape (n,)
        Number of events of each session.
    """

    session: Callable[[int], Sequence[str]]
    kinds: tuple[str, ...]
    codes: Ints
    sizes: Ints

    @classmethod
    def of(cls, sessions: Sequence[Sequence[str]]) -> SessionBlock:
        """The block of n sessions."""
        return cls.of_events(sessions.__getitem__, *distinct_events(sessions))

    @classmethod
    def of_events(
        cls, session: Callable[[int], Sequence[str]], events: Sequence[str], codes: Ints, sizes: Ints
    ) -> SessionBlock:
        """As `of`, from what `distinct_events` gives of the sessions."""
        kinds, of_skeleton, kind_of = dict[str, int](), dict[str, int](), list[int]()
        for event in events:
            # events with the same skeleton are of one kind, but for those of one word
            skeleton = template_skeleton(event) if len(event.split()) > 1 else None
            code = of_skeleton.get(skeleton) if skeleton is not None else None
            if code is None:
                code = kinds.setdefault(kind_of_event(event), len(kinds))
            if skeleton is not None:
                of_skeleton[skeleton] = code
            kind_of.append(code)
        return cls(session, tuple(kinds), np.array(kind_of, np.int64)[codes], sizes)

    def __len__(self) -> int:
        return len(self.sizes)

    @cached_property
    def session_of(self) -> Ints:
        """The session of each event, shape (events,)."""
        return np.repeat(np.arange(len(self)), self.sizes)

    def alike(self) -> tuple[Ints, Ints]:
        """The first of all sessions with the same kinds in the same order, and for each session which of these it is.

        Returns
        -------
        shapes (different sessions,) and (n,)
        """
        data, ends, first = self.codes.astype(np.int32).tobytes(), np.cumsum(self.sizes) * 4, dict[bytes, int]()
        numbers = [
            first.setdefault(data[end - 4 * size : end], len(first))
            for end, size in zip(ends.tolist(), self.sizes.tolist(), strict=True)
        ]
        of_session = np.array(numbers, np.int64)
        return np.unique(of_session, return_index=True)[1], of_session

    def take(self, indices: Ints) -> SessionBlock:
        """The sessions at ``indices``."""
        starts, sizes = (np.cumsum(self.sizes) - self.sizes)[indices], self.sizes[indices]
        offsets = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        codes = self.codes[np.repeat(starts, sizes) + offsets]
        return SessionBlock(lambda index: self.session(int(indices[index])), self.kinds, codes, sizes)

    def any_of(self, kinds: Bools) -> Bools:
        """Which sessions have an event of one of the ``kinds``, a mask of shape (kinds,)."""
        found = np.zeros(len(self), bool)
        found[self.session_of[kinds[self.codes]]] = True
        return found

    def columns(self, names: Collection[str]) -> FieldColumns:
        """The features of the sessions, with the counts of those events that ``names`` have."""
        pairs = np.unique(self.session_of * max(1, len(self.kinds)) + self.codes) // max(1, len(self.kinds))
        columns = {
            EVENTS: self.sizes.astype(float),
            EVENT_KINDS: np.bincount(pairs, minlength=len(self)).astype(float),
        }
        wanted = [code for code, kind in enumerate(self.kinds) if EventCount(kind) in names]
        place = np.full(len(self.kinds), len(wanted))
        place[wanted] = np.arange(len(wanted))
        width = len(wanted) + 1
        counts = np.bincount(self.session_of * width + place[self.codes], minlength=width * len(self))
        for j, code in enumerate(wanted):
            columns[EventCount(self.kinds[code])] = counts.reshape(-1, width)[:, j].astype(float)
        return FieldColumns(len(self), {name: Column.of_numbers(numbers) for name, numbers in columns.items()})

    def row(self, index: int) -> dict[str, FieldValue]:
        """The features of one session."""
        return features({}, self.session(index))
