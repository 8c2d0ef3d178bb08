"""What the fields of a source's cases hold, to tell a record whose fields cannot be read as theirs.

Models of fields take whatever they do not know (a missing column, a word instead of a number, a new category) for a
missing value, and may then be sure of a label. Such a record is never called normal, see
`agent.pipeline.decision.Decider`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.core.numerics import trend
from agent.detectors.tabular_encoder import TabularEncoder
from retrieval.encoding.field_columns import FieldColumns, Row
from retrieval.encoding.field_encoder import EventCount, FieldEncoder, FieldValue, features
from retrieval.encoding.session_block import SessionBlock
from retrieval.text.masking import kind_of_event

# share of the cases that fill a required column; greatest probability of a new value that makes one a surprise
_REQUIRED, _SELDOM_NEW = 0.95, 0.01
_MAX_VALUES, _MAX_SHOWN, _MAX_CHARS = 1_000, 5, 40
# how many ranges of the cases a number may lie beyond them at most
_BEYOND = 1.0
# share of the records like the cases that may have a number outside of what is expected
_SELDOM_BEYOND = 0.01
_HUGE = 1e300
# rank correlation of a number with the order of the cases from which on it rises or falls from case to case
TREND = 0.9
# what a record may have beside its fields
_PARTS = frozenset({"events", "text"})
# every how many of a number's 33 quantiles a missing value is tried at
_STEP = 4


@dataclass(frozen=True)
class FieldProblems:
    """How a record differs from what its source's cases hold; the names of columns, or sentences about them.

    Parameters
    ----------
    missing
        Required columns without a value.
    unreadable
        Numbers that are written as words which no case has.
    unlike
        Values that no case has or comes near to.
    unknown
        Names of fields that no case has; they are not read.
    parts
        Parts of the record that are not read at all, because no case has them.
    """

    missing: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    unlike: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()

    @property
    def may_be_renamed(self) -> bool:
        """Whether a missing column may be there under another name."""
        return bool(self.missing and self.unknown)

    @property
    def concern_values(self) -> bool:
        """Whether a value is missing, unreadable or unlike the cases'."""
        return bool(self.missing or self.unreadable or self.unlike)

    def degraded(self, *, unlike: bool) -> str | None:
        """Why the signal of the fields is partial; None if every column was read.

        ``unlike``: whether that names values unlike all cases as well, which keep a verdict from being normal.
        """
        parts = [*self.parts, *self.unreadable[:_MAX_SHOWN], *(self.unlike[:_MAX_SHOWN] if unlike else ())]
        if self.unknown:
            names = [f"'{name[:_MAX_CHARS]}'" for name in self.unknown]
            parts.append(f"no case has {_listed(names)}, which {'is' if len(names) == 1 else 'are'} not read")
        if self.missing:
            parts.append(f"no value of {_listed(self.missing)}, which the cases have")
        return "; ".join(parts) or None


@dataclass(frozen=True)
class FieldExpectations:
    """What columns hold.

    Parameters
    ----------
    required
        Columns that nearly all cases fill.
    ranges
        Least and greatest value of each number.
    limits
        Least and greatest value of each number that a record like the cases has, see `_limits`.
    words
        Of each number, the words that stand in its place in cases.
    values
        All values of each category where a new one is seldom.
    events
        The kinds of event of sessions, None where new ones are not seldom.
    columns
        All names of fields; None if that is not known.
    parts
        What the cases have beside fields: "events", and "text" where it says something else than these.
    """

    required: tuple[str, ...]
    ranges: dict[str, tuple[float, float]]
    limits: dict[str, tuple[float, float]]
    words: dict[str, frozenset[str]]
    values: dict[str, frozenset[str]]
    events: frozenset[str] | None
    columns: frozenset[str] | None = None
    parts: frozenset[str] = _PARTS

    @classmethod
    def fit(
        cls, rows: Sequence[Row], sessions: Sequence[Sequence[str]], *, own_text: bool = False
    ) -> FieldExpectations:
        """Learn from the fields of n cases, and the events of each (empty for a row of a table).

        ``own_text``: whether a case has a text that says something else than its fields and events.
        """
        encoder = FieldEncoder.fit(rows)
        filled = Counter(name for row in rows for name, value in row.items() if value is not None)
        used = [*encoder.numbers, *encoder.categories]
        words = {
            name: frozenset(value for row in rows if isinstance(value := row.get(name), str))
            for name in encoder.numbers
        }
        values = {
            name: _closed((str(row[name]) for row in rows if row.get(name) is not None), len(rows))
            for name in encoder.categories
        }
        ranges = {name: (knots[0], knots[-1]) for name, knots in encoder.numbers.items()}
        share = _SELDOM_BEYOND / (2 * max(1, len(ranges)))
        kinds = (kind for events in sessions for kind in {kind_of_event(event) for event in events})
        return cls(
            tuple(name for name in used if filled[name] >= _REQUIRED * len(rows)),
            ranges,
            {name: _limits([row.get(name) for row in rows], share) for name in ranges},
            words,
            {name: known for name, known in values.items() if known},
            _closed(kinds, len(sessions)),
            frozenset(filled),
            frozenset(part for part, has in (("events", any(sessions)), ("text", own_text)) if has),
        )

    def problems(
        self, fields: Row, events: Sequence[str] = (), *, own_text: bool = False, dropped: Sequence[str] = ()
    ) -> FieldProblems:
        """How a record differs from the cases.

        Parameters
        ----------
        fields, events
            Its parts.
        own_text
            Whether its text says something else than these.
        dropped
            Names of other fields that it had, which are not part of the source's records.
        """
        row = features(fields, events)
        missing = tuple(name for name in self.required if row.get(name) is None)
        unreadable, unlike = list[str](), list[str]()
        for name, (low, high) in self.ranges.items():
            value, (least, greatest) = row.get(name), self.limits[name]
            if isinstance(value, str):
                if value not in self.words[name]:
                    unreadable.append(f"{name} is “{value[:_MAX_CHARS]}”, which is not read as a number")
            elif value is not None and not least <= float(value) <= greatest:
                unlike.append(f"{name} is {float(value):g}, far from all cases ({low:g} to {high:g})")
        for name, known in self.values.items():
            value = row.get(name)
            if value is not None and str(value) not in known:
                unlike.append(f"{name} is “{str(value)[:_MAX_CHARS]}”, which no case has")
        if self.events is not None:
            new = [name.event for name in row if isinstance(name, EventCount) and name.event not in self.events]
            unlike += [f"“{event[:_MAX_CHARS]}” is an event that no case has" for event in new]
        columns = fields.keys() if self.columns is None else self.columns
        unknown = [*dropped, *(name for name, value in fields.items() if value is not None and name not in columns)]
        unread = list[str]()
        if own_text and "text" not in self.parts:
            unread.append(f"the text is not read, no case has one beside its {'events' if events else 'fields'}")
        if events and "events" not in self.parts:
            unread.append("the events are not read, no case has any")
        return FieldProblems(missing, tuple(unreadable), tuple(unlike), tuple(unknown), tuple(unread))

    def differences(
        self, rows: FieldColumns, sessions: SessionBlock | None = None
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """How n records differ from the cases in their fields, or in their events, as `problems` has it.

        Returns
        -------
        shape (n, columns)
            Which columns a record lacks, or has and no case has.
        shape (n,)
            Whether it has a value that is unreadable or unlike the cases'.
        """
        columns = [~rows[name].filled for name in self.required]
        if self.columns is not None and sessions is None:
            columns += [rows[name].filled for name in rows.names if name not in self.columns]
        unlike = np.zeros(len(rows), bool)
        for name, (least, greatest) in self.limits.items():
            column = rows[name]
            unread = np.array([*(word not in self.words[name] for word in column.words), False])
            # NaN, where there is no number, is neither less nor greater
            unlike |= unread[column.codes] | (column.numbers < least) | (column.numbers > greatest)
        for name, known in self.values.items():
            unlike |= rows[name].filled & ~rows[name].is_among(known)
        if sessions is not None:
            unlike |= "events" not in self.parts
            if self.events is not None:
                unlike |= sessions.any_of(np.array([kind not in self.events for kind in sessions.kinds], bool))
        return np.stack(columns, axis=1) if columns else np.zeros((len(rows), 0), bool), unlike

    def to_json(self) -> dict[str, Any]:
        """As plain data, for the store."""
        return {
            "required": self.required,
            "ranges": self.ranges,
            "limits": self.limits,
            "words": {name: sorted(words) for name, words in self.words.items()},
            "values": {name: sorted(values) for name, values in self.values.items()},
            "events": None if self.events is None else sorted(self.events),
            "columns": None if self.columns is None else sorted(self.columns),
            "parts": sorted(self.parts),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> FieldExpectations:
        """The reverse of `to_json`."""
        ranges = {name: (low, high) for name, (low, high) in data["ranges"].items()}
        # sources fitted before there were limits
        limits = data.get("limits") or {name: _widest(low, high) for name, (low, high) in ranges.items()}
        return cls(
            tuple(data["required"]),
            ranges,
            {name: (least, greatest) for name, (least, greatest) in limits.items()},
            {name: frozenset(words) for name, words in data["words"].items()},
            {name: frozenset(values) for name, values in data["values"].items()},
            None if data["events"] is None else frozenset(data["events"]),
            None if data.get("columns") is None else frozenset(data["columns"]),
            frozenset(data.get("parts", _PARTS)),
        )


# of sources whose cases are texts
NO_FIELDS = FieldExpectations((), {}, {}, {}, {}, None, columns=frozenset(), parts=frozenset({"text"}))


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MAX_SHOWN
    return ", ".join(names[:_MAX_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _closed(values: Iterable[str], cases: int) -> frozenset[str] | None:
    """The distinct values if another one were a surprise, else None.

    By Good and Turing, the probability of a new one is the share of the cases whose value was seen once.
    """
    counts = Counter(values)
    once = sum(count == 1 for count in counts.values())
    return frozenset(counts) if counts and len(counts) <= _MAX_VALUES and once <= _SELDOM_NEW * cases else None


def _limits(column: Sequence[FieldValue], share: float) -> tuple[float, float]:
    """Least and greatest number of a record like the n cases, one of which is beyond each with probability ``share``.

    The tail of the numbers is taken for exponential, with the mean that the √n outermost ones show: beyond the next
    one inside, u, at a sum S of their k distances to it, a new number is farther than y with probability
    (k + 1) / (n + 1) · (1 + y / S)^-k, the predictive distribution of the exponential one. Nor is a number far from the
    cases that is no farther from them than the k outermost are from each other. At most one range of the cases beyond
    them: that far where the numbers rise or fall from case to case (a counter, an uptime), so that the next ones are
    expected outside, on either side, because a file may have its newest rows first.
    """
    numbers = np.array([float(value) for value in column if value is not None and not isinstance(value, str)])
    # sums of differences must not overflow
    numbers = np.clip(numbers, -_HUGE, _HUGE)
    low, high = float(numbers.min()), float(numbers.max())
    least, greatest = _widest(low, high)
    if abs(trend(numbers)) < TREND:
        greatest = min(greatest, _tail_end(np.sort(numbers), share))
        least = max(least, -_tail_end(np.sort(-numbers), share))
    return least, greatest


def _widest(low: float, high: float) -> tuple[float, float]:
    reach = _BEYOND * ((high - low) or max(abs(high), 1.0))
    return low - reach, high + reach


def _tail_end(ascending: NDArray[np.float64], share: float) -> float:
    """What a new number exceeds with probability ``share``, if not by less than the greatest ones' largest gap."""
    k = math.isqrt(len(ascending) - 1)
    if not k:
        return math.inf
    inside, outermost = ascending[-k - 1], ascending[-k:]
    exceeding = (k + 1) / (len(ascending) + 1)
    reach = (outermost - inside).sum() * ((exceeding / share) ** (1 / k) - 1)
    gap = np.diff(ascending[-k - 1 :]).max()
    return float(max(ascending[-1] + gap, inside + reach))


def filled_in(row: Row, missing: Sequence[str], columns: TabularEncoder) -> list[Row]:
    """The row with values of the cases in its missing columns, see `values_to_fill_in`.

    No row where more is missing than is there: too little of the record is left to say anything of it.
    """
    if len(missing) > sum(value is not None for value in row.values()):
        return []
    return [{**row, **values} for values in values_to_fill_in(missing, columns)]


def values_to_fill_in(missing: Sequence[str], columns: TabularEncoder) -> list[Row]:
    """Values of the cases for missing columns: of each by itself, and all numbers low or high together."""
    numbers = {name: columns.encoder.numbers[name] for name in missing if name in columns.encoder.numbers}
    rows: list[Row] = [{name: value} for name, knots in numbers.items() for value in sorted({*knots[::_STEP]})]
    rows += [{name: value} for name in missing for value in columns.encoder.categories.get(name, ())]
    rows += [{name: knots[end] for name, knots in numbers.items()} for end in (0, -1)]
    return rows
