"""The population stability index: how far the recent values of a field have moved from those of the cases."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from agent.core.records import Verdict
from retrieval.casebook import SourceSnapshot
from retrieval.encoding.field_encoder import MOST_CATEGORIES, features, value_if_absent

# by chance alone, the index times this is over 32 for one field in 20,000 (chi-squared, seven degrees of freedom)
_ENOUGH_VALUES = 128
_KNOTS_A_BIN = 4


def field_psi(row: SourceSnapshot, verdicts: Sequence[Verdict]) -> dict[str, float]:
    """Population stability index of each field with enough values, the largest first."""
    field_encoder = row.representation.field_encoder if row.representation else None
    if field_encoder is None:
        return {}
    rows = [features(verdict.record.fields, verdict.record.events) for verdict in verdicts]
    moved = {}
    for name in (*field_encoder.numbers, *field_encoder.categories):
        column = [row_features.get(name, value_if_absent(name)) for row_features in rows]
        values = [value for value in column if value is not None]
        if len(values) < _ENOUGH_VALUES:
            continue
        if name in field_encoder.numbers:
            numbers = [float(value) for value in values if not isinstance(value, str)]
            moved[name] = number_psi(np.asarray(field_encoder.numbers[name]), np.asarray(numbers))
        elif len(known := field_encoder.categories[name]) < MOST_CATEGORIES:
            unseen = sum(str(value) not in known for value in values)
            moved[name] = psi([len(values) - unseen, unseen], [field_encoder.fitted_on, 0])
    return dict(sorted(moved.items(), key=lambda item: -item[1]))


def number_psi(knots: NDArray[np.float64], values: NDArray[np.float64]) -> float:
    """Population stability index of ``values``, shape (n,), over bins that end at every fourth quantile knot.

    Equally many cases lie between any two knots. A value with several knots has a bin of its own, with the cases up to
    the next knot; a bin without cases may hold as many as lie between two knots.
    """
    tied = np.r_[False, knots[1:] == knots[:-1]]
    every = knots[_KNOTS_A_BIN:-1:_KNOTS_A_BIN]
    ends = np.unique(np.r_[every, np.nextafter(every[np.isin(every, knots[tied])], -np.inf)])
    cases = np.where(tied[:-1], knots[:-1], (knots[:-1] + knots[1:]) / 2)
    observed, expected = (
        np.bincount(np.searchsorted(ends, x, side="left"), minlength=len(ends) + 1) for x in (values, cases)
    )
    shares = np.where(expected == 0, np.minimum(observed / len(values), 1 / len(cases)), expected / len(cases))
    return psi(observed, shares * len(values))


def psi(observed: ArrayLike, expected: ArrayLike) -> float:
    """Population stability index of two histograms.

    Parameters
    ----------
    observed, expected : array_like of shape (n_bins,)
        Counts; half a record is added to each, so that no bin is empty.
    """
    p, q = ((np.asarray(counts) + 0.5) / (np.sum(counts) + 0.5 * np.size(counts)) for counts in (observed, expected))
    return float(np.sum((p - q) * np.log(p / q)))
