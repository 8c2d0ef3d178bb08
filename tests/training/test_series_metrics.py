"""VUS-PR by hand, and its properties."""

from __future__ import annotations

import numpy as np
import pytest

from agent.training.series_metrics import margins, vus_pr


def test_margins_fall_with_the_root_of_the_distance() -> None:
    truth = np.array([0, 0, 0, 1, 1, 0, 0, 0], bool)
    assert margins(truth, 4) == pytest.approx([0, np.sqrt(0.5), np.sqrt(0.75), 1, 1, np.sqrt(0.75), np.sqrt(0.5), 0])
    assert margins(truth, 1) == pytest.approx(truth.astype(float))


def test_one_range_without_margins_is_average_precision() -> None:
    """Window 0: the labels as they are. Precision is 1, 1/2, 2/3, 2/4 and recall 1/2, 1/2, 1, 1 from the top."""
    truth, score = np.array([1, 0, 1, 0], bool), np.array([4.0, 3, 2, 1])
    # two ranges: with the first of them found alone, recall is halved by the share of ranges found (1/2)
    assert vus_pr(truth, score, 0) == pytest.approx(0.25 * 1 + 0.75 * 2 / 3)
    truth = np.array([0, 1, 1, 0], bool)
    assert vus_pr(truth, np.array([0.0, 4, 2, 3]), 0) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_a_margin_of_one_point_by_hand() -> None:
    """Window 2: one point on each side has the label sqrt(1/2).

    The highest score is in the margin: predicted 1, positives sqrt(1/2), recall sqrt(1/2) / (1 + sqrt(1/2) / 2).
    Then the range itself: positives 1 + sqrt(1/2) of 2. Recall is at most 1.
    """
    truth, score, root = np.array([0, 0, 1, 0, 0], bool), np.array([0.0, 0, 1, 2, 0]), np.sqrt(0.5)
    first = root / (1 + root / 2)
    second = min((1 + root) / (1 + root / 2), 1)
    widest = first * root + (second - first) * (1 + root) / 2
    # windows 0 and 1 have no margins: precision 1/2 where the range is found
    assert vus_pr(truth, score, 2) == pytest.approx((0.5 + 0.5 + widest) / 3)


def test_a_perfect_score_is_nearly_one_and_chance_is_the_share() -> None:
    truth = np.zeros(2_000, bool)
    truth[500:600] = truth[1_500:1_600] = True
    assert vus_pr(truth, margins(truth, 40), 40) == pytest.approx(1, abs=0.02)
    by_chance = vus_pr(truth, np.random.default_rng(1).random(2_000), 40)
    assert by_chance is not None
    assert by_chance < 0.2
    assert vus_pr(np.zeros(5, bool), np.arange(5.0), 2) is None
    assert vus_pr(np.ones(5, bool), np.arange(5.0), 2) is None
