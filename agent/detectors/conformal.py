"""Outlier scores of records of fields, learned from normal cases alone, as log-odds.

The share of normal cases with a score at least as large is a conformal p-value (Laxhammar & Falkman 2010; each case is
scored without itself), whose log-odds are the signal. The score of a row is its distance to the nearest normal row
(Ramaswamy, Rastogi & Shim 2000); sessions are scored in `agent.detectors.sequence`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from agent.detectors.tabular_encoder import TabularEncoder, signed_log
from retrieval.arrays import Bools, Floats, Ints
from retrieval.encoding.field_columns import FieldColumns

# p-value at even odds
ALPHA = 0.04
_LIMIT = 6.0
_MAX_POINTS, _BLOCK, _MAX_Z = 5_000, 256, 20.0
_DECIMALS = 9
_SEED = 20_26


@dataclass(frozen=True)
class ConformalTail:
    """-ln of the conformal p-value; beyond the largest normal value the tail is exponential.

    Parameters
    ----------
    values : shape (n,)
        Scores of normal cases, ascending.
    """

    values: Floats

    @classmethod
    def of(cls, values: Floats, times: Ints) -> ConformalTail:
        """The tail of ``values`` of n normal cases, each of which occurred so many ``times``: shapes (n,)."""
        return cls(np.sort(np.repeat(values, times)))

    @cached_property
    def _beyond(self) -> tuple[Floats, float]:
        """The values as they are compared, and the scale of the tail beyond them."""
        upper = np.quantile(self.values, 0.9)
        scale = max(float(np.mean(self.values[self.values >= upper] - upper)), 1e-3)
        return np.round(self.values, _DECIMALS), scale

    def __call__(self, x: Floats) -> Floats:
        """-ln p of n scores, shape (n,)."""
        (values, scale), n = self._beyond, len(self.values)
        # the rounding of sums and products depends on how many are computed at once, and equal scores are counted
        p = (1 + n - np.searchsorted(values, np.round(x, _DECIMALS), side="left")) / (n + 1)
        return np.asarray(-np.log(p) + np.maximum(x - self.values[-1], 0) / scale)

    def log_odds(self, x: Floats) -> Floats:
        """ln(ALPHA / p) of n scores within ±6, shape (n,)."""
        return np.clip(math.log(ALPHA) + self(x), -_LIMIT, _LIMIT)


@dataclass(frozen=True)
class ConformalNeighbours:
    """Distance to the nearest of up to 5,000 normal rows, in standardised signed logarithms; categories one-hot.

    Parameters
    ----------
    columns : TabularEncoder
    centre, scale : shape (numbers,)
        The scale is infinite for numbers that are not compared.
    points : shape (rows, dimensions)
    tail : ConformalTail
    """

    columns: TabularEncoder
    centre: Floats
    scale: Floats
    points: Floats
    tail: ConformalTail

    @classmethod
    def fit(
        cls, columns: TabularEncoder, rows: FieldColumns, times: Ints, compared: Bools
    ) -> tuple[ConformalNeighbours, Floats]:
        """Fit to n normal rows.

        Parameters
        ----------
        columns : TabularEncoder
        rows : FieldColumns of length n
        times : shape (n,)
            How often each row occurred.
        compared : shape (numbers,)
            Which numbers are compared.

        Returns
        -------
        ConformalNeighbours
        shape (n,)
            Log-odds of the rows, each without itself.
        """
        empty = cls.scaled(columns, rows)
        empty = replace(empty, scale=np.where(compared, empty.scale, np.inf))
        # rows that differ only in what is not compared, such as an id, would make each other's distance none
        place_of, points = dict[bytes, int](), empty.vectors(rows)
        # without the sign of zeros
        rounded = np.round(points, _DECIMALS) + 0.0
        of_row = np.array([place_of.setdefault(point.tobytes(), len(place_of)) for point in rounded])
        points = points[np.unique(of_row, return_index=True)[1]]
        times = np.bincount(of_row, times).astype(int)
        kept = np.random.default_rng(_SEED).permutation(len(points))[:_MAX_POINTS]
        itself = np.full(len(points), -1)
        itself[kept] = np.arange(len(kept))
        distances = _distances(points, points[kept], itself)
        fitted = cls(columns, empty.centre, empty.scale, points[kept], ConformalTail.of(distances, times))
        return fitted, fitted.tail.log_odds(distances)[of_row]

    @classmethod
    def scaled(cls, columns: TabularEncoder, rows: FieldColumns) -> ConformalNeighbours:
        """The scales of n normal rows alone, without a point."""
        logs = signed_log(columns.numbers(rows))
        filled = ~np.isnan(logs).all(axis=0)
        centre, scale = np.zeros(logs.shape[1]), np.ones(logs.shape[1])
        centre[filled], scale[filled] = np.nanmean(logs[:, filled], axis=0), np.nanstd(logs[:, filled], axis=0)
        return cls(columns, centre, np.where(scale < 1e-6, 1.0, scale), np.zeros((0, 0)), ConformalTail(np.zeros(1)))

    def log_odds(self, numbers: Floats, one_hot: Floats, rarity: Floats) -> Floats:
        """Log-odds of n rows, shape (n,), see `joined`."""
        points = self.joined(numbers, one_hot, rarity)
        return self.tail.log_odds(_distances(points, self.points, np.full(len(points), -1)))

    def vectors(self, rows: FieldColumns) -> Floats:
        """Standardised numbers, missing ones, and categories of n rows: shape (n, dimensions)."""
        return self.joined(self.columns.numbers(rows), *self.columns.categories(rows))

    def joined(self, numbers: Floats, one_hot: Floats, rarity: Floats) -> Floats:
        """As `vectors`, of what the columns' encoder gives."""
        z = np.clip((signed_log(numbers) - self.centre) / self.scale, -_MAX_Z, _MAX_Z)
        missing = np.isnan(z)
        # two values of a category are one standard deviation apart
        return np.hstack([np.where(missing, 0.0, z), missing, one_hot / math.sqrt(2), rarity / 3])

    def state(self) -> dict[str, Any]:
        """The detector without its columns as plain arrays, see `from_state`."""
        return {"centre": self.centre, "scale": self.scale, "points": self.points, "tail": self.tail.values}

    @classmethod
    def from_state(cls, columns: TabularEncoder, state: Mapping[str, Any]) -> ConformalNeighbours:
        """The detector that `state` gave ``state`` of."""
        return cls(columns, state["centre"], state["scale"], state["points"], ConformalTail(state["tail"]))


def _distances(x: Floats, points: Floats, itself: Ints) -> Floats:
    """Distances of the rows of x to the nearest point; ``itself``: the index of the point that a row is, or -1."""
    nearest, used = np.einsum("ij,ij->i", x, x), np.flatnonzero(points.any(axis=0))
    # |x - p|² is |x|² and the product of (x, 1) and (-2p, |p|²)
    # `take` needs a quarter of the time of an index
    rows = np.column_stack([x.take(used, axis=1), np.ones(len(x))])
    columns = np.column_stack([-2 * points[:, used], (points**2).sum(axis=1)]).T
    for start in range(0, len(x), _BLOCK):
        excluded = itself[start : start + _BLOCK]
        products = rows[start : start + _BLOCK] @ columns
        products[np.flatnonzero(excluded >= 0), excluded[excluded >= 0]] = np.inf
        nearest[start : start + _BLOCK] += products.min(axis=1)
    # equal rows differ by rounding; a single point has no other
    return np.sqrt(np.where((nearest < 1e-9) | np.isinf(nearest), 0.0, nearest))
