"""A series as its own reference: how far each of its windows is from all others that are not near it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from agent.core.records import Record, Series
from agent.data.readers import RowError
from agent.data.series_windows import Run, windows_of_run
from agent.detectors.contrib.series_detector import ENSEMBLE
from agent.detectors.contrib.series_kernels import Kernel
from agent.detectors.contrib.series_model import SeriesModel, spread_over_points
from retrieval.arrays import Floats

# windows that begin within the points of one, and windows of all series at most
_OVERLAP, _MOST_WINDOWS = 8, 20_000


class Place(NamedTuple):
    """Where a window is: the number of its run, and its first point there."""

    run: int
    start: int


@dataclass(frozen=True)
class OwnScores:
    """The windows of a file's series, compared with each other.

    Attributes
    ----------
    model : SeriesModel
        Fitted to all of them: no part is known to be normal.
    records : list of Record
    places : list of Place
    scores : shape (n,)
        NaN for a window that is not compared.
    step : int
        Points from one window's first to the next one's.
    """

    model: SeriesModel
    records: list[Record]
    places: list[Place]
    scores: Floats
    step: int

    def of_points(self, run: int, points: int) -> Floats:
        """Scores of the points of a run: the mean of the windows over each, shape (points,)."""
        here = [i for i, place in enumerate(self.places) if place.run == run and not np.isnan(self.scores[i])]
        starts = np.array([self.places[i].start for i in here], np.int64)
        return spread_over_points(self.scores[here], starts, self.model.scale.points, points)

    def facts(self, index: int) -> tuple[str, ...]:
        """What is unusual in a window."""
        series = _series(self.records[index])
        of_kernels = self.model.kernel_scores(self.model.scale.windows([series]), self.model.zone)
        return self.model.facts(series, of_kernels[:, 0], self.model.zone, "windows")


def own_scores(
    runs: Sequence[Run], size: int, keys: tuple[str, ...] = (), kernels: Sequence[type[Kernel]] = ENSEMBLE
) -> OwnScores | None:
    """The scores of the windows of ``size`` points; None where there are too few to compare."""
    total = sum(max(0, len(run.values) - size + 1) for run in runs)
    step = max(1, size // _OVERLAP, -(-total // _MOST_WINDOWS))
    records, places = list[Record](), list[Place]()
    for number, run in enumerate(runs):
        if len(run.values) < size:
            continue
        for item in windows_of_run(run, size, step, keys):
            if not isinstance(item, RowError):
                series = _series(item.record)
                records.append(item.record)
                places.append(Place(number, round(((series.begins or 0.0) - run.begins) / run.step)))
    fitted = SeriesModel.fit([_series(record) for record in records], kernels)
    return None if fitted is None else OwnScores(fitted[0], records, places, fitted[1], step)


def _series(record: Record) -> Series:
    assert record.series is not None
    return record.series
