"""Fields to vectors, so that tables and sessions have precedents too.

Text embeddings of numbers are weak. Here each number becomes its quantile u among the cases, placed at the angle πu/2
of a quarter circle, and each category an axis; the cosine of two vectors is then the mean agreement over the fields
that both have: 1 for equal values, 0 for opposite ends or different categories.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.encoding.field_columns import FieldColumns, FieldValue
from retrieval.lru_cache import cached
from retrieval.text.masking import kind_of_event

__all__ = ["EVENTS", "EVENT_KINDS", "EventCount", "FieldEncoder", "FieldValue", "features", "value_if_absent"]

_KNOTS = 33
MOST_CATEGORIES = 24
_COLUMNS = 256
# values from which on a column of which most differ has no categories
_FEWEST_VALUES = 8
_HUGE = 1e300
_EVENT_COUNT = "count of "
# features of a session beside the counts of its events
EVENTS, EVENT_KINDS = "events", "kinds of event"


class EventCount(str):
    """Name of a feature: how often an event occurs in a session. Never equal to a column of the same name."""

    __slots__ = ()

    def __new__(cls, event: str) -> EventCount:
        """The name of the feature that counts ``event``."""
        return super().__new__(cls, f"{_EVENT_COUNT}{event}")

    def __getnewargs__(self) -> tuple[str]:
        return (self.event,)

    @property
    def event(self) -> str:
        """The masked event that is counted."""
        return self.removeprefix(_EVENT_COUNT)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EventCount) and str.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__


_event_count = cached(65_536)(EventCount)


def value_if_absent(name: str) -> float | None:
    """What a feature is in a record that lacks it: 0 for event counts, missing (None) for columns."""
    return 0.0 if isinstance(name, EventCount) else None


def features(fields: Mapping[str, FieldValue], events: Sequence[str] = ()) -> dict[str, FieldValue]:
    """The record's fields and, for a session, the counts of its events by kind."""
    if not events:
        return dict(fields)
    counts = Counter(kind_of_event(event) for event in events)
    return {
        **fields,
        EVENTS: float(len(events)),
        EVENT_KINDS: float(len(counts)),
        **{_event_count(event): float(count) for event, count in counts.items()},
    }


def are_compared(distinct: int, filled: int) -> bool:
    """Whether a column with so many ``distinct`` ones among its ``filled`` values has categories to compare."""
    return distinct <= filled // 2 or filled < _FEWEST_VALUES


@dataclass(frozen=True)
class FieldEncoder:
    """The axes: quantile knots (33 values, ascending) of each number, the known values of each category.

    A missing event count is 0; any other missing column adds nothing to the vector.
    """

    numbers: dict[str, tuple[float, ...]]
    categories: dict[str, tuple[str, ...]]
    fitted_on: int

    @classmethod
    def fit(cls, rows: Sequence[Mapping[str, FieldValue]]) -> FieldEncoder:
        """Axes from the features of cases; at most 256 columns, the most filled first."""
        filled: Counter[str] = Counter(name for row in rows for name, value in row.items() if value is not None)
        numbers: dict[str, tuple[float, ...]] = {}
        categories: dict[str, tuple[str, ...]] = {}
        for name, _ in sorted(filled.items(), key=lambda item: (-item[1], item[0]))[:_COLUMNS]:
            values = [row.get(name) for row in rows]
            present = [value for value in values if value is not None]
            numeric = [float(value) for value in present if not isinstance(value, str)]
            if len(numeric) * 2 > len(present) and not all(isinstance(value, bool) for value in present):
                if isinstance(name, EventCount):
                    numeric += [0.0] * (len(rows) - len(present))
                # the difference of two knots must not overflow
                grid = np.quantile(np.clip(numeric, -_HUGE, _HUGE), np.linspace(0, 1, _KNOTS))
                numbers[name] = tuple(float(knot) for knot in grid)
            else:
                common = Counter(str(value) for value in present)
                ranked = sorted(common.items(), key=lambda item: (-item[1], item[0]))
                if are_compared(len(ranked), len(present)):
                    categories[name] = tuple(value for value, _ in ranked[:MOST_CATEGORIES])
        return cls(numbers, categories, len(rows))

    @property
    def dimensions(self) -> int:
        """The length of a vector."""
        return max(1, 2 * len(self.numbers) + sum(len(known) + 1 for known in self.categories.values()))

    @cached_property
    def _knots(self) -> dict[str, NDArray[np.float64]]:
        return {name: np.asarray(knots, dtype=np.float64) for name, knots in self.numbers.items()}

    @cached_property
    def _ends(self) -> dict[str, NDArray[np.int64]]:
        """For each knot, the place after the last one that is equal to it."""
        return {name: np.searchsorted(knots, knots, side="right") for name, knots in self._knots.items()}

    def quantile(self, name: str, value: float) -> float:
        """The quantile of a value among the cases, 0 to 1; the middle of their range for ties."""
        return float(self.quantiles(name, np.array([value]))[0])

    def quantiles(self, name: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """As `quantile`, of n values: shape ``(n,)`` to shape ``(n,)``."""
        knots = self._knots[name]
        last = len(knots) - 1
        if knots[0] == knots[-1]:
            return np.asarray(np.where(values == knots[0], 0.5, values > knots[0]))
        low = np.searchsorted(knots, values)
        # values that are no knot have as many knots above them as not below
        high = np.where(knots[np.minimum(low, last)] == values, self._ends[name][np.minimum(low, last)], low)
        above = np.clip(low, 1, last)
        # right between two knots; not used elsewhere
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            between = above - 1 + (values - knots[above - 1]) / (knots[above] - knots[above - 1])
        ends = np.where(low == 0, 0, last)
        inside = (low > 0) & (low <= last)
        return np.asarray(np.where(low < high, (low + high - 1) / 2, np.where(inside, between, ends)) / last)

    @cached_property
    def _is_ascending(self) -> dict[str, bool]:
        return {name: bool((np.diff(knots) > 0).all()) and len(knots) > 1 for name, knots in self._knots.items()}

    def _interpolated(self, name: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """As `quantiles`, where no two knots are equal, in a third of the time."""
        knots = self._knots[name]
        return np.interp(values, knots, np.linspace(0, 1, len(knots)))

    def vector(self, row: Mapping[str, FieldValue]) -> NDArray[np.float32]:
        """The unit vector of one row, shape ``(dimensions,)``."""
        return np.asarray(self.vectors([row])[0])

    def vectors(self, rows: Sequence[Mapping[str, FieldValue]]) -> NDArray[np.float32]:
        """Unit vectors of n rows, shape ``(n, dimensions)``; each is independent of the others."""
        return self.encode(FieldColumns.of(rows))

    def encode(self, columns: FieldColumns, *, roughly: bool = False) -> NDArray[np.float32]:
        """As `vectors`, of the columns of n rows.

        ``roughly``: in less time, with components that are off by up to 1e-6.
        """
        precision = np.float32 if roughly else np.float64
        out = np.zeros((self.dimensions, len(columns)), dtype=np.float32)
        at = 0
        for name in self.numbers:
            numbers = columns.numbers(name, value_if_absent(name))
            missing = np.isnan(numbers)
            filled = np.flatnonzero(~missing) if missing.any() else slice(None)
            quantiles = self._interpolated if roughly and self._is_ascending[name] else self.quantiles
            angles = (quantiles(name, numbers[filled]) * np.pi / 2).astype(precision, copy=False)
            out[at, filled], out[at + 1, filled] = np.cos(angles), np.sin(angles)
            at += 2
        for name, known in self.categories.items():
            places = {value: at + place for place, value in enumerate(known)}
            at += len(known) + 1
            codes, words = columns[name].written
            filled = np.flatnonzero(codes >= 0)
            axes = np.array([places.get(word, at - 1) for word in words], np.int64)
            out[axes[codes[filled]], filled] = 1.0
        vectors = np.ascontiguousarray(out.T)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.where(norms > 0, norms, np.float32(1)), dtype=np.float32)

    def to_json(self) -> dict[str, Any]:
        """As plain data, for the store."""
        numbers = [(name, isinstance(name, EventCount), knots) for name, knots in self.numbers.items()]
        return {"numbers": numbers, "categories": self.categories, "fitted_on": self.fitted_on}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> FieldEncoder:
        """The reverse of `to_json`."""
        numbers = data["numbers"]
        if isinstance(numbers, Mapping):
            # stored before event counts had a type: only sessions have counts of events
            sessions = EVENT_KINDS in numbers
            numbers = [(name, sessions and name.startswith(_EVENT_COUNT), numbers[name]) for name in numbers]
        return cls(
            {
                EventCount(name.removeprefix(_EVENT_COUNT)) if counted else name: tuple(knots)
                for name, counted, knots in numbers
            },
            {name: tuple(known) for name, known in data["categories"].items()},
            data["fitted_on"],
        )
