"""Weights of cases with which their out-of-fold signals are like those of a batch of records.

A batch that is less like the cases than these are like each other has more of the records that are hard to judge.
Importance weighting of the validation by how far each record is from what was learned (target-weighted
cross-validation; Brenning & Suesse 2026, arXiv 2603.29981), in bins, so that no weight is extreme.
"""

from __future__ import annotations

import numpy as np

from retrieval.arrays import Floats, Ints

_BINS, _FEWEST = 5, 30
# the greatest ratio of a bin's shares below which a batch is like the cases, and bounds of a weight
_LIKE, _BOUNDS = 2.0, (0.25, 4.0)


def target_weights(cases: Floats, batch: Floats) -> Floats | None:
    """The weight of each case; None if the batch is small, or like the cases.

    Parameters
    ----------
    cases, batch : shapes (n,) and (m,)
        How far each case and each record of the batch is from the (other) cases.

    Returns
    -------
    shape (n,) or None
    """
    if min(len(cases), len(batch)) < _FEWEST:
        return None
    edges = np.unique(np.quantile(np.r_[cases, batch], np.linspace(0, 1, _BINS + 1)[1:-1]))
    bin_of_case, bin_of_record = (np.searchsorted(edges, values, side="right") for values in (cases, batch))
    ratio = _shares(bin_of_record, len(edges) + 1) / _shares(bin_of_case, len(edges) + 1)
    return np.asarray(np.clip(ratio, *_BOUNDS)[bin_of_case]) if ratio.max() >= _LIKE else None


def _shares(bins: Ints, number: int) -> Floats:
    counts = np.bincount(bins, minlength=number) + 1
    return np.asarray(counts / counts.sum())
