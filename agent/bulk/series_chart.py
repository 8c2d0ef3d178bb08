"""The values of time series in a summary, and the windows that are not normal, for a chart of bounded size."""

from __future__ import annotations

from pydantic import BaseModel

from agent.core.records import Record, Series, Verdict, VerdictLabel

# parts of a chart before neighbours are merged, ranges that are drawn, and charts of a report
_PARTS, _RANGES, MOST_CHARTS = 1_200, 400, 8
WIDTH, HEIGHT = 1_000.0, 100.0


class Part(BaseModel):
    """The least and greatest value of some points, and when they begin and end, in seconds."""

    begins: float
    ends: float
    low: float
    high: float


class Range(BaseModel):
    """Windows of one label that follow each other, in seconds."""

    label: VerdictLabel
    begins: float
    ends: float
    text: str


class SeriesChart(BaseModel):
    """One column of one series."""

    name: str
    first: str
    last: str = ""
    parts: list[Part] = []
    ranges: list[Range] = []
    more: int = 0
    per_part: int = 1

    def add(self, series: Series, values: tuple[float | None, ...]) -> None:
        """Add a window, which may begin before the one before it ends."""
        begins = series.begins or 0.0
        self.last = series.start
        known = self.parts[-1].ends if self.parts else begins
        for start in range(0, len(values), self.per_part):
            at = begins + series.step * start
            chunk = [value for value in values[start : start + self.per_part] if value is not None]
            if chunk and at >= known - series.step / 2:
                end = at + series.step * self.per_part
                self.parts.append(Part(begins=at, ends=end, low=min(chunk), high=max(chunk)))
        while len(self.parts) > _PARTS:
            self.per_part *= 2
            self.parts = [_merged(self.parts[i : i + 2]) for i in range(0, len(self.parts), 2)]

    def mark(self, series: Series, label: VerdictLabel, text: str) -> None:
        """Mark a window that is not normal."""
        begins = series.begins or 0.0
        ends = begins + series.step * len(series)
        last = self.ranges[-1] if self.ranges else None
        if last and last.label == label and last.begins <= begins <= last.ends:
            last.ends = max(ends, last.ends)
        elif len(self.ranges) < _RANGES:
            self.ranges.append(Range(label=label, begins=begins, ends=ends, text=text))
        else:
            self.more += 1

    @property
    def spans(self) -> tuple[float, float, float, float]:
        """First and last time, least and greatest value."""
        low, high = min(part.low for part in self.parts), max(part.high for part in self.parts)
        first, last = self.parts[0].begins, max(part.ends for part in self.parts)
        return first, max(last, first + 1e-9), low, high if high > low else low + 1.0

    @property
    def outline(self) -> str:
        """The points of the polygon between least and greatest values."""
        first, last, low, high = self.spans
        upper, lower = [], []
        for part in self.parts:
            x = WIDTH * ((part.begins + part.ends) / 2 - first) / (last - first)
            # a line has a width of its own, also where both values are one
            upper.append(f"{x:.2f},{HEIGHT - HEIGHT * (part.high - low) / (high - low) - 0.4:.2f}")
            lower.append(f"{x:.2f},{HEIGHT - HEIGHT * (part.low - low) / (high - low) + 0.4:.2f}")
        return " ".join([*upper, *lower[::-1]])

    def place(self, found: Range) -> tuple[float, float]:
        """Left edge and width of a range."""
        first, last, _, _ = self.spans
        left = WIDTH * (found.begins - first) / (last - first)
        return max(0.0, left), max(1.0, min(WIDTH, WIDTH * (found.ends - first) / (last - first)) - left)


def _merged(parts: list[Part]) -> Part:
    low, high = min(part.low for part in parts), max(part.high for part in parts)
    return Part(begins=parts[0].begins, ends=parts[-1].ends, low=low, high=high)


def add_window(
    charts: dict[str, SeriesChart], record: Record, label: VerdictLabel = "normal", *, only_mark: bool = False
) -> None:
    """Add a window to the charts by file, key and column; nothing for other records.

    ``only_mark``: it is there already.
    """
    series = record.series
    if series is None:
        return
    for name, values in series.values.items():
        title = ": ".join(part for part in (record.file or "", series.key, name) if part)
        if title not in charts:
            if len(charts) >= MOST_CHARTS:
                continue
            charts[title] = SeriesChart(name=title, first=series.start)
        if not only_mark:
            charts[title].add(series, values)
        if label != "normal":
            charts[title].mark(series, label, f"{label}: {record.text}")


def group_name(verdict: Verdict) -> str:
    """What windows of a series that are not normal are grouped by: the kind of their first fact, and the day."""
    series = verdict.record.series
    assert series is not None
    facts = (fact.partition(":")[0] for fact in verdict.facts)
    kind = next((head for head in facts if head in ("collective", "contextual", "point")), "unusual")
    day = series.start[:10] if series.has_calendar else f"around {float(series.start):.2g}"
    return f"{kind}, {f'{series.key}, ' if series.key else ''}{day}"
