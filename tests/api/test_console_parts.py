"""Parts of the console that need no browser."""

from __future__ import annotations

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
