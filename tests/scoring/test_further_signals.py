"""A further signal is weighed where it makes verdicts better, under known kinds and under new ones, and only there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from agent.scoring.calibration import fit
from agent.scoring.further_signals import Conditions, signals_that_help
from agent.scoring.fusion import Fusion

BASE = Fusion({"neighbours": 0.8}, bias=-0.3)
Column = np.ndarray


class _Cases:
    """n cases in ten kinds of each label, with a built-in signal that is of some use as of known and of new kinds."""

    def __init__(self, seed: int, n: int = 300, share: float = 0.3) -> None:
        self.random = np.random.default_rng(seed)
        self.anomalous = np.arange(n) < n * share
        self.kinds = np.arange(n) % 10 + 10 * self.anomalous
        self.neighbours = [self.signal(1.5), self.signal(0.8)]

    def signal(self, strength: float, noise: float = 1.0) -> Column:
        """Log-odds that are right on average."""
        return strength * np.where(self.anomalous, 1, -1) + noise * self.random.normal(size=len(self.anomalous)) * 2

    def helpful(self, **further: list[Column]) -> tuple[str, ...]:
        """The further signals that are weighed; each of them as of known kinds, and as of new ones."""
        rows = [
            {"neighbours": self.neighbours[i][j], **{name: column[i][j] for name, column in further.items()}}
            for i in range(2)
            for j in range(len(self.anomalous))
        ]
        conditions = Conditions(self.kinds % 5, (self.kinds, self.kinds))
        labels = [*self.anomalous.tolist()] * 2
        return signals_that_help(BASE, list(further), rows, labels, [1.0] * len(rows), 2, conditions)


@pytest.mark.parametrize(("n", "share"), [(300, 0.3), (40, 0.1), (60, 0.5)])
def test_noise_has_no_weight(n: int, share: float) -> None:
    accepted = 0
    for seed in range(20):
        cases = _Cases(seed, n, share)
        noise = 2 * cases.random.normal(size=n)
        accepted += bool(cases.helpful(noise=[noise, noise]))
    assert accepted <= 1, "one signal of noise in twenty may look useful by chance"


def test_what_is_right_about_known_kinds_only_has_no_weight() -> None:
    for seed in range(10):
        cases = _Cases(seed)
        assert cases.helpful(memory=[cases.signal(4), cases.signal(0)]) == ()
        assert cases.helpful(generalising=[cases.signal(4), cases.signal(2)]) == ("generalising",)


def test_what_helps_is_weighed_and_what_repeats_a_signal_is_not() -> None:
    for seed in range(5):
        cases = _Cases(seed)
        good = [cases.signal(1.5), cases.signal(1.5)]
        noise = [2 * cases.random.normal(size=300)] * 2
        assert cases.helpful(noise=noise, good=good) == ("good",)
        assert cases.helpful(repeated=cases.neighbours) == ()
        assert len(cases.helpful(good=good, again=good)) == 1, "of two equal ones, one"


def test_kinds_of_anomalies_are_the_observations_not_their_cases() -> None:
    cases = _Cases(3, 400, 0.5)
    # right about one kind of anomaly in ten, of which there are many cases
    cases.kinds[cases.anomalous] = np.where(np.arange(200) < 160, 10, 11 + np.arange(200) % 9)
    about_one = np.where(cases.kinds == 10, 6.0, 0.0) + cases.random.normal(size=400)
    assert cases.helpful(about_one=[about_one, about_one]) == ()
    cases.kinds = np.arange(400)
    assert cases.helpful(about_one=[about_one, about_one]) == ("about_one",)


def test_cases_of_one_label_prove_nothing() -> None:
    cases = _Cases(1, 50, 0.0)
    assert cases.helpful(any=[cases.signal(3), cases.signal(3)]) == ()


def test_a_signal_at_weight_0_is_as_if_it_were_not_there() -> None:
    cases = _Cases(1)
    rows = [{"neighbours": value} for value in cases.neighbours[0].tolist()]
    labels, ones = cases.anomalous.tolist(), [1.0] * 300
    without = fit(BASE, rows, labels, ones, 0.1)
    weighed = replace(without, weights={"noise": 0.0, **without.weights})
    for row in rows:
        assert weighed.log_odds({**row, "noise": 3.3}) == without.log_odds(row)
