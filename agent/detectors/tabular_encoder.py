"""Rows of fields as matrices: numbers as they are, categories one-hot and by the rarity of their value.

scikit-learn's encoders have neither the rarity, nor event counts that are 0 where absent, nor a state without pickle.
"""

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
# up to so many numbers, trees also get the ratio of each pair, which they cannot compute themselves
_MAX_PAIRED = 10
Row = Mapping[str, FieldValue]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TabularEncoder:
    """The fitted encoder.

    Parameters
    ----------
    encoder : FieldEncoder
        Names the numbers and the common values of categories.
    shares : dict
        Of each category, the share of the cases that has each value.
    """

    encoder: FieldEncoder
    shares: dict[str, dict[str, float]]

    @classmethod
    def fit(cls, rows: Sequence[Row]) -> TabularEncoder:
        """Fit to the features of n cases."""
        encoder = FieldEncoder.fit(rows)
        shares = {}
        for name in encoder.categories:
            values = Counter(str(row[name]) for row in rows if row.get(name) is not None)
            shares[name] = {value: count / (values.total() + 1) for value, count in values.items()}
        return cls(encoder, shares)

    def numbers(self, rows: Sequence[Row]) -> Floats:
        """Shape (n, numbers); a missing number is NaN, the count of an absent event is 0."""
        absent = {name: value_if_absent(name) for name in self.encoder.numbers}
        out = np.full((len(rows), len(absent)), math.nan)
        for i, row in enumerate(rows):
            for j, (name, default) in enumerate(absent.items()):
                value = row.get(name, default)
                if value is not None and not isinstance(value, str):
                    out[i, j] = value
        return np.asarray(np.clip(out, -_HUGE, _HUGE))

    def categories(self, rows: Sequence[Row]) -> tuple[Floats, Floats]:
        """Indicators of n rows' categories, and how rare their values are.

        Returns
        -------
        shape (n, indicators)
            One-hot columns of the common values and of missing ones.
        shape (n, categories)
            -ln of the share of each value; 0 for a missing one.
        """
        one_hot = [np.zeros((len(rows), 0))]
        rarity = np.zeros((len(rows), len(self.shares)))
        for j, (name, share) in enumerate(self.shares.items()):
            common = {value: k for k, value in enumerate(self.encoder.categories[name])}
            rarest = min(share.values()) / 2
            indicators = np.zeros((len(rows), len(common) + 1))
            for i, row in enumerate(rows):
                value = row.get(name)
                if value is None:
                    indicators[i, -1] = 1.0
                    continue
                rarity[i, j] = -math.log(share.get(str(value), rarest))
                if str(value) in common:
                    indicators[i, common[str(value)]] = 1.0
            one_hot.append(indicators)
        return np.hstack(one_hot), rarity

    def matrix(self, rows: Sequence[Row]) -> Floats:
        """What trees get, shape (n, columns): numbers, log ratios of their pairs, categories."""
        x = self.numbers(rows)
        ratios = np.zeros((len(rows), 0))
        if x.shape[1] <= _MAX_PAIRED:
            logs = signed_log(x)
            pairs = [logs[:, i] - logs[:, j] for i in range(x.shape[1]) for j in range(i)]
            ratios = np.stack(pairs, axis=1) if pairs else ratios
        return np.hstack([x, ratios, *self.categories(rows)])

    def to_json(self) -> dict[str, Any]:
        """The encoder as plain values, see `from_json`."""
        return {"space": self.encoder.to_json(), "shares": self.shares}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TabularEncoder:
        """The encoder that `to_json` gave ``data`` of."""
        return cls(FieldEncoder.from_json(data["space"]), data["shares"])


def signed_log(x: Floats) -> Floats:
    """ln(1 + |x|) with the sign of x, of an array of any shape."""
    return np.asarray(np.sign(x) * np.log1p(np.abs(x)))
