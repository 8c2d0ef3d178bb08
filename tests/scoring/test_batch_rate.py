"""The rate of anomalies in a batch, from calibrated probabilities."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit

from agent.scoring.batch_rate import BatchProbabilities, rate_shift
from agent.scoring.fusion import Fusion


def probabilities(rate: float, prior: float, size: int = 2_000, seed: int = 0) -> np.ndarray:
    """Calibrated for records of which a share ``prior`` is anomalous, of records of which a share ``rate`` is."""
    rng = np.random.default_rng(seed)
    anomalous = rng.random(size) < rate
    # of N(±1, 1) the log-likelihood ratio is 2 x
    evidence = 2 * rng.normal(np.where(anomalous, 1.0, -1.0), 1.0)
    return np.asarray(expit(logit(prior) + evidence))


@pytest.mark.parametrize(("rate", "prior"), [(0.05, 0.3), (0.4, 0.15), (0.1, 0.4)])
def test_the_rate_is_that_of_the_batch_and_not_of_the_cases(rate: float, prior: float) -> None:
    shift = rate_shift(probabilities(rate, prior), round(1_000 * (1 - prior)), round(1_000 * prior))
    assert shift is not None
    assert shift.batch == pytest.approx(rate, rel=0.25)
    assert shift.cases == pytest.approx(prior, abs=1e-3)
    # Bayes' rule: the odds change by the ratio of both odds of the rates
    fusion = shift.applied_to(Fusion({"fields": 1.0}, bias=-0.5, threshold=-0.2, half_width=0.7))
    assert fusion.bias == pytest.approx(-0.5 + logit(shift.batch) - logit(shift.cases))
    assert (fusion.threshold, fusion.half_width) == (-0.2, 0.7)


def test_a_small_change_few_cases_and_few_records_show_nothing() -> None:
    same, other = probabilities(0.3, 0.3), probabilities(0.05, 0.3)
    assert rate_shift(same, 700, 300) is None
    assert rate_shift(other, 700, 300) is not None
    assert rate_shift(other, 700, 14) is None
    assert rate_shift(other, 14, 300) is None
    assert rate_shift(other[:49], 700, 300) is None
    assert rate_shift(np.zeros(0), 0, 0) is None


def test_the_change_is_bounded_where_no_record_or_every_record_looks_anomalous() -> None:
    for surely, expected in ((1e-12, logit(0.3) - np.log(8)), (1 - 1e-12, logit(0.3) + np.log(8))):
        shift = rate_shift(np.full(100, surely), 700, 300)
        assert shift is not None
        assert logit(shift.batch) == pytest.approx(expected)


def test_the_words_name_both_rates() -> None:
    shift = rate_shift(probabilities(0.4, 0.1), 900, 100)
    assert shift is not None
    assert str(shift).startswith(f"these records look {shift.batch / 0.1:.1f} x as anomalous as the cases (")
    assert "of 2,000 of different content against 10 %)" in str(shift)


def test_neither_order_nor_repetition_changes_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.scoring.batch_rate._MOST_KEPT", 20)
    records = [(f"{number:03}", (number * 7 % 100) / 100) for number in range(100)]
    forwards, backwards = BatchProbabilities(), BatchProbabilities()
    for key, probability in records:
        forwards.add(key, "content", probability)
    for key, probability in records[::-1]:
        backwards.add(key, "content", probability)
        backwards.add(key, "content", probability / 2)
    kept = [f"{number:03}" for number in range(1, 20)]
    for batch in (forwards, backwards):
        assert batch.keys_outside({"000"})[:19] == kept
        assert all(batch.contents(key) == 1 for key in kept)
    assert all(forwards.by_key[key] == backwards.by_key[key] for key in kept)
    forwards.add("001", "another", 0.1)
    assert forwards.contents("001") == 2
