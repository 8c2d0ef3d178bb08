"""Which numbers are far from all cases, by how these lie at that end."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from agent.detectors.field_expectations import FieldExpectations
from retrieval.arrays import Floats

Draw = Callable[[np.random.Generator, tuple[int, int]], Floats]
_NEW = 1_000


def expectations(**columns: object) -> FieldExpectations:
    names, values = list(columns), zip(*columns.values(), strict=True)  # type: ignore[call-overload]
    rows = [{name: float(value) for name, value in zip(names, row, strict=True)} for row in values]
    return FieldExpectations.fit(rows, [()] * len(rows))


def far(expected: FieldExpectations, **row: float) -> tuple[str, ...]:
    return expected.problems(row).unlike


def cool_and_hot(cases: int) -> list[float]:
    """Temperatures near 20, every fifth near 60."""
    rng = np.random.default_rng(8)
    return [float(value) for value in np.where(np.arange(cases) % 5 == 4, 60, 20) + rng.normal(0, 1.5, cases)]


@pytest.mark.parametrize("cases", [12, 40, 400, 4_000])
def test_a_number_far_below_the_cases_is_named_however_far_the_highest_is(cases: int) -> None:
    expected = expectations(temperature=cool_and_hot(cases))
    (sentence,) = far(expected, temperature=-5.0)
    assert sentence.startswith("temperature is -5, far from all cases (1")
    assert far(expected, temperature=18.0) == ()


@pytest.mark.parametrize("end", [1, -1])
def test_a_number_a_little_outside_is_not_far(end: int) -> None:
    for seed in range(20):
        column = np.random.default_rng(seed).normal(0, 1, 2_000)
        assert far(expectations(x=column), x=(column.max() if end > 0 else column.min()) + 0.02 * end) == ()


_DRAWS: dict[str, Draw] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "lognormal": lambda rng, shape: rng.lognormal(size=shape),
    "uniform": lambda rng, shape: rng.uniform(size=shape),
    "counts": lambda rng, shape: rng.poisson(3, shape).astype(float),
    "rounded": lambda rng, shape: np.round(rng.normal(20, 2, shape), 1),
}


@pytest.mark.parametrize("draw", _DRAWS.values(), ids=_DRAWS)
@pytest.mark.parametrize(("cases", "columns", "most"), [(100, 1, 0.015), (100, 5, 0.02), (1_000, 5, 0.01)])
def test_few_honest_records_have_a_number_far_from_the_cases(draw: Draw, cases: int, columns: int, most: float) -> None:
    rng, shares = np.random.default_rng(5), list[float]()
    for _ in range(10):
        names = [f"c{number}" for number in range(columns)]
        expected = expectations(**dict(zip(names, draw(rng, (cases, columns)).T, strict=True)))
        low, high = np.array([expected.limits[name] for name in names]).T
        new = draw(rng, (_NEW, columns))
        shares.append(float(((new < low) | (new > high)).any(axis=1).mean()))
    assert np.mean(shares) < most


@pytest.mark.parametrize("step", [1, -1])
def test_a_number_that_rises_or_falls_from_case_to_case_goes_on_to_either_side(step: int) -> None:
    rng = np.random.default_rng(1)
    uptime = (np.arange(400) + rng.normal(0, 3, 400))[::step]
    expected = expectations(uptime=uptime, shuffled=rng.permutation(uptime))
    assert far(expected, uptime=700.0, shuffled=200.0) == far(expected, uptime=-300.0, shuffled=200.0) == ()
    assert len(far(expected, uptime=-500.0, shuffled=200.0)) == len(far(expected, uptime=900.0, shuffled=200.0)) == 1
    assert len(far(expected, uptime=200.0, shuffled=700.0)) == 1


def test_a_number_that_all_cases_share_tells_of_any_other() -> None:
    expected = expectations(mode=[7.0] * 50, x=range(50))
    assert far(expected, mode=7.0, x=3.0) == ()
    assert far(expected, mode=8.0, x=3.0) == ("mode is 8, far from all cases (7 to 7)",)


def test_infinite_reach_and_one_case_do_no_harm() -> None:
    expected = expectations(x=[3.0])
    assert far(expected, x=3.0) == far(expected, x=5.0) == ()
    assert far(expected, x=50.0)
    expected = expectations(x=[1e308, -1e308, 0.0, 5.0])
    assert far(expected, x=6.0) == ()


def test_stored_and_read_again_they_are_equal_and_older_ones_are_read() -> None:
    expected = expectations(x=range(50), y=cool_and_hot(50))
    stored = json.loads(json.dumps(expected.to_json()))
    assert FieldExpectations.from_json(stored) == expected
    del stored["limits"]
    assert FieldExpectations.from_json(stored).limits["x"] == (-49.0, 98.0)
