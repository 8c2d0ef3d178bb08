"""Fields to vectors, so that tables and sessions have precedents too.

Text embeddings of numbers are weak. Here each number becomes its quantile `u` among the cases, placed at the
angle πu/2 of a quarter circle, and each category one axis of its own; the cosine of two vectors is then the
mean agreement over the fields that both have: 1 for equal, 0 for opposite ends or other categories.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.masking import kind_of_event

FieldValue = float | str | bool | None
_KNOTS = 33
MOST_CATEGORIES = 24
_COLUMNS = 256
_HUGE = 1e300


def features(fields: Mapping[str, FieldValue], events: Sequence[str] = ()) -> dict[str, FieldValue]:
    """What a record can be compared by: its fields and, for a session, how often each masked event occurs."""
    if not events:
        return dict(fields)
    counts = Counter(kind_of_event(event) for event in events)
    return {
        **fields,
        "events": float(len(events)),
        "kinds of event": float(len(counts)),
        **{f"count of {event}": float(count) for event, count in counts.items()},
    }


@dataclass(frozen=True)
class FieldSpace:
    """The axes: quantile knots (33 values, ascending) of each number, the known values of each category.

    ``absent`` is what a missing column means: 0 for event counts, missing for anything else.
    """

    numbers: dict[str, tuple[float, ...]]
    categories: dict[str, tuple[str, ...]]
    fitted_on: int

    @classmethod
    def fit(cls, rows: Sequence[Mapping[str, FieldValue]]) -> FieldSpace:
        """Axes from the cases' features, ``len(rows)`` of them; at most 256 columns, the most filled first."""
        filled: Counter[str] = Counter(name for row in rows for name, value in row.items() if value is not None)
        numbers: dict[str, tuple[float, ...]] = {}
        categories: dict[str, tuple[str, ...]] = {}
        for name, _ in sorted(filled.items(), key=lambda item: (-item[1], item[0]))[:_COLUMNS]:
            values = [row.get(name) for row in rows]
            present = [value for value in values if value is not None]
            numeric = [float(value) for value in present if not isinstance(value, str)]
            if len(numeric) * 2 > len(present) and not all(isinstance(value, bool) for value in present):
                if name.startswith("count of "):
                    numeric += [0.0] * (len(rows) - len(present))
                # the difference of two knots must not overflow
                grid = np.quantile(np.clip(numeric, -_HUGE, _HUGE), np.linspace(0, 1, _KNOTS))
                numbers[name] = tuple(float(knot) for knot in grid)
            else:
                common = Counter(str(value) for value in present)
                ranked = sorted(common.items(), key=lambda item: (-item[1], item[0]))
                if len(ranked) <= len(present) // 2 or len(present) < 8:
                    categories[name] = tuple(value for value, _ in ranked[:MOST_CATEGORIES])
        return cls(numbers, categories, len(rows))

    @property
    def dimensions(self) -> int:
        return max(1, 2 * len(self.numbers) + sum(len(known) + 1 for known in self.categories.values()))

    def quantile(self, name: str, value: float) -> float:
        """Where a value lies among the cases, 0 to 1; ties in the middle of their range."""
        knots = np.asarray(self.numbers[name])
        if knots[0] == knots[-1]:
            return 0.5 if value == knots[0] else float(value > knots[0])
        low = np.searchsorted(knots, value, side="left")
        high = np.searchsorted(knots, value, side="right")
        if low < high:
            return float((low + high - 1) / 2 / (len(knots) - 1))
        if low == 0 or low == len(knots):
            return 0.0 if low == 0 else 1.0
        below, above = knots[low - 1], knots[low]
        return float((low - 1 + (value - below) / (above - below)) / (len(knots) - 1))

    def vector(self, row: Mapping[str, FieldValue]) -> NDArray[np.float32]:
        """One row's unit vector, shape ``(dimensions,)``."""
        out = np.zeros(self.dimensions, dtype=np.float32)
        at = 0
        for name in self.numbers:
            value = row.get(name, 0.0 if name.startswith("count of ") else None)
            if value is not None and not isinstance(value, str):
                angle = self.quantile(name, float(value)) * np.pi / 2
                out[at], out[at + 1] = np.cos(angle), np.sin(angle)
            at += 2
        for name, known in self.categories.items():
            value = row.get(name)
            if value is not None:
                text = str(value)
                out[at + (known.index(text) if text in known else len(known))] = 1.0
            at += len(known) + 1
        norm = float(np.linalg.norm(out))
        return out / np.float32(norm) if norm else out

    def to_json(self) -> dict[str, Any]:
        return {"numbers": self.numbers, "categories": self.categories, "fitted_on": self.fitted_on}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> FieldSpace:
        return cls(
            {name: tuple(knots) for name, knots in data["numbers"].items()},
            {name: tuple(known) for name, known in data["categories"].items()},
            data["fitted_on"],
        )
