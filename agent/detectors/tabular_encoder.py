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

from retrieval.arrays import Floats
from retrieval.encoding.field_columns import FieldColumns, Row
from retrieval.encoding.field_encoder import FieldEncoder, value_if_absent

# trees compute in single precision
_HUGE = 1e30
# up to so many numbers, trees also get the ratio of each pair, which they cannot compute themselves
_MAX_PAIRED = 10


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

    def numbers(self, rows: FieldColumns) -> Floats:
        """Shape (n, numbers); a missing number is NaN, the count of an absent event is 0."""
        out = np.empty((len(self.encoder.numbers), len(rows)))
        for j, name in enumerate(self.encoder.numbers):
            out[j] = rows.numbers(name, value_if_absent(name))
        return np.ascontiguousarray(np.clip(out, -_HUGE, _HUGE).T)

    def categories(self, rows: FieldColumns) -> tuple[Floats, Floats]:
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
        everywhere = np.arange(len(rows))
        for j, (name, share) in enumerate(self.shares.items()):
            common = {value: k for k, value in enumerate(self.encoder.categories[name])}
            rarest = min(share.values()) / 2
            codes, words = rows[name].written
            # the last one is for missing values, whose code is -1; the last column is of values that are seldom
            rarity[:, j] = np.array([*(-math.log(share.get(word, rarest)) for word in words), 0.0])[codes]
            places = np.array([*(common.get(word, len(common) + 1) for word in words), len(common)])
            indicators = np.zeros((len(rows), len(common) + 2))
            indicators[everywhere, places[codes]] = 1.0
            one_hot.append(indicators[:, :-1])
        return np.hstack(one_hot), rarity

    def matrix(self, rows: FieldColumns) -> Floats:
        """What trees get, shape (n, columns): numbers, log ratios of their pairs, categories."""
        return self.joined(self.numbers(rows), *self.categories(rows))

    @staticmethod
    def joined(numbers: Floats, one_hot: Floats, rarity: Floats) -> Floats:
        """As `matrix`, of `numbers` and `categories`."""
        ratios = np.zeros((len(numbers), 0))
        if numbers.shape[1] <= _MAX_PAIRED:
            logs = signed_log(numbers)
            pairs = [logs[:, i] - logs[:, j] for i in range(numbers.shape[1]) for j in range(i)]
            ratios = np.stack(pairs, axis=1) if pairs else ratios
        return np.hstack([numbers, ratios, one_hot, rarity])

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
