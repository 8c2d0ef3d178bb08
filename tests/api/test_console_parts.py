"""Parts of the console that need no browser."""

from __future__ import annotations

import numpy as np

from agent.api.console.case_search import principal_axes
from agent.api.console.curves import calibration
from agent.api.console.word_diff import differing


def test_words_that_the_other_text_lacks_are_marked() -> None:
    pieces = differing("disk sda failed twice", "disk sdb failed")
    assert "".join(piece for piece, _ in pieces) == "disk sda failed twice"
    assert [piece.strip() for piece, differs in pieces if differs] == ["sda", "twice"]


def test_equal_texts_and_very_long_ones() -> None:
    assert differing("same words", "same words") == [("same words", False)]
    assert differing("", "words") == []
    long = "word " * 10_000
    assert "".join(piece for piece, _ in differing(long, "x")) == long


def test_a_calibration_curve_groups_records_of_like_probability() -> None:
    probabilities = [0.1] * 50 + [0.9] * 50
    anomalous = [False] * 45 + [True] * 5 + [True] * 40 + [False] * 10
    points = calibration(probabilities, anomalous)
    assert sum(point.records for point in points) == 100
    assert [point.predicted for point in points] == sorted(point.predicted for point in points)
    assert sum(point.observed * point.records for point in points) == 45
    assert calibration([], []) == []


def test_the_map_keeps_what_is_near_near() -> None:
    rng = np.random.default_rng(0)
    first, second = (rng.normal(centre, 0.05, (20, 8)).astype(np.float32) for centre in (-1, 1))
    places = principal_axes(np.concatenate([first, second]))
    assert places.shape == (40, 2)
    assert np.ptp(places[:20, 0]) < abs(places[:20, 0].mean() - places[20:, 0].mean())
    assert np.array_equal(places, principal_axes(np.concatenate([first, second])))
    assert principal_axes(np.ones((3, 1), np.float32)).shape == (3, 2)
