"""Each test of drift: false alarms on draws of one distribution, and shifts that it must find."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from agent.training.drift_tests import (
    CHANCE,
    different_categories,
    different_column,
    different_numbers,
    exceeds,
    farther,
    holm,
    more,
    unseen_templates,
    with_share,
)

Rng = np.random.Generator


def templates(rng: Rng, n: int, new: float = 0.0) -> Counter[str]:
    """Records by template: Zipf's law, and a share of ``new`` ones of three templates."""
    weights = 1 / np.arange(1, 201)
    kinds = rng.choice(200, n, p=weights / weights.sum())
    return Counter(f"new {rng.integers(3)}" if rng.random() < new else f"t{kind}" for kind in kinds)


def nearest_of(points: np.ndarray, others: np.ndarray, itself: bool) -> np.ndarray:
    distances = np.linalg.norm(points[:, None] - others[None], axis=2)
    if itself:
        np.fill_diagonal(distances, np.inf)
    return np.sort(distances.min(axis=1))


def far(rng: Rng, shift: float = 0.0) -> float:
    cases, records = rng.normal(0, 1, (120, 3)), rng.normal(shift, 1, (120, 3))
    quantiles = np.quantile(nearest_of(cases, cases, True), np.linspace(0, 1, 201))
    return farther(nearest_of(records, cases, False), quantiles.tolist(), 120)[1]


NULL: dict[str, Callable[[Rng], float]] = {
    "templates": lambda rng: unseen_templates(templates(rng, 300), templates(rng, 200), rng),
    "distance": far,
    "numbers": lambda rng: different_numbers(rng.normal(0, 1, 150), rng.normal(0, 1, 300))[1],
    "categories": lambda rng: different_categories(rng.choice(list("aabcde"), 150), rng.choice(list("aabcde"), 300))[1],
    "share": lambda rng: more(rng.binomial(200, 0.1), 200, rng.binomial(200, 0.1), 200, either=True),
    "corrections": lambda rng: exceeds(rng.binomial(100, 0.05), 100, 0.05),
}
SHIFTED: dict[str, Callable[[Rng], float]] = {
    "templates": lambda rng: unseen_templates(templates(rng, 300), templates(rng, 200, new=0.15), rng),
    "distance": lambda rng: far(rng, 1.5),
    "numbers": lambda rng: different_numbers(rng.normal(0.7, 1, 150), rng.normal(0, 1, 300))[1],
    "categories": lambda rng: different_categories(rng.choice(list("abbxxx"), 150), rng.choice(list("aabcde"), 300))[1],
    "share": lambda rng: more(rng.binomial(200, 0.3), 200, rng.binomial(200, 0.1), 200),
    "corrections": lambda rng: exceeds(rng.binomial(100, 0.2), 100, 0.05),
}


@pytest.mark.parametrize("name", NULL)
def test_chance_is_taken_for_drift_as_rarely_as_promised(name: str) -> None:
    rng, draws = np.random.default_rng(1), 20 if name == "templates" else 200
    alarms = sum(NULL[name](rng) < CHANCE for _ in range(draws))
    assert alarms <= max(1, 0.03 * draws)
    assert sum(NULL[name](rng) < 0.5 for _ in range(draws)) > 0, "it can tell at all"


@pytest.mark.parametrize("name", SHIFTED)
def test_a_shift_is_found(name: str) -> None:
    rng = np.random.default_rng(2)
    assert sum(SHIFTED[name](rng) < CHANCE for _ in range(10)) >= 9


def test_one_new_template_among_few_cases_may_be_chance() -> None:
    cases = Counter({f"t{i}": 1 for i in range(30)})
    assert unseen_templates(cases, Counter({f"n{i}": 1 for i in range(30)})) > 0.05, "every case is of its own template"
    assert unseen_templates(Counter(a=40, b=40), Counter(a=40, c=20)) < CHANCE
    assert unseen_templates(Counter(a=2_000_000_000), Counter(a=50)) == 1.0


def test_missing_values_are_values() -> None:
    old = [1.0, 2.0, 3.0, 4.0] * 25
    distance, p_value = different_column([None] * 40 + old[:60], old)
    assert (distance, p_value < CHANCE) == (pytest.approx(0.4), True)
    assert different_column(["a"] * 60, ["a"] * 60) == (0.0, 1.0)
    assert different_column([True] * 60, [False] * 60)[0] == 1.0


def test_the_share_of_anomalous_cases_can_be_chosen() -> None:
    anomalous = np.array([True] * 50 + [False] * 50)
    chosen = anomalous[with_share(anomalous, 0.1)]
    assert (int(chosen.sum()), len(chosen)) == (6, 56)
    assert len(with_share(anomalous, 0.0)) == 50
    assert len(with_share(np.zeros(10, dtype=bool), 0.3)) == 10


def test_many_fields_are_corrected_for() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []
