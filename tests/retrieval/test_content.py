"""Texts that say nothing."""

from __future__ import annotations

import pytest

from retrieval.text.content import says_nothing


@pytest.mark.parametrize("text", ["", " \t", "N/A", "-", "---", "…", "[MASK] [mask]", "<*>, <num>: <*>", "null / None"])
def test_placeholders_and_punctuation_say_nothing(text: str) -> None:
    assert says_nothing(text)


@pytest.mark.parametrize("text", ["ok", "404", "<*> failed", "👍", "고장", "none left", "€", "N/A: disk full"])
def test_a_word_a_number_or_a_symbol_says_something(text: str) -> None:
    assert not says_nothing(text)
