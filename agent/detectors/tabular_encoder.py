"""Rows of fields as matrices: numbers as they are, categories one-hot and by how rare their value is."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.encoding.field_encoder import FieldEncoder, FieldValue, value_if_absent

# trees compute in single precision
_HUGE = 1e30
# with no more numbers than these, trees are given each pair's ratio, which they cannot make themselves
_PAIRED = 10
Row = Mapping[str, FieldValue]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TabularEncoder:
    """``space`` names the numbers and the common categories; ``shares``: how common each value is among the cases."""

    space: FieldEncoder
    shares: dict[str, dict[str, float]]

    @classmethod
    def fit(cls, rows: Sequence[Row]) -> TabularEncoder:
        space = FieldEncoder.fit(rows)
        shares = {}
        for name in space.categories:
            values = Counter(str(row[name]) for row in rows if row.get(name) is not None)
            shares[name] = {value: count / (values.total() + 1) for value, count in values.items()}
        return cls(space, shares)

    def numbers(self, rows: Sequence[Row]) -> Floats:
        """Shape (n, numbers); what is missing is NaN, an event that did not occur was counted 0 times."""
        absent = {name: value_if_absent(name) for name in self.space.numbers}
        out = np.full((len(rows), len(absent)), math.nan)
        for i, row in enumerate(rows):
            for j, (name, default) in enumerate(absent.items()):
                value = row.get(name, default)
                if value is not None and not isinstance(value, str):
                    out[i, j] = value
        return np.asarray(np.clip(out, -_HUGE, _HUGE))

    def categories(self, rows: Sequence[Row]) -> tuple[Floats, Floats]:
        """One-hot columns of the common values and of missing ones; for each category -log of its value's share."""
        hot = [np.zeros((len(rows), 0))]
        surprise = np.zeros((len(rows), len(self.shares)))
        for j, (name, share) in enumerate(self.shares.items()):
            common = {value: k for k, value in enumerate(self.space.categories[name])}
            rarest = min(share.values()) / 2
            mine = np.zeros((len(rows), len(common) + 1))
            for i, row in enumerate(rows):
                value = row.get(name)
                if value is None:
                    mine[i, -1] = 1.0
                    continue
                surprise[i, j] = -math.log(share.get(str(value), rarest))
                if str(value) in common:
                    mine[i, common[str(value)]] = 1.0
            hot.append(mine)
        return np.hstack(hot), surprise

    def matrix(self, rows: Sequence[Row]) -> Floats:
        """All of it, as trees are given it: numbers, log ratios of their pairs, categories."""
        x = self.numbers(rows)
        ratios = np.zeros((len(rows), 0))
        if x.shape[1] <= _PAIRED:
            logs = signed_log(x)
            pairs = [logs[:, i] - logs[:, j] for i in range(x.shape[1]) for j in range(i)]
            ratios = np.stack(pairs, axis=1) if pairs else ratios
        return np.hstack([x, ratios, *self.categories(rows)])

    def to_json(self) -> dict[str, Any]:
        return {"space": self.space.to_json(), "shares": self.shares}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TabularEncoder:
        return cls(FieldEncoder.from_json(data["space"]), data["shares"])


def signed_log(x: Floats) -> Floats:
    """log(1 + |x|) with the sign of x: sizes by their order of magnitude."""
    return np.asarray(np.sign(x) * np.log1p(np.abs(x)))
