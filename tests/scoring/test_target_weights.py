"""Weights of cases with which they are as novel as a batch."""

from __future__ import annotations

import numpy as np

from agent.scoring.target_weights import target_weights


def test_weighted_cases_are_spread_like_the_batch() -> None:
    rng = np.random.default_rng(1)
    cases, batch = rng.normal(0, 1, 3_000), rng.normal(1, 1, 1_000)
    weights = target_weights(cases, batch)
    assert weights is not None
    assert abs(np.average(cases, weights=weights) - batch.mean()) < 0.3
    assert weights.min() >= 0.25
    assert weights.max() <= 4.0
    # the order of the batch does not matter
    assert (target_weights(cases, batch[::-1]) == weights).all()


def test_a_batch_like_the_cases_and_a_small_one_give_no_weights() -> None:
    rng = np.random.default_rng(2)
    cases = rng.normal(0, 1, 3_000)
    assert target_weights(cases, rng.normal(0, 1, 1_000)) is None
    assert target_weights(cases, np.full(29, 3.0)) is None
    assert target_weights(cases[:29], np.full(100, 3.0)) is None
    assert target_weights(np.zeros(100), np.zeros(100)) is None
    assert target_weights(np.zeros(0), np.zeros(0)) is None
