"""The matrix profile of the normal part, and its join with other windows, by stumpy (the extra [timeseries])."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from agent.detectors.contrib.series_arrays import Stretch, Windows
from agent.detectors.contrib.series_kernels import Finding, Kernel, too_near
from retrieval.arrays import Floats, Ints

# points of the normal part that are kept, the latest ones: each window is compared with all of them
_MOST_POINTS = 50_000


@dataclass(frozen=True)
class MatrixProfile(Kernel):
    """z-normalised distance to the nearest window of the normal part at any place (MASS; Yeh et al. 2016).

    Attributes
    ----------
    values : shape (n, columns)
        The stretches of the normal part, a row of NaN after each.
    times : shape (n,)
    keys : shape (n,)
    """

    kind: ClassVar[str] = "collective"
    values: Floats
    times: Floats
    keys: Ints

    @classmethod
    def fit(cls, stretches: Sequence[Stretch], points: int, *, has_calendar: bool) -> Self | None:
        """See `Kernel.fit`."""
        del has_calendar, points
        gap = np.full((1, stretches[0].values.shape[1]), np.nan)
        values = np.concatenate([part for stretch in stretches for part in (stretch.values, gap)])
        times = np.concatenate([s.begins + s.step * np.arange(len(s.values) + 1) for s in stretches])
        keys = np.concatenate([np.full(len(stretch.values) + 1, stretch.key) for stretch in stretches])
        return cls(values[-_MOST_POINTS:], times[-_MOST_POINTS:], keys[-_MOST_POINTS:])

    def scores(self, windows: Windows, zone: float = 0.0) -> Floats:
        """See `Kernel.scores`."""
        return np.array([self._nearest(windows.part(np.array([i])), zone)[0] for i in range(len(windows))])

    def finding(self, window: Windows, zone: float = 0.0) -> Finding:
        """See `Kernel.finding`."""
        distance, nearest = self._nearest(window, zone)
        if not distance or nearest < 0:
            return Finding()
        points = window.values.shape[1]
        difference = np.abs(_shape(window.values[0]) - _shape(self.values[nearest : nearest + points]))
        point, column = np.unravel_index(int(difference.argmax()), difference.shape)
        return Finding(int(point), int(column), (), float(self.times[nearest]))

    def _nearest(self, window: Windows, zone: float) -> tuple[float, int]:
        """Distance of one window to the nearest place, the mean of the columns, and that place; -1 if there is none."""
        import stumpy

        profiles = [
            stumpy.mass(np.ascontiguousarray(of_window), np.ascontiguousarray(of_normal)).astype(np.float64)
            for of_window, of_normal in zip(window.values[0].T, self.values.T, strict=True)
        ]
        profile = np.mean(profiles, axis=0)
        if zone > 0:
            profile[too_near(window, self.times[: len(profile)], self.keys[: len(profile)], zone)[0]] = np.inf
        place = int(profile.argmin())
        return (float(profile[place]), place) if np.isfinite(profile[place]) else (0.0, -1)

    def state(self) -> dict[str, Any]:
        """See `Kernel.state`."""
        return {"values": self.values, "times": self.times, "keys": self.keys}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """See `Kernel.from_state`."""
        return cls(state["values"], state["times"], state["keys"])


def _shape(values: Floats) -> Floats:
    return np.asarray((values - values.mean(axis=0)) / np.maximum(values.std(axis=0), 1e-9))
