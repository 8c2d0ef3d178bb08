"""Detectors of windows of time series: each a `SeriesModel` of some kernels, fitted to the normal windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, ClassVar, Self

import numpy as np

from agent.core.records import Series, Signal
from agent.detectors.base import SERIES, Detector, DetectorInput, Need, TrainingCase
from agent.detectors.contrib.series_kernels import Calendar, Forecast, Kernel, NearestShape, NearestWindow
from agent.detectors.contrib.series_model import SeriesModel
from agent.detectors.contrib.series_names import DEFAULT_OF_SERIES
from retrieval.arrays import Floats, Ints

ENSEMBLE: tuple[type[Kernel], ...] = (NearestWindow, NearestShape, Calendar, Forecast)


_KERNELS: Mapping[str, tuple[type[Kernel], ...]] = {
    DEFAULT_OF_SERIES: ENSEMBLE,
    "series_point": (Forecast,),
    "series_contextual": (Calendar,),
    "series_collective": (NearestWindow, NearestShape),
}


class SeriesDetector(Detector):
    """A model of normal windows; a subclass has its ``name`` and ``kernels``, see `detector`.

    Parameters
    ----------
    model : SeriesModel
    unseen : shape (n,), optional
        Log-odds of the cases that it was fitted to, each compared with the others only.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[Need]] = SERIES
    kernels: ClassVar[tuple[type[Kernel], ...]]

    def __init__(self, model: SeriesModel, unseen: Floats | None = None) -> None:
        self._model, self._unseen = model, unseen

    @classmethod
    def fit(cls, cases: Sequence[TrainingCase]) -> Self | None:
        """The detector fitted to the normal windows; None with fewer than ten."""
        series = [_series(case.input) for case in cases]
        normal = np.array([not case.anomalous for case in cases])
        fitted = SeriesModel.fit([series[index] for index in np.flatnonzero(normal).tolist()], cls.kernels)
        if fitted is None:
            return None
        model, scores = fitted
        detector = cls(model)
        unseen = np.full(len(cases), np.nan)
        unseen[normal] = model.log_odds(scores)
        # no anomalous window was fitted to
        others = [signal.log_odds for signal in detector.score([case.input for case in cases if case.anomalous])]
        unseen[~normal] = [np.nan if value is None else value for value in others]
        return cls(model, unseen)

    def out_of_fold(self, cases: Sequence[TrainingCase], folds: Ints) -> Floats:
        """See `Detector.out_of_fold`; a window is compared with no other near it, whatever its fold is."""
        del folds
        assert self._unseen is not None
        assert len(self._unseen) == len(cases)
        return self._unseen

    def score(self, records: Sequence[DetectorInput]) -> list[Signal]:
        """See `Scorer.score`."""
        out = [Signal() for _ in records]
        fitting = []
        for index, record in enumerate(records):
            series = record.record.series
            if series is None:
                continue
            if problem := self._model.scale.problem(series) or self._model.scale.gap(series):
                out[index] = Signal(degraded=problem)
            else:
                fitting.append((index, series))
        if not fitting:
            return out
        combined, of_kernels = self._model.scores([series for _, series in fitting])
        for (index, series), log_odds, row in zip(fitting, self._model.log_odds(combined), of_kernels.T, strict=True):
            facts, other = self._model.facts(series, row), self._model.scale.is_of_another(series)
            degraded = f"no series {series.key!r} was learned: compared with all others together" if other else None
            out[index] = Signal(log_odds=float(log_odds), facts=facts, degraded=degraded, truncated=other)
        return out

    def save(self) -> Mapping[str, Any]:
        """See `Detector.save`."""
        return self._model.state()

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> Self:
        """See `Detector.load`."""
        return cls(SeriesModel.from_state(state, cls.kernels))


def _series(record: DetectorInput) -> Series:
    series = record.record.series
    assert series is not None
    return series


def _kernels(name: str) -> tuple[type[Kernel], ...]:
    if name == "series_patch":
        from agent.detectors.contrib.series_patch import PatchReconstruction

        return (PatchReconstruction,)
    if name == "series_matrix":
        from agent.detectors.contrib.series_matrix import MatrixProfile

        return (MatrixProfile,)
    return _KERNELS[name]


@cache
def detector(name: str) -> type[SeriesDetector]:
    """The class of a detector of series by its name."""
    return type(f"Series_{name}", (SeriesDetector,), {"name": name, "kernels": _kernels(name)})
