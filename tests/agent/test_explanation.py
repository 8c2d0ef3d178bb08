"""Sentences are shown only when their numbers and case ids can be traced."""

from __future__ import annotations

import pytest

from agent.explanation import facts_in_words, traceable

GROUNDS = "nearest anomalous case: c45 (similarity 0.83) “killed by signal 9”; runtime is 345, above all (61 to 80.5)"


@pytest.mark.parametrize(
    "sentence",
    [
        "Case c45 was killed by signal 9.",
        "C45 is near (0.83).",
        "The runtime of 345 is above 80.5.",
        "It looks like a crash.",
        "Similarity 0.830 to c45.",
    ],
)
def test_what_stands_in_the_facts_may_be_said(sentence: str) -> None:
    assert traceable(sentence, GROUNDS)


@pytest.mark.parametrize(
    "sentence",
    [
        "Case c46 says so.",
        "It was killed by signal 11.",
        "The runtime is 346.",
        "This happened 3 times.",
        "A similarity of 83 %.",
        "It took -345.5 ms.",
    ],
)
def test_what_does_not_is_not_said(sentence: str) -> None:
    assert not traceable(sentence, GROUNDS)


def test_facts_are_the_explanation_that_needs_no_model() -> None:
    told = facts_in_words("anomalous", 0.971, ["one thing", "another"])
    assert told == "anomalous (probability of an anomaly 0.97): one thing; another."
    assert "no witness" in facts_in_words("unsure", 0.5, [])
