"""Parts of the console that need no browser."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import numpy as np
import pytest
from fastapi import Request

from agent.api.console import i18n
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


def texts_of_the_console() -> set[str]:
    """Every text that the console's modules pass to `_`."""
    found = set[str]()
    for module in Path(i18n.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "_":
                found |= {
                    arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)
                }
    return found


@pytest.mark.parametrize("language", [code for code in i18n.LANGUAGES if code != "en"])
def test_every_text_is_in_every_language(language: str) -> None:
    translated = i18n.catalog(language)
    assert texts_of_the_console() - translated.keys() == set()
    fields = re.compile(r"\{\w+\}")
    for text, translation in translated.items():
        assert set(fields.findall(text)) == set(fields.findall(translation)), text


@pytest.mark.parametrize(
    ("cookie", "accepted", "language"),
    [
        ("", "", "en"),
        ("", "ko-KR,ko;q=0.9,en;q=0.8", "ko"),
        ("", "fr,zh-TW;q=0.5", "zh"),
        ("ko", "zh", "ko"),
        ("<script>", "de", "en"),
    ],
)
def test_the_language_is_the_chosen_one_or_the_browsers(cookie: str, accepted: str, language: str) -> None:
    headers = [(b"cookie", f"precedent_language={cookie}".encode()), (b"accept-language", accepted.encode())]
    assert i18n.language_of(Request({"type": "http", "headers": headers})) == language
