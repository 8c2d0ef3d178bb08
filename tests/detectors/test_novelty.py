"""How far a text must be from the normal cases before it is shown to be unlike them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from agent.detectors.novelty import is_beyond, is_unfamiliar, novelty_log_odds, undecided_novelty


@pytest.mark.parametrize("cases", [1, 20, 58])
def test_beyond_all_of_few_cases_shows_nothing(cases: int) -> None:
    farthest = novelty_log_odds(2.0, [0.1] * cases, cases)
    assert farthest is not None
    assert farthest <= undecided_novelty(cases, 0.05)


def test_of_59_cases_the_farthest_shows_it_and_the_second_does_not() -> None:
    second = math.log((1 - 2 / 61) / (2 / 61))
    assert undecided_novelty(59, 0.05) == pytest.approx(second)


@pytest.mark.parametrize("cases", [59, 120, 500])
def test_of_normal_records_few_are_decided_in_nearly_all_draws(cases: int) -> None:
    """In 95 of 100 draws of normal cases at most one in twenty new normal records is beyond what is decided."""
    rng = np.random.default_rng(cases)
    limit, wrong = undecided_novelty(cases, 0.05), 0
    for _ in range(400):
        reference = np.sort(rng.random(cases)).tolist()
        signals = [novelty_log_odds(x, reference, cases) or 0.0 for x in np.linspace(0, 1, 201)]
        wrong += np.mean([signal > limit + 1e-9 for signal in signals]) > 0.055
    assert wrong <= 400 * 0.07


def test_one_odd_case_does_not_make_other_records_familiar() -> None:
    """Of 201 quantiles the last is one case's; what is nearer than it and farther than the rest is not familiar."""
    reference = [*np.linspace(0.1, 0.5, 200).tolist(), 0.9]
    assert is_unfamiliar(0.6, reference, few=False)
    assert not is_beyond(0.6, reference, few=False)
    assert not is_unfamiliar(0.49, reference, few=False)
    assert is_unfamiliar(0.55, [0.9] * 10, few=True), "few templates that are all far from each other show nothing"
