"""Figures of the points of series, from the verdicts on their windows: VUS-PR, and F1 by points and by events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from agent.core.records import Series, Verdict
from agent.data.read_options import ReadOptions
from agent.data.series_choice import load_series
from agent.data.series_windows import Run, find_period, labelled, read_ranges, runs_of
from agent.training.series_metrics import ranges_of, vus_pr
from retrieval.arrays import Bools, Floats, Ints


@dataclass
class SeriesVerdicts:
    """The windows of a file that were judged: by key, where they begin and end, their probability, and their label."""

    by_key: dict[str, list[tuple[float, float, float, bool]]] = field(default_factory=dict)

    def add(self, verdict: Verdict) -> None:
        """Add a verdict; nothing if its record is no window of a series."""
        series = verdict.record.series
        if series is not None:
            begins, ends = span_of(series)
            place = (begins, ends, verdict.probability, verdict.leans == "anomalous")
            self.by_key.setdefault(series.key, []).append(place)

    def figures(
        self, options: ReadOptions, path: str | Path, max_chars: int, notify: Callable[[str], None] | None = None
    ) -> dict[str, float | None]:
        """``vus_pr``, ``point_f1`` and ``event_f1`` of a file; the means of its series that have points of both labels.

        Empty if no window was judged, or the file cannot be read again.
        """
        assert options.series is not None or not self.by_key
        if not self.by_key or options.series is None or str(path) == "-":
            return {}
        ranges = None if options.series.ranges is None else read_ranges(options.series.ranges, str(path))
        series, _ = load_series(options, path, max_chars)
        volumes, counts = list[float](), np.zeros(6, np.int64)
        for points in series:
            for run in runs_of(points, options.series.window or len(points.times))[0]:
                run = run if ranges is None else labelled(run, ranges)
                truth = run.anomalous == 1
                score, predicted = self._of_points(run)
                counts += _counts(truth, predicted)
                volume = vus_pr(truth, score, find_period(run.values[:, 0]) or options.series.window or 100)
                volumes += [] if volume is None else [volume]
        if notify and not volumes:
            notify("no series has points of both labels: VUS-PR is not defined")
        hit, wrong, missed, found, alarms, lost = counts.tolist()
        return {
            "vus_pr": float(np.mean(volumes)) if volumes else None,
            "point_f1": _f1(hit, wrong, missed),
            "event_f1": _f1(found, alarms, lost),
        }

    def _of_points(self, run: Run) -> tuple[Floats, Bools]:
        """Mean probability of the windows over each point, and whether most of them are anomalous."""
        sums, votes, counts = (np.zeros(len(run.values) + 1) for _ in range(3))
        for begins, ends, probability, is_anomalous in self.by_key.get(run.series.key, ()):
            first, last = (round((time - run.begins) / run.step) for time in (begins, ends))
            if last <= 0 or first >= len(run.values):
                continue
            for sum_, value in ((sums, probability), (votes, float(is_anomalous)), (counts, 1.0)):
                sum_[max(first, 0)] += value
                sum_[min(last, len(run.values))] -= value
        sums, votes, counts = (np.cumsum(array)[:-1] for array in (sums, votes, counts))
        return sums / np.maximum(counts, 1), (votes * 2 >= counts) & (votes > 0.5)


def span_of(series: Series) -> tuple[float, float]:
    """When a window begins, and when the point after its last one would be."""
    begins = series.begins or 0.0
    return begins, begins + series.step * len(series)


def _counts(truth: Bools, predicted: Bools) -> Ints:
    """True and false positives and false negatives, of points and of events.

    An event is a range of labelled points; it is found if one of its points is predicted. A range of predicted points
    without a labelled one is a false alarm.
    """
    events, alarms = ranges_of(truth), ranges_of(predicted)
    found = sum(bool(predicted[a : b + 1].any()) for a, b in zip(*events, strict=True))
    false = sum(not truth[a : b + 1].any() for a, b in zip(*alarms, strict=True))
    points = [(truth & predicted).sum(), (predicted & ~truth).sum(), (truth & ~predicted).sum()]
    return np.array([*points, found, false, len(events.first) - found], np.int64)


def _f1(hit: int, wrong: int, missed: int) -> float:
    return 2 * hit / (2 * hit + wrong + missed) if hit else 0.0
