"""How odd a record of fields is, told from normal cases alone: the witness of what nobody has labelled yet.

A detector gives numbers that grow with oddness; how few normal cases have as large ones (a conformal p-value,
Laxhammar & Falkman 2010, each case being judged without itself) makes log-odds of them. Tables are compared by
the distance to the nearest normal case (Ramaswamy, Rastogi & Shim 2000), sessions as in `agent.detectors.sequence`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.detectors.tabular_encoder import Row, TabularEncoder, signed_log

# the share of normal cases that may seem as odd as the record when the odds are even
ALPHA = 0.02
_LIMIT = 6.0
_STORED, _BLOCK, _FAR = 5_000, 1_000, 20.0
_SEED = 20_26
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ConformalTail:
    """-log of the share of normal values at least as large; beyond the largest it grows on as an exponential does."""

    values: Floats
    """Ascending, shape (n,)."""

    @classmethod
    def of(cls, values: Floats, times: NDArray[np.int64]) -> ConformalTail:
        return cls(np.sort(np.repeat(values, times)))

    def __call__(self, x: Floats) -> Floats:
        n = len(self.values)
        p = (1 + n - np.searchsorted(self.values, x, side="left")) / (n + 1)
        upper = np.quantile(self.values, 0.9)
        scale = max(float(np.mean(self.values[self.values >= upper] - upper)), 1e-3)
        return np.asarray(-np.log(p) + np.maximum(x - self.values[-1], 0) / scale)

    def log_odds(self, x: Floats) -> Floats:
        """log(ALPHA / p) within ±6."""
        return np.clip(math.log(ALPHA) + self(x), -_LIMIT, _LIMIT)


@dataclass(frozen=True)
class ConformalNeighbours:
    """The distance to the nearest of up to 5,000 normal rows, in standardised signed logarithms; categories one-hot."""

    columns: TabularEncoder
    centre: Floats
    scale: Floats
    points: Floats
    tail: ConformalTail

    @classmethod
    def fit(
        cls, columns: TabularEncoder, rows: Sequence[Row], times: NDArray[np.int64]
    ) -> tuple[ConformalNeighbours, Floats]:
        """The detector, and the log-odds of the rows it is made of, each without itself."""
        logs = signed_log(columns.numbers(rows))
        filled = ~np.isnan(logs).all(axis=0)
        centre, scale = np.zeros(logs.shape[1]), np.ones(logs.shape[1])
        centre[filled], scale[filled] = np.nanmean(logs[:, filled], axis=0), np.nanstd(logs[:, filled], axis=0)
        bare = cls(columns, centre, np.where(scale < 1e-6, 1.0, scale), np.zeros((0, 0)), ConformalTail(np.zeros(1)))
        places = bare._places(rows)
        kept = np.random.default_rng(_SEED).permutation(len(places))[:_STORED]
        own = np.full(len(places), -1)
        own[kept] = np.arange(len(kept))
        distances = _distances(places, places[kept], own)
        fitted = cls(columns, bare.centre, bare.scale, places[kept], ConformalTail.of(distances, times))
        return fitted, fitted.tail.log_odds(distances)

    def log_odds(self, rows: Sequence[Row], sessions: Sequence[Sequence[str]]) -> Floats:
        places = self._places(rows)
        return self.tail.log_odds(_distances(places, self.points, np.full(len(places), -1)))

    def _places(self, rows: Sequence[Row]) -> Floats:
        z = np.clip((signed_log(self.columns.numbers(rows)) - self.centre) / self.scale, -_FAR, _FAR)
        gone = np.isnan(z)
        hot, surprise = self.columns.categories(rows)
        # two values of a category are as far apart as one standard deviation
        return np.hstack([np.where(gone, 0.0, z), gone, hot / math.sqrt(2), surprise / 3])

    def state(self) -> dict[str, Any]:
        """What `from_state` makes it of again, beside the columns."""
        return {"centre": self.centre, "scale": self.scale, "points": self.points, "tail": self.tail.values}

    @classmethod
    def from_state(cls, columns: TabularEncoder, state: Mapping[str, Any]) -> ConformalNeighbours:
        return cls(columns, state["centre"], state["scale"], state["points"], ConformalTail(state["tail"]))


def _distances(places: Floats, points: Floats, own: NDArray[np.int64]) -> Floats:
    """To the nearest point; ``own``: the point that the place itself is, -1 for none."""
    out = np.zeros(len(places))
    norms = (points**2).sum(axis=1)
    for at in range(0, len(places), _BLOCK):
        part, mine = places[at : at + _BLOCK], own[at : at + _BLOCK]
        squared = norms[None] - 2 * part @ points.T + (part**2).sum(axis=1)[:, None]
        squared[np.flatnonzero(mine >= 0), mine[mine >= 0]] = np.inf
        nearest = squared.min(axis=1)
        # rounding of the products would make equal rows a little different; the only point has no other
        out[at : at + _BLOCK] = np.sqrt(np.where((nearest < 1e-9) | np.isinf(nearest), 0.0, nearest))
    return out
