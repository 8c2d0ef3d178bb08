"""Windows of series as arrays: on one scale, put together to stretches, and cut to subsequences."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from agent.core.records import Series
from agent.data.series_windows import fill_gaps
from retrieval.arrays import Floats, Ints

# from a median absolute deviation to a standard deviation
TO_DEVIATION = 1.4826
# a spread below this share of the values is rounding; standardised values of which the size no longer matters; how
# much distances from point to point may differ that are one sampling
_ROUNDING, _LARGEST, _SAME_STEP = 1e-12, 1e6, 0.05
# the share of a window's values that straight lines may stand for, where it is no larger in so many of those learned
_MOST_MISSING, _USUAL_SHARE = 0.25, 0.95


@dataclass(frozen=True)
class Windows:
    """Equally long windows.

    Attributes
    ----------
    values : shape (n, points, columns)
        Standardised, gaps filled.
    begins, steps : shape (n,)
        In seconds.
    keys : shape (n,)
        Number of each window's series in the `Scale`; 0 is any other.
    has_calendar : bool
        Whether the times are those of a calendar.
    """

    values: Floats
    begins: Floats
    steps: Floats
    keys: Ints
    has_calendar: bool = True

    def __len__(self) -> int:
        return len(self.values)

    def times(self, index: int) -> Floats:
        """Times of a window's points, shape (points,)."""
        return np.asarray(self.begins[index] + self.steps[index] * np.arange(self.values.shape[1]))

    def part(self, at: Ints) -> Windows:
        """Some of the windows."""
        return replace(self, values=self.values[at], begins=self.begins[at], steps=self.steps[at], keys=self.keys[at])


@dataclass(frozen=True)
class Scale:
    """The columns of a source's series, and centre and spread of each by key.

    Parameters
    ----------
    points : int
        Of a window.
    names : tuple of str
    keys : tuple of str
        The first, "", is for those that were not learned.
    centre, spread : shape (keys, columns)
    has_calendar : bool
    steps : tuple of float
        Distances from point to point of the windows, ascending; empty if they are not known.
    missing : tuple of float
        By column, how many of a window's values may be missing; empty if that is not known.
    """

    points: int
    names: tuple[str, ...]
    keys: tuple[str, ...]
    centre: Floats
    spread: Floats
    has_calendar: bool
    steps: tuple[float, ...] = ()
    missing: tuple[float, ...] = ()

    @classmethod
    def fit(cls, series: Sequence[Series]) -> Scale:
        """The scale of normal windows, of which the commonest length and columns count."""
        forms = [(len(window), tuple(window.values)) for window in series]
        points, names = max(set(forms), key=lambda form: (forms.count(form), form))
        fitting = [window for window, form in zip(series, forms, strict=True) if form == (points, names)]
        keys = ("", *sorted({window.key for window in fitting if window.key}))
        values = [np.array([window.values[name] for name in names], np.float64).T for window in fitting]
        centres, spreads = [], []
        for key in keys:
            of_key = np.concatenate([v for v, window in zip(values, fitting, strict=True) if key in ("", window.key)])
            centre, spread = robust_scale(of_key)
            centres.append(centre)
            spreads.append(spread)
        calendar = sum(window.has_calendar for window in fitting) * 2 > len(fitting)
        steps = tuple(sorted({window.step for window in fitting}))
        empty = np.array([[window.values[name].count(None) for name in names] for window in fitting])
        # a few windows with an outage are not what is usual
        usual = np.quantile(empty, _USUAL_SHARE, axis=0, method="higher")
        missing = tuple(np.maximum(usual, _MOST_MISSING * points).tolist())
        return cls(points, names, keys, np.array(centres), np.array(spreads), calendar, steps, missing)

    def problem(self, series: Series) -> str | None:
        """Why a window cannot be compared, None if it can."""
        if missing := [name for name in self.names if name not in series.values]:
            return f"the window has no values of {', '.join(missing[:5])}"
        if len(series) != self.points:
            return f"a window of {len(series)} points; those learned have {self.points}"
        if series.has_calendar != self.has_calendar:
            return "its times are not of the kind of those learned"
        if self.steps and not any(abs(series.step - step) <= _SAME_STEP * step for step in self.steps):
            learned = ", ".join(f"{step:g}" for step in self.steps[:3])
            unit = " s" if self.has_calendar else ""
            return f"points every {series.step:g}{unit}; those learned are {learned}{unit} apart"
        return None

    def gap(self, series: Series) -> str | None:
        """Which column of a window lacks so many values that straight lines would be judged, None if none does."""
        for name, most in zip(self.names, self.missing, strict=False):
            if (empty := series.values[name].count(None)) > most:
                return f"{empty} of {self.points} values of {name} are missing"
        return None

    def is_of_another(self, series: Series) -> bool:
        """Whether series of several keys were learned, and none of this window's."""
        return len(self.keys) > 1 and series.key not in self.keys[1:]

    def windows(self, series: Sequence[Series]) -> Windows:
        """Windows without a `problem` as arrays."""
        raw = np.array([[window.values[name] for name in self.names] for window in series], np.float64)
        raw = raw.reshape(len(series), len(self.names), self.points).transpose(0, 2, 1)
        number = {key: index for index, key in enumerate(self.keys)}
        keys = np.array([number.get(window.key, 0) for window in series], np.int64)
        with np.errstate(over="ignore"):
            values = (raw - self.centre[keys][:, None]) / self.spread[keys][:, None]
        values = np.clip(values, -_LARGEST, _LARGEST)
        filled = np.array([fill_gaps(window) for window in values]).reshape(values.shape)
        begins = np.array([window.begins or 0.0 for window in series])
        return Windows(filled, begins, np.array([window.step for window in series]), keys, self.has_calendar)

    def raw(self, value: float, key: int, column: int) -> float:
        """A standardised value as it was measured."""
        return float(value * self.spread[key, column] + self.centre[key, column])

    def state(self) -> dict[str, Any]:
        """As arrays, see `from_state`."""
        head = json.dumps([self.points, self.names, self.keys, self.has_calendar, self.steps, self.missing])
        return {"head": head, "centre": self.centre, "spread": self.spread}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Scale:
        """The scale that `state` gave ``state`` of."""
        # earlier versions did not store steps and what is missing
        points, names, keys, calendar, *learned = json.loads(str(state["head"]))
        further = map(tuple, learned)
        return cls(points, tuple(names), tuple(keys), state["centre"], state["spread"], calendar, *further)


def robust_scale(values: Floats) -> tuple[Floats, Floats]:
    """Median and spread of each column of n rows, NaN left out; the spread of a constant is its size, of zeros 1."""
    filled = np.where(np.isnan(values).all(axis=0), 0.0, values)
    size = np.nanmedian(np.abs(filled), axis=0)
    size = np.where(size > 0, size, np.minimum(np.nanmax(np.abs(filled), axis=0), np.sqrt(np.finfo(np.float64).max)))
    size = np.where(size > 0, size, 1.0)
    with np.errstate(over="ignore"):
        filled = np.clip(filled / size, -_LARGEST, _LARGEST)
    centre = np.nanmedian(filled, axis=0)
    spread = TO_DEVIATION * np.nanmedian(np.abs(filled - centre), axis=0)
    spread = np.where(spread > _ROUNDING, spread, np.nanstd(filled, axis=0))
    return centre * size, np.where(spread > _ROUNDING, spread, 1.0) * size


@dataclass(frozen=True)
class Stretch:
    """Consecutive points of one series: values of shape (n, columns), the time of the first, their distance."""

    values: Floats
    begins: float
    step: float
    key: int


def stretches_of(windows: Windows) -> list[Stretch]:
    """Windows of one step put together; where windows of a key overlap or follow each other they are one stretch."""
    stretches, points = [], windows.values.shape[1]
    for key in np.unique(windows.keys):
        step = float(np.median(windows.steps[windows.keys == key]))
        order = np.flatnonzero((windows.keys == key) & (np.abs(windows.steps - step) < 0.01 * step))
        order = order[np.argsort(windows.begins[order], kind="stable")]
        places = np.round((windows.begins[order] - windows.begins[order[0]]) / step).astype(np.int64)
        for part in np.split(np.arange(len(order)), np.flatnonzero(np.diff(places) > points) + 1):
            index = places[part] - places[part[0]]
            values = np.empty((int(index[-1]) + points, windows.values.shape[2]))
            for window, start in zip(windows.values[order[part]], index, strict=True):
                values[start : start + points] = window
            stretches.append(Stretch(values, float(windows.begins[order[part[0]]]), step, int(key)))
    return stretches


def subsequences(stretches: Sequence[Stretch], points: int, most: int) -> Windows:
    """All windows of the stretches, or about ``most`` of them at equal distances."""
    total = sum(len(stretch.values) - points + 1 for stretch in stretches)
    every = max(1, -(-total // most))
    values, begins, steps, keys = [], [], [], []
    for stretch in stretches:
        view = sliding_window_view(stretch.values, points, axis=0)[::every]
        values.append(view.transpose(0, 2, 1))
        begins.append(stretch.begins + stretch.step * every * np.arange(len(view)))
        steps.append(np.full(len(view), stretch.step))
        keys.append(np.full(len(view), stretch.key))
    return Windows(np.concatenate(values), np.concatenate(begins), np.concatenate(steps), np.concatenate(keys))
