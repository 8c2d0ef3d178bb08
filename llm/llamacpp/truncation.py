"""Truncating a text to a number of tokens of a loaded model."""

from __future__ import annotations

from llm.llamacpp.gguf import Weights
from llm.truncation import HEAD_SHARE, MARK, SMALLEST_WINDOW, WINDOW


def clip_exactly(weights: Weights, text: str, max_tokens: int) -> tuple[str, int]:
    """Shorten ``text`` to at most ``max_tokens`` tokens, its head and tail kept; return it and the tokens removed.

    A very long text is cut before it is tokenized, and its number of tokens is extrapolated.
    """
    window = max(WINDOW * max_tokens, SMALLEST_WINDOW)
    whole = len(text) <= 2 * window
    head = weights.tokenize(text if whole else text[:window], special=False)
    if whole and len(head) <= max_tokens:
        return text, 0
    tail = head if whole else weights.tokenize(text[-window:], special=False)
    total = len(head) if whole else round((len(head) + len(tail)) * len(text) / (2 * window))
    room = max_tokens - len(weights.tokenize(MARK, special=False))
    # The tokens at a cut may be tokenized anew into more, so the room shrinks until the text fits.
    while room > 0:
        first = round(room * HEAD_SHARE)
        shortened = _text(weights, head[:first]) + MARK + _text(weights, tail[len(tail) - (room - first) :])
        count = len(weights.tokenize(shortened, special=False))
        if count <= max_tokens:
            return shortened, max(1, total - room)
        room -= count - max_tokens
    return "", total


def _text(weights: Weights, tokens: list[int]) -> str:
    # A part of a character at the cut is dropped.
    return b"".join(weights.piece(token, special=True) for token in tokens).decode("utf-8", "ignore")
