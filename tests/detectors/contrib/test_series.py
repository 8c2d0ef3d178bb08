"""Detectors of windows of series: each kind finds its own anomaly, and says so with numbers of the data."""

from __future__ import annotations

import importlib.util
import math
import random
from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import pytest

from agent.core.records import Record, Series
from agent.detectors.base import DetectorInput, TrainingCase
from agent.detectors.contrib.series_detector import SeriesDetector, detector
from retrieval.types import RetrievalResult
from tests.series_files import DAY, START, daily

_NOTHING = RetrievalResult((), {}, {})


def _input(points: Sequence[float | None], first: int = 0, **changes: object) -> DetectorInput:
    start = (START + timedelta(minutes=30 * first)).isoformat()
    series = Series.model_validate({"start": start, "step": 1800, "values": {"v": tuple(points)}, **changes})
    return DetectorInput(Record(text="a window", series=series), "", "", {}, _NOTHING)


def _cases(values: Sequence[float], step: int = DAY // 2) -> list[TrainingCase]:
    return [
        TrainingCase(_input(values[i : i + DAY], i), anomalous=False) for i in range(0, len(values) - DAY + 1, step)
    ]


def _fitted(name: str, values: Sequence[float]) -> SeriesDetector:
    fitted = detector(name).fit(_cases(values))
    assert fitted is not None
    return fitted


@pytest.fixture(scope="module")
def ensemble() -> SeriesDetector:
    return _fitted("series", daily(28 * DAY))


def _anomalies() -> dict[str, DetectorInput]:
    day, rng = daily(DAY, seed=7), random.Random(3)
    spike = [*day[:30], day[30] + 60, *day[31:]]
    shifted = [*day[DAY // 2 :], *day[: DAY // 2]]
    other = [100 + 40 * math.sin(6 * math.pi * i / DAY) + rng.gauss(0, 2) for i in range(DAY)]
    return {"point": _input(spike, 40 * DAY), "contextual": _input(shifted, 40 * DAY), "collective": _input(other, 0)}


@pytest.mark.parametrize("kind", ["point", "contextual", "collective"])
def test_each_kind_is_found_and_named(ensemble: SeriesDetector, kind: str) -> None:
    normal, anomalous = ensemble.score([_input(daily(DAY, seed=9), 41 * DAY), _anomalies()[kind]])
    assert normal.log_odds is not None
    assert normal.log_odds < 0
    assert anomalous.log_odds is not None
    assert anomalous.log_odds > 2
    assert any(fact.startswith(kind) for fact in anomalous.facts), anomalous.facts


def test_facts_have_the_numbers_of_the_data(ensemble: SeriesDetector) -> None:
    (signal,) = ensemble.score([_anomalies()["point"]])
    value = daily(DAY, seed=7)[30] + 60
    (fact,) = [fact for fact in signal.facts if fact.startswith("point")]
    assert f"point: {value:g} at 2024-02-10 15:00:00" in fact
    assert "0 of 55 normal windows are as far off" in fact
    (signal,) = _fitted("series_contextual", daily(28 * DAY)).score([_anomalies()["contextual"]])
    (fact,) = signal.facts
    assert fact.startswith("contextual: ")
    assert " on a Saturday, usual " in fact
    (signal,) = _fitted("series_collective", daily(28 * DAY)).score([_anomalies()["collective"]])
    assert "unlike its nearest in 4 weeks (nearest at 2024-01-" in signal.facts[0]


def test_a_window_is_scored_by_itself_and_after_loading(ensemble: SeriesDetector) -> None:
    inputs = list(_anomalies().values())
    together = [signal.log_odds for signal in ensemble.score(inputs)]
    state = {key: np.asarray(value) for key, value in ensemble.save().items()}
    assert not any(array.dtype.hasobject for array in state.values())
    loaded = detector("series").load(state)
    assert [loaded.score([one])[0].log_odds for one in inputs] == pytest.approx(together)


def test_out_of_fold_windows_are_not_their_own_precedents() -> None:
    values = daily(28 * DAY)
    # one strange day, which half-overlapping windows share
    values[10 * DAY : 11 * DAY] = [150.0] * DAY
    cases = _cases(values)
    fitted = detector("series_collective").fit(cases)
    assert fitted is not None
    log_odds = fitted.out_of_fold(cases, np.zeros(len(cases), np.int64))
    assert set(np.argsort(-log_odds)[:3].tolist()) == {19, 20, 21}


def test_windows_that_cannot_be_compared_get_no_log_odds(ensemble: SeriesDetector) -> None:
    short, other, plain = ensemble.score(
        [
            _input(daily(10)),
            _input([], values={"w": tuple(daily(DAY))}),
            _input(daily(DAY), start="7"),
        ]
    )
    assert (short.log_odds, other.log_odds, plain.log_odds) == (None, None, None)
    assert short.degraded == "a window of 10 points; those learned have 48"
    assert other.degraded == "the window has no values of v"
    assert plain.degraded is not None


def test_missing_values_constants_and_too_few_windows() -> None:
    gaps: list[float | None] = [None if i % 5 == 0 else value for i, value in enumerate(daily(DAY, seed=5))]
    (signal,) = _fitted("series", daily(28 * DAY)).score([_input(gaps, 40 * DAY)])
    assert signal.log_odds is not None
    assert signal.log_odds < 0
    flat = _fitted("series", [5.0] * (20 * DAY))
    (same, another) = flat.score([_input([5.0] * DAY), _input([9.0] * DAY)])
    assert same.log_odds is not None
    assert another.log_odds is not None
    assert same.log_odds < another.log_odds
    assert detector("series").fit(_cases(daily(3 * DAY))) is None


def test_the_patch_network_and_its_state() -> None:
    fitted = _fitted("series_patch", daily(14 * DAY))
    normal, anomalous = fitted.score([_input(daily(DAY, seed=9), 41 * DAY), _anomalies()["collective"]])
    assert normal.log_odds is not None
    assert anomalous.log_odds is not None
    assert normal.log_odds < anomalous.log_odds
    loaded = detector("series_patch").load({key: np.asarray(value) for key, value in fitted.save().items()})
    assert loaded.score([_anomalies()["collective"]])[0].log_odds == pytest.approx(anomalous.log_odds)


@pytest.mark.skipif(importlib.util.find_spec("stumpy") is None, reason="the extra [timeseries] is not installed")
def test_the_matrix_profile_finds_a_shape() -> None:
    fitted = _fitted("series_matrix", daily(14 * DAY))
    normal, anomalous = fitted.score([_input(daily(DAY, seed=9), 41 * DAY), _anomalies()["collective"]])
    assert normal.log_odds is not None
    assert anomalous.log_odds is not None
    assert normal.log_odds < 0 < anomalous.log_odds
    assert anomalous.facts[0].startswith("collective: this shape")


@pytest.mark.parametrize("shape", ["saw", "sine", "square"])
def test_series_without_noise_are_normal_after_loading(shape: str) -> None:
    i = np.arange(28 * DAY)
    values = {
        "saw": i % DAY * 0.1,
        "sine": np.sin(2 * np.pi * i / DAY) * 10 + 3.3,
        "square": i // 24 % 2 * 10.1 + 1 / 3,
    }
    fitted = _fitted("series", values[shape].tolist())
    loaded = detector("series").load({key: np.asarray(value) for key, value in fitted.save().items()})
    # the stored windows are of single precision
    again = [signal.log_odds for signal in loaded.score([case.input for case in _cases(values[shape].tolist())])]
    assert max(value for value in again if value is not None) < 0
    (other,) = loaded.score([_input((values[shape][:DAY] * 1.5).tolist(), 40 * DAY)])
    assert other.log_odds is not None
    assert other.log_odds > 2


@pytest.mark.parametrize("unit", [1e-12, 1.0, 1e12])
def test_the_unit_of_the_values_does_not_matter(unit: float) -> None:
    fitted = _fitted("series", [value * unit for value in daily(28 * DAY)])
    normal, still, scaled = fitted.score(
        [
            _input([value * unit for value in daily(DAY, seed=9)], 41 * DAY),
            _input([100 * unit] * DAY, 41 * DAY),
            _input([value * unit * 1000 for value in daily(DAY, seed=9)], 41 * DAY),
        ]
    )
    assert [signal.log_odds is not None for signal in (normal, still, scaled)] == [True] * 3
    assert (normal.log_odds or 0) < 0
    assert (still.log_odds or 0) > 2
    assert (scaled.log_odds or 0) > 2
    flat = _fitted("series", [5.0 * unit] * (20 * DAY))
    same, almost, another = flat.score([_input([value * unit] * DAY) for value in (5.0, 5.0000001, 9.0)])
    assert (same.log_odds or 0) < 0
    assert almost.log_odds == same.log_odds
    assert (another.log_odds or 0) > 2


def test_enormous_values_are_learned_beside_and_found() -> None:
    values = daily(28 * DAY)
    values[100] = values[900] = 1.7e308
    fitted = _fitted("series", values)
    spike = [*daily(DAY, seed=9)[:-1], -1.7e308]
    normal, anomalous = fitted.score([_input(daily(DAY, seed=9), 41 * DAY), _input(spike, 41 * DAY)])
    assert (normal.log_odds or 0) < 0
    assert anomalous.log_odds is not None
    assert anomalous.log_odds > 0


def test_another_sampling_is_not_compared(ensemble: SeriesDetector) -> None:
    (signal,) = ensemble.score([_input(daily(DAY, seed=9), 41 * DAY, step=60)])
    assert signal.log_odds is None
    assert signal.degraded == "points every 60 s; those learned are 1800 s apart"


def test_a_series_that_was_not_learned_is_not_surely_normal() -> None:
    cases = [
        TrainingCase(_input([level * value for value in daily(28 * DAY)[i : i + DAY]], i, key=key), anomalous=False)
        for key, level in (("a", 1), ("b", 7))
        for i in range(0, 27 * DAY, DAY)
    ]
    fitted = detector("series").fit(cases)
    assert fitted is not None
    known, unknown = fitted.score([_input(daily(DAY, seed=9), 41 * DAY, key=key) for key in ("a", "c")])
    assert (known.truncated, known.degraded) == (False, None)
    assert unknown.truncated
    assert unknown.degraded == "no series 'c' was learned: compared with all others together"


def test_windows_that_are_mostly_straight_lines_are_not_compared(ensemble: SeriesDetector) -> None:
    day = daily(DAY, seed=9)
    (signal,) = ensemble.score([_input([*day[:24], *[None] * 20, *day[44:]], 41 * DAY)])
    assert (signal.log_odds, signal.degraded) == (None, "20 of 48 values of v are missing")
    # unless what was learned is like that
    fitted = detector("series").fit(
        [
            TrainingCase(_input([*daily(DAY, seed)[:24], *[None] * 20, *day[44:]], seed * DAY), anomalous=False)
            for seed in range(20)
        ]
    )
    assert fitted is not None
    loaded = detector("series").load({key: np.asarray(value) for key, value in fitted.save().items()})
    (signal,) = loaded.score([_input([*day[:24], *[None] * 20, *day[44:]], 41 * DAY)])
    assert signal.log_odds is not None


def test_series_that_go_together_are_no_precedents_of_each_other() -> None:
    values = daily(28 * DAY)
    cases = [
        TrainingCase(_input([level * value for value in values[i : i + DAY]], i, key=key), anomalous=False)
        for key, level in (("a", 1), ("b", 7))
        for i in range(0, 27 * DAY, DAY)
    ]
    fitted = detector("series").fit(cases)
    assert fitted is not None
    normal = [_input(daily(DAY, seed), seed * DAY, key="a") for seed in range(40, 50)]
    assert max(signal.log_odds or 0 for signal in fitted.score(normal)) < 2
    # ten series with a single window each have nothing but each other
    single = [TrainingCase(_input(daily(DAY, seed), 0, key=f"h{seed}"), anomalous=False) for seed in range(12)]
    fitted = detector("series_collective").fit(single)
    assert fitted is not None
    assert max(signal.log_odds or 0 for signal in fitted.score([_input(daily(DAY, 99), 0, key="h3")])) < 2
