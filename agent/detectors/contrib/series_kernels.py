"""How far windows of a series are from its normal part: by the nearest window, by the calendar, and by a forecast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, NamedTuple, Protocol, Self

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from agent.detectors.contrib.series_arrays import TO_DEVIATION, Stretch, Windows, subsequences
from retrieval.arrays import Bools, Floats, Ints

# windows of the normal part that others are compared with; windows compared at once
_MOST_SUBSEQUENCES, _BLOCK = 4_000, 512
# standard deviation below which a window has no shape
_FLAT = 1e-3
_DAY, _SHORTEST_SLOT = 86_400.0, 900.0
_QUANTILES = (0.05, 0.5, 0.95)
# rows of a forecast that are fitted to, and the lags of one
_MOST_ROWS, _MOST_LAGS = 50_000, 24
# of residuals in standard deviations: less is rounding
_LEAST_SPREAD = 1e-3


class Finding(NamedTuple):
    """Where in a window a score comes from.

    ``point`` and ``column`` are its place, ``usual`` standardised values: from and to, or what was forecast;
    ``nearest`` is the time where the nearest normal window begins.
    """

    point: int = 0
    column: int = 0
    usual: tuple[float, ...] = ()
    nearest: float | None = None


class Kernel(Protocol):
    """Scores windows by a normal part; higher is more anomalous."""

    kind: ClassVar[str]

    @classmethod
    def fit(cls, stretches: Sequence[Stretch], points: int, *, has_calendar: bool) -> Self | None:
        """Fitted to the normal part; None where that tells nothing."""
        ...

    def scores(self, windows: Windows, zone: float = 0.0) -> Floats:
        """Scores of n windows, shape (n,), compared with nothing that begins less than ``zone`` seconds away."""
        ...

    def finding(self, window: Windows, zone: float = 0.0) -> Finding:
        """What makes the score of a single window."""
        ...

    def state(self) -> dict[str, Any]:
        """As arrays, see `from_state`."""
        ...

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The kernel that `state` gave ``state`` of."""
        ...


@dataclass(frozen=True)
class NearestWindow(Kernel):
    """Root mean square difference to the nearest window of the normal part: its discords (Keogh et al. 2005)."""

    kind: ClassVar[str] = "collective"
    reference: Windows

    @classmethod
    def fit(cls, stretches: Sequence[Stretch], points: int, *, has_calendar: bool) -> Self | None:
        """See `Kernel.fit`."""
        del has_calendar
        return cls(subsequences(stretches, points, _MOST_SUBSEQUENCES))

    @staticmethod
    def prepared(values: Floats) -> Floats:
        """Windows as vectors: shape (n, points, columns) to (n, points * columns)."""
        return values.reshape(len(values), -1)

    def scores(self, windows: Windows, zone: float = 0.0) -> Floats:
        """See `Kernel.scores`."""
        return self._nearest(windows, zone)[0]

    def finding(self, window: Windows, zone: float = 0.0) -> Finding:
        """See `Kernel.finding`: the point that differs most from the nearest window."""
        _, nearest = self._nearest(window, zone)
        if nearest[0] < 0:
            return Finding()
        values, other = (x.values[:1] for x in (window, self.reference.part(nearest)))
        difference = np.abs(self.prepared(values) - self.prepared(other)).reshape(window.values.shape[1:])
        point, column = np.unravel_index(int(difference.argmax()), difference.shape)
        return Finding(int(point), int(column), (), float(self.reference.begins[nearest[0]]))

    def _nearest(self, windows: Windows, zone: float) -> tuple[Floats, Any]:
        """Distance and index of each window's nearest, -1 where there is none outside the zone."""
        points, x = self.prepared(self.reference.values), self.prepared(windows.values)
        norms, out, index = (points**2).sum(axis=1), np.zeros(len(x)), np.full(len(x), -1)
        for start in range(0, len(x), _BLOCK):
            rows = slice(start, start + _BLOCK)
            squared = norms - 2 * x[rows] @ points.T + (x[rows] ** 2).sum(axis=1)[:, None]
            if zone > 0:
                squared[
                    too_near(windows.part(np.arange(len(x))[rows]), self.reference.begins, self.reference.keys, zone)
                ] = np.inf
            index[rows], out[rows] = squared.argmin(axis=1), squared.min(axis=1)
        index = np.where(np.isfinite(out), index, -1)
        return np.sqrt(np.where(np.isfinite(out), np.maximum(out, 0.0), 0.0) / x.shape[1]), index

    def state(self) -> dict[str, Any]:
        """See `Kernel.state`."""
        reference = self.reference
        return {
            "values": reference.values.astype(np.float32),
            "begins": reference.begins,
            "steps": reference.steps,
            "keys": reference.keys,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """See `Kernel.from_state`."""
        return cls(Windows(state["values"].astype(np.float64), state["begins"], state["steps"], state["keys"]))


def too_near(windows: Windows, begins: Floats, keys: Ints, zone: float) -> Bools:
    """Which of m others n windows are not compared with: shape (n, m).

    Those that begin within the zone: of all series, because what happens to one often happens to others at that time,
    but only of the same series where there is nothing else.
    """
    near = np.abs(windows.begins[:, None] - begins) < zone
    alone = near.all(axis=1)
    near[alone] &= windows.keys[alone, None] == keys
    return near


@dataclass(frozen=True)
class NearestShape(NearestWindow):
    """As `NearestWindow`, of windows without their level and amplitude (z-normalised)."""

    @staticmethod
    def prepared(values: Floats) -> Floats:
        """Windows as z-normalised vectors; a flat one is 0."""
        centred = values - values.mean(axis=1, keepdims=True)
        spread = values.std(axis=1, keepdims=True)
        return np.where(spread > _FLAT, centred / np.maximum(spread, _FLAT), 0.0).reshape(len(values), -1)


@dataclass(frozen=True)
class Calendar(Kernel):
    """Mean distance from what is usual at the time of day, on working days and weekends apart, or on the weekday.

    Attributes
    ----------
    usual : shape (slots, 3, columns)
        Quantiles of the normal part at 5, 50 and 95 %.
    slot : float
        Seconds of a slot.
    """

    kind: ClassVar[str] = "contextual"
    usual: Floats
    slot: float

    @classmethod
    def fit(cls, stretches: Sequence[Stretch], points: int, *, has_calendar: bool) -> Self | None:
        """See `Kernel.fit`; it takes three days, or three weeks of days."""
        del points
        if not has_calendar or not stretches:
            return None
        step = max(stretch.step for stretch in stretches)
        slot = max(_SHORTEST_SLOT, _DAY / max(1, _DAY // step)) if step < _DAY / 4 else _DAY
        span = sum(stretch.step * len(stretch.values) for stretch in stretches)
        if span < (3 * _DAY if slot < _DAY else 21 * _DAY) or step > _DAY:
            return None
        values = np.concatenate([stretch.values for stretch in stretches])
        times = np.concatenate([s.begins + s.step * np.arange(len(s.values)) for s in stretches])
        slots = cls._slots(times, slot)
        everywhere = np.quantile(values, _QUANTILES, axis=0)
        usual = np.repeat(everywhere[None], _slot_count(slot), axis=0)
        order = np.argsort(slots, kind="stable")
        for part in np.split(order, np.flatnonzero(np.diff(slots[order])) + 1):
            if len(part) >= 3:
                usual[slots[part[0]]] = np.quantile(values[part], _QUANTILES, axis=0)
        return cls(usual, slot)

    @staticmethod
    def _slots(times: Floats, slot: float) -> Any:
        # 1 January 1970 was a Thursday
        weekday = (times // _DAY + 3).astype(np.int64) % 7
        if slot >= _DAY:
            return weekday
        return (times % _DAY // slot).astype(np.int64) + (weekday >= 5) * int(np.ceil(_DAY / slot))

    def _deviations(self, windows: Windows) -> Floats:
        """Distances of all values from the usual ones: shape (n, points, columns)."""
        times = windows.begins[:, None] + windows.steps[:, None] * np.arange(windows.values.shape[1])
        return np.asarray(np.abs(windows.values - self.usual[self._slots(times, self.slot), 1]))

    def scores(self, windows: Windows, zone: float = 0.0) -> Floats:
        """See `Kernel.scores`; one window hardly moves the quantiles of its slots, so the zone does not matter."""
        return np.asarray(self._deviations(windows).mean(axis=(1, 2)))

    def finding(self, window: Windows, zone: float = 0.0) -> Finding:
        """See `Kernel.finding`."""
        usual = self.usual[self._slots(window.times(0), self.slot)]
        outside = np.maximum(window.values[0] - usual[:, 2], usual[:, 0] - window.values[0])
        point, column = np.unravel_index(int(outside.argmax()), outside.shape)
        return Finding(int(point), int(column), (float(usual[point, 0, column]), float(usual[point, 2, column])))

    def state(self) -> dict[str, Any]:
        """See `Kernel.state`."""
        return {"usual": self.usual, "slot": np.float64(self.slot)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """See `Kernel.from_state`."""
        return cls(state["usual"], float(state["slot"]))


def _slot_count(slot: float) -> int:
    return 7 if slot >= _DAY else 2 * int(np.ceil(_DAY / slot))


def spell_moment(seconds: float, step: float, slot: float | None = None) -> str:
    """A time as exact as the ``step`` of a series; as weekday and time of day where a ``slot`` of these matters."""
    moment = datetime.fromtimestamp(round(seconds, 6), UTC)
    if slot is None:
        return f"{moment:%Y-%m-%d %H:%M:%S}" if step >= 1 else f"{moment:%Y-%m-%d %H:%M:%S.%f}"
    return f"{moment:%A}" if slot >= _DAY else f"{moment:%H:%M on a %A}"


@dataclass(frozen=True)
class Forecast(Kernel):
    """The greatest residual of a ridge regression on the points before (lags), in robust standard deviations.

    Attributes
    ----------
    weights : shape (lags + 1,)
        The last is the constant.
    spread : shape (columns,)
        Of the normal part's residuals.
    """

    kind: ClassVar[str] = "point"
    weights: Floats
    spread: Floats

    @classmethod
    def fit(cls, stretches: Sequence[Stretch], points: int, *, has_calendar: bool) -> Self | None:
        """See `Kernel.fit`."""
        from sklearn.linear_model import Ridge

        del has_calendar
        lags = max(1, min(_MOST_LAGS, points // 4))
        rows = np.concatenate([sliding_window_view(s.values, lags + 1, axis=0) for s in stretches])
        every = rows[:: max(1, len(rows) * rows.shape[1] // _MOST_ROWS)]
        flat = every.reshape(-1, lags + 1)
        fitted = Ridge(alpha=1.0).fit(flat[:, :-1], flat[:, -1])
        weights = np.append(fitted.coef_, fitted.intercept_)
        residuals = every[:, :, -1] - every[:, :, :-1] @ weights[:-1] - weights[-1]
        spread = TO_DEVIATION * np.median(np.abs(residuals), axis=0)
        # series that often stay the same have a median of 0
        return cls(weights, np.maximum(spread, np.maximum(0.1 * residuals.std(axis=0), _LEAST_SPREAD)))

    def _residuals(self, windows: Windows) -> Floats:
        """Shape (n, points - lags, columns)."""
        rows = sliding_window_view(windows.values, len(self.weights), axis=1)
        return np.asarray(rows[..., -1] - rows[..., :-1] @ self.weights[:-1] - self.weights[-1])

    def scores(self, windows: Windows, zone: float = 0.0) -> Floats:
        """See `Kernel.scores`; a few weights are fitted to all points, so the zone does not matter."""
        return np.asarray(np.abs(self._residuals(windows) / self.spread).max(axis=(1, 2)))

    def finding(self, window: Windows, zone: float = 0.0) -> Finding:
        """See `Kernel.finding`."""
        residuals = self._residuals(window)[0]
        at, column = np.unravel_index(int(np.abs(residuals / self.spread).argmax()), residuals.shape)
        point = int(at) + len(self.weights) - 1
        forecast = float(window.values[0, point, column] - residuals[at, column])
        return Finding(point, int(column), (forecast,))

    def state(self) -> dict[str, Any]:
        """See `Kernel.state`."""
        return {"weights": self.weights, "spread": self.spread}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """See `Kernel.from_state`."""
        return cls(state["weights"], state["spread"])
