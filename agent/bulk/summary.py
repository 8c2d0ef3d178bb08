"""What a bulk run found: how many, which templates are anomalous, where they were first and last seen, and when."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from agent.core.records import Verdict

LABELS = ("normal", "anomalous", "unsure")
_PARTS = 16


class Seen(BaseModel):
    """A place in the input, and the time of the record there."""

    file: str
    line: int
    time: str | None = None

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" + (f" ({self.time})" if self.time else "")


class Group(BaseModel):
    """Records with one verdict that is not normal; ``verdict`` is that of the first."""

    template: str
    verdict: Verdict
    count: int
    first: Seen
    last: Seen


class Span(BaseModel):
    """Some lines after another, and how many of them have each label."""

    start: Seen
    counts: dict[str, int]


class Summary(BaseModel):
    """``blank``: lines that are no records; ``far``: records far from every case; ``degraded``: records whose
    verdicts lack a witness, ``lacking``: why, and how many; ``templates``: verdicts given; ``asked``: answers of the
    language model.
    """

    source: str
    counts: dict[str, int] = dict.fromkeys(LABELS, 0)
    blank: int = 0
    far: int = 0
    degraded: int = 0
    lacking: dict[str, int] = {}
    templates: int = 0
    asked: int = 0
    seconds: float = 0.0
    groups: dict[str, Group] = {}
    spans: list[Span] = []

    @property
    def records(self) -> int:
        return sum(self.counts.values())

    def ranked(self, label: str) -> list[Group]:
        """The groups of a label, those with most records first."""
        mine = [group for group in self.groups.values() if group.verdict.label == label]
        return sorted(mine, key=lambda group: (-group.count, -group.verdict.probability, group.template))

    def add(
        self,
        file: str,
        lines: NDArray[np.int64],
        labels: NDArray[np.int8],
        slots: NDArray[np.int32],
        verdict_of: Callable[[int], tuple[str, Verdict]],
        times_of: Callable[[NDArray[np.int64]], list[str | None]],
    ) -> None:
        """Of n records in order: their line numbers, the places of their labels in `LABELS`, their slots.

        ``verdict_of``: a slot's template and verdict; ``times_of``: the times of records at some places.
        """
        if not len(lines):
            return
        for label, count in zip(LABELS, np.bincount(labels, minlength=len(LABELS)).tolist(), strict=True):
            self.counts[label] += count
        parts = np.array_split(np.arange(len(lines)), min(_PARTS, len(lines)))
        odd = np.flatnonzero(labels != 0)
        found, first, count = np.unique(slots[odd], return_index=True, return_counts=True)
        last = len(odd) - 1 - np.unique(slots[odd][::-1], return_index=True)[1]
        places = np.unique(np.concatenate([[part[0] for part in parts], odd[first], odd[last]]).astype(np.int64))
        seen = {
            place: Seen(file=file, line=int(lines[place]), time=time)
            for place, time in zip(places.tolist(), times_of(places), strict=True)
        }
        for part in parts:
            counts = np.bincount(labels[part], minlength=len(LABELS)).tolist()
            self.spans.append(Span(start=seen[int(part[0])], counts=dict(zip(LABELS, counts, strict=True))))
        for slot, begin, end, times in zip(found.tolist(), odd[first], odd[last], count.tolist(), strict=True):
            template, verdict = verdict_of(slot)
            begun, ended = seen[int(begin)], seen[int(end)]
            group = self.groups.get(template)
            if group is None:
                self.groups[template] = Group(template=template, verdict=verdict, count=times, first=begun, last=ended)
            else:
                group.count, group.last = group.count + times, ended

    def lack(self, verdict: Verdict, count: int) -> None:
        """So many records with this verdict, which may lack a witness."""
        self.degraded += count * bool(verdict.degraded)
        for why in verdict.degraded:
            self.lacking[why] = self.lacking.get(why, 0) + count

    def told(self) -> str:
        """One line."""
        labels = ", ".join(f"{self.counts[label]:,} {label}" for label in ("anomalous", "unsure", "normal"))
        times = "once" if self.asked == 1 else f"{self.asked:,} times"
        asked = f", the language model was asked {times}" if self.asked else ""
        rate = f" ({self.records / self.seconds:,.0f} a second)" if self.seconds else ""
        return f"{self.records:,} records in {self.seconds:.1f} s{rate}: {labels}; {self.templates:,} verdicts{asked}"
