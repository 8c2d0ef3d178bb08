"""What the fields of a source's cases hold, to tell a record whose fields cannot be read as theirs.

Models of fields take whatever they do not know (a missing column, a word instead of a number, a new category) for a
missing value, and may then be sure of a label. Such a record is never called normal, see
`agent.pipeline.decision.Decider`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.detectors.tabular_encoder import Row, TabularEncoder
from retrieval.encoding.field_encoder import EventCount, FieldEncoder
from retrieval.text.masking import kind_of_event

# share of the cases that fill a required column; greatest probability of a new value that makes one a surprise
_REQUIRED, _SELDOM_NEW = 0.95, 0.01
_MAX_VALUES, _MAX_SHOWN, _MAX_CHARS = 1_000, 5, 40
# how many ranges of the cases a number may lie beyond them
_BEYOND = 1.0
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
    """

    missing: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    unlike: tuple[str, ...] = ()

    @property
    def degraded(self) -> str | None:
        """Why the signal of the fields is partial; None if every column was read."""
        parts = list(self.unreadable[:_MAX_SHOWN])
        if self.missing:
            more = f" and {len(self.missing) - _MAX_SHOWN} more" if len(self.missing) > _MAX_SHOWN else ""
            parts.append(f"no value of {', '.join(self.missing[:_MAX_SHOWN])}{more}, which the cases have")
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
    words
        Of each number, the words that stand in its place in cases.
    values
        All values of each category where a new one is seldom.
    events
        The kinds of event of sessions, None where new ones are not seldom.
    """

    required: tuple[str, ...]
    ranges: dict[str, tuple[float, float]]
    words: dict[str, frozenset[str]]
    values: dict[str, frozenset[str]]
    events: frozenset[str] | None

    @classmethod
    def fit(cls, rows: Sequence[Row], sessions: Sequence[Sequence[str]]) -> FieldExpectations:
        """Learn from the fields of n cases, and the events of each (empty for a row of a table)."""
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
        kinds = (kind for events in sessions for kind in {kind_of_event(event) for event in events})
        return cls(
            tuple(name for name in used if filled[name] >= _REQUIRED * len(rows)),
            {name: (knots[0], knots[-1]) for name, knots in encoder.numbers.items()},
            words,
            {name: known for name, known in values.items() if known},
            _closed(kinds, len(sessions)),
        )

    def problems(self, row: Row) -> FieldProblems:
        """How a record with these features (`retrieval.encoding.field_encoder.features`) differs from the cases."""
        missing = tuple(name for name in self.required if row.get(name) is None)
        unreadable, unlike = list[str](), list[str]()
        for name, (low, high) in self.ranges.items():
            value = row.get(name)
            if isinstance(value, str):
                if value not in self.words[name]:
                    unreadable.append(f"{name} is “{value[:_MAX_CHARS]}”, which is not read as a number")
            elif value is not None:
                reach = _BEYOND * ((high - low) or max(abs(high), 1.0))
                if not low - reach <= float(value) <= high + reach:
                    unlike.append(f"{name} is {float(value):g}, far from all cases ({low:g} to {high:g})")
        for name, known in self.values.items():
            value = row.get(name)
            if value is not None and str(value) not in known:
                unlike.append(f"{name} is “{str(value)[:_MAX_CHARS]}”, which no case has")
        if self.events is not None:
            new = [name.event for name in row if isinstance(name, EventCount) and name.event not in self.events]
            unlike += [f"“{event[:_MAX_CHARS]}” is an event that no case has" for event in new]
        return FieldProblems(missing, tuple(unreadable), tuple(unlike))

    def to_json(self) -> dict[str, Any]:
        """As plain data, for the store."""
        return {
            "required": self.required,
            "ranges": self.ranges,
            "words": {name: sorted(words) for name, words in self.words.items()},
            "values": {name: sorted(values) for name, values in self.values.items()},
            "events": None if self.events is None else sorted(self.events),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> FieldExpectations:
        """The reverse of `to_json`."""
        return cls(
            tuple(data["required"]),
            {name: (low, high) for name, (low, high) in data["ranges"].items()},
            {name: frozenset(words) for name, words in data["words"].items()},
            {name: frozenset(values) for name, values in data["values"].items()},
            None if data["events"] is None else frozenset(data["events"]),
        )


def _closed(values: Iterable[str], cases: int) -> frozenset[str] | None:
    """The distinct values if another one were a surprise, else None.

    By Good and Turing, the probability of a new one is the share of the cases whose value was seen once.
    """
    counts = Counter(values)
    once = sum(count == 1 for count in counts.values())
    return frozenset(counts) if counts and len(counts) <= _MAX_VALUES and once <= _SELDOM_NEW * cases else None


def filled_in(row: Row, missing: Sequence[str], columns: TabularEncoder) -> list[Row]:
    """The row with values of the cases in its missing columns: each by itself, and all numbers low or high together.

    None where more is missing than is there: too little of the record is left to say anything of it.
    """
    if len(missing) > sum(value is not None for value in row.values()):
        return []
    numbers = {name: columns.encoder.numbers[name] for name in missing if name in columns.encoder.numbers}
    rows: list[Row] = [{**row, name: value} for name, knots in numbers.items() for value in sorted({*knots[::_STEP]})]
    rows += [{**row, name: value} for name in missing for value in columns.encoder.categories.get(name, ())]
    for end in (0, -1):
        rows.append({**row, **{name: knots[end] for name, knots in numbers.items()}})
    return rows
