"""Several kernels as one score of a window: how far it is from the normal part of its series, and in which way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from agent.core.records import Series
from agent.detectors.conformal import ConformalTail
from agent.detectors.contrib.series_arrays import Scale, Windows, stretches_of
from agent.detectors.contrib.series_facts import facts_of
from agent.detectors.contrib.series_kernels import Finding, Kernel
from retrieval.arrays import Floats, Ints

# normal windows at least; those whose scores are kept; how far from the usual scores one kernel may count
_FEWEST, _KEPT, _MOST = 10, 5_000, 20.0
# what differs by less, in standard deviations, is equal: the stored windows are of single precision
_NOISE = 1e-3
# around a window, so much of its series is not compared with it: a long anomaly would be its own precedent
_OWN_SHARE = 20
_SEED = 20_26


@dataclass(frozen=True)
class SeriesModel:
    """Kernels that are fitted to the normal part, and how their scores there are distributed.

    Attributes
    ----------
    kernels : tuple of Kernel
    usual : tuple of shape (m,)
        By kernel, its scores of normal windows, ascending; each window was compared with others only.
    tail : ConformalTail
        Of the combined scores of normal windows.
    zone, span : float
        Seconds around a window that are not compared with it while fitting; seconds of the normal part.
    """

    scale: Scale
    kernels: tuple[Kernel, ...]
    usual: tuple[Floats, ...]
    tail: ConformalTail
    zone: float
    span: float

    @classmethod
    def fit(cls, series: Sequence[Series], kernels: Sequence[type[Kernel]]) -> tuple[Self, Floats] | None:
        """Fit to normal windows; returns their combined scores as well, shape (n,), NaN for a window of another form.

        None with fewer than ten windows, or where no kernel can be fitted.
        """
        if not series:
            return None
        scale = Scale.fit(series)
        usable = np.flatnonzero([scale.problem(window) is None for window in series])
        if len(usable) < _FEWEST:
            return None
        windows = scale.windows([series[index] for index in usable.tolist()])
        stretches = stretches_of(windows)
        span = sum(stretch.step * len(stretch.values) for stretch in stretches)
        of_keys = {key: [item for item in stretches if item.key == key] for key in {item.key for item in stretches}}
        longest = max(sum(item.step * len(item.values) for item in items) for items in of_keys.values())
        zone = max(float(np.median(windows.steps)) * scale.points, longest / _OWN_SHARE)
        fitted = [kind.fit(stretches, scale.points, has_calendar=scale.has_calendar) for kind in kernels]
        used = tuple(kernel for kernel in fitted if kernel is not None)
        if not used:
            return None
        scores = np.array([kernel.scores(windows, zone) for kernel in used])
        kept = np.sort(np.random.default_rng(_SEED).permutation(len(usable))[:_KEPT])
        usual = tuple(np.sort(row[kept]) for row in scores)
        model = cls(scale, used, usual, ConformalTail(np.zeros(1)), zone, span)
        combined = model._combine(scores)
        model = cls(scale, used, usual, ConformalTail(np.sort(combined[kept])), zone, span)
        out = np.full(len(series), np.nan)
        out[usable] = combined
        return model, out

    def relative(self, scores: Floats) -> Floats:
        """Scores of k kernels, shape (k, n), in units of how much those of normal windows differ."""
        middle, upper = (np.array([[np.quantile(row, q)] for row in self.usual]) for q in (0.5, 0.9))
        return np.asarray(np.clip((scores - middle - _NOISE) / np.maximum(upper - middle, _NOISE), 0.0, _MOST))

    def _combine(self, scores: Floats) -> Floats:
        return np.asarray(np.round(self.relative(scores).mean(axis=0), 3))

    def kernel_scores(self, windows: Windows, zone: float = 0.0) -> Floats:
        """The scores of n windows by each of k kernels, shape (k, n)."""
        return np.array([kernel.scores(windows, zone) for kernel in self.kernels])

    def scores(self, series: Sequence[Series]) -> tuple[Floats, Floats]:
        """Combined scores of n windows without a problem, shape (n,), and those of the kernels, shape (k, n)."""
        of_kernels = self.kernel_scores(self.scale.windows(series))
        return self._combine(of_kernels), of_kernels

    def log_odds(self, scores: Floats) -> Floats:
        """Log-odds of combined scores, shape (n,)."""
        return self.tail.log_odds(scores)

    def facts(
        self, series: Series, of_kernels: Floats, zone: float = 0.0, others: str = "normal windows"
    ) -> tuple[str, ...]:
        """What is unusual in a window with these scores of the kernels, shape (k,); the most unusual first."""
        relative = self.relative(of_kernels[:, None])[:, 0]
        window = self.scale.windows([series])
        found = list[tuple[str, Finding, int, int]]()
        for index in np.argsort(-relative, kind="stable"):
            kernel, usual = self.kernels[index], self.usual[index]
            as_far = len(usual) - int(np.searchsorted(usual, of_kernels[index], side="left"))
            if relative[index] >= 1 and kernel.kind not in [kind for kind, *_ in found]:
                found.append((kernel.kind, kernel.finding(window, zone), as_far, len(usual)))
        return facts_of(series, self.scale, int(window.keys[0]), found, self.span, _slot_of(self.kernels), others)

    def state(self) -> dict[str, Any]:
        """As arrays, see `from_state`."""
        state = {f"scale.{name}": value for name, value in self.scale.state().items()}
        state |= {"tail": self.tail.values, "zone": np.float64(self.zone), "span": np.float64(self.span)}
        for number, (kernel, usual) in enumerate(zip(self.kernels, self.usual, strict=True)):
            state |= {f"{number}.of_normal": usual, f"{number}.class": type(kernel).__name__}
            state |= {f"{number}.{name}": value for name, value in kernel.state().items()}
        return state

    @classmethod
    def from_state(cls, state: Mapping[str, Any], kernels: Sequence[type[Kernel]]) -> Self:
        """The model that `state` gave ``state`` of; ``kernels`` are those that it may have."""
        by_name, parts = {kind.__name__: kind for kind in kernels}, dict[str, dict[str, Any]]()
        for name, value in state.items():
            head, _, rest = name.partition(".")
            if rest:
                parts.setdefault(head, {})[rest] = value
        scale = Scale.from_state(parts.pop("scale"))
        numbers = sorted(parts, key=int)
        return cls(
            scale,
            tuple(by_name[str(parts[number]["class"])].from_state(parts[number]) for number in numbers),
            tuple(parts[number]["of_normal"] for number in numbers),
            ConformalTail(state["tail"]),
            float(state["zone"]),
            float(state["span"]),
        )


def _slot_of(kernels: Sequence[Kernel]) -> float | None:
    return next((kernel.slot for kernel in kernels if hasattr(kernel, "slot")), None)


def spread_over_points(scores: Floats, starts: Ints, points: int, total: int) -> Floats:
    """Scores of windows as scores of ``total`` points: the mean of the windows over each, shape (total,)."""
    sums, counts = np.zeros(total + 1), np.zeros(total + 1)
    for score, start in zip(scores, starts, strict=True):
        sums[start] += score
        sums[min(start + points, total)] -= score
        counts[start] += 1
        counts[min(start + points, total)] -= 1
    covered = np.cumsum(counts)[:total]
    return np.asarray(np.where(covered > 0, np.cumsum(sums)[:total] / np.maximum(covered, 1), 0.0))
