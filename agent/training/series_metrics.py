"""How well scores of the points of a series find its anomalous ranges: VUS-PR, and F1 without point adjustment.

The labels of ranges are uncertain at their ends, and a score is often late by some points. The volume under the surface
(Paparrizos et al., VLDB 2022) gives points near a range a label between 0 and 1, and averages the area under the
precision-recall curve over all widths of these margins up to the length of a period.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from retrieval.arrays import Bools, Floats, Ints

# thresholds of a curve, as in the paper's code
_THRESHOLDS = 250


class Ranges(NamedTuple):
    """First and last index of each run of labelled points: shapes (k,)."""

    first: Ints
    last: Ints


def ranges_of(flags: Bools) -> Ranges:
    """The runs of n flags that are set.

    >>> first, last = ranges_of(np.array([True, False, True, True]))
    >>> first.tolist(), last.tolist()
    ([0, 2], [0, 3])
    """
    edges = np.diff(np.concatenate([[0], flags.astype(np.int8), [0]]))
    return Ranges(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) - 1)


def vus_pr(truth: Bools, score: Floats, window: int) -> float | None:
    """The volume under the precision-recall surface of n scores; None if all points have one label.

    Parameters
    ----------
    truth : shape (n,)
        Whether each point is in an anomalous range.
    score : shape (n,)
        Higher is more anomalous.
    window : int
        Points of the widest margin, half of it before and half after a range.
    """
    if not truth.any() or truth.all():
        return None
    order = np.argsort(-score, kind="stable")
    thresholds = score[order][np.linspace(0, len(score) - 1, _THRESHOLDS).astype(int)]
    predicted = len(score) - np.searchsorted(score[order[::-1]], thresholds, side="left")
    areas = []
    for width in range(window + 1):
        labels = margins(truth, width)
        positives = np.cumsum(labels[order])[predicted - 1]
        of_margins = np.cumsum(np.where(truth, 0.0, labels)[order])[predicted - 1]
        highest = _highest(truth, score, width)
        found = (highest[None, :] >= thresholds[:, None]).mean(axis=1)
        recall = np.minimum(positives / (truth.sum() + of_margins / 2), 1) * found
        areas.append(float(np.dot(np.diff(recall, prepend=0.0), positives / predicted)))
    return float(np.mean(areas))


def margins(truth: Bools, width: int) -> Floats:
    """The labels of n points with margins of ``width // 2`` points around each range, from 0 to 1."""
    labels, half = truth.astype(np.float64), width // 2
    for first, last in zip(*ranges_of(truth), strict=True):
        before, after = np.arange(max(first - half, 0), first), np.arange(last + 1, min(last + half + 1, len(truth)))
        labels[after] += np.sqrt(1 - (after - last) / max(width, 1))
        labels[before] += np.sqrt(1 - (first - before) / max(width, 1))
    return np.minimum(labels, 1.0)


def _highest(truth: Bools, score: Floats, width: int) -> Floats:
    """The highest score of each range with its margins; ranges whose margins overlap are one."""
    ranges, half = ranges_of(truth), width // 2
    apart = np.flatnonzero(ranges.last[:-1] + half < ranges.first[1:] - half)
    first = np.concatenate([ranges.first[:1], ranges.first[apart + 1]]) - half
    last = np.concatenate([ranges.last[apart], ranges.last[-1:]]) + half
    return np.array(
        [score[max(start, 0) : end + 1].max() for start, end in zip(first.tolist(), last.tolist(), strict=True)]
    )
