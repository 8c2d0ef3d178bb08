"""Truncating a text that exceeds a model's context: head and tail are kept, with a mark between them."""

from __future__ import annotations

import math
import re
from functools import lru_cache

MARK = " […] "
# The start of a record identifies it and says more than its end.
HEAD_SHARE = 0.7
# A text is cut to this many characters a token on each side before it is tokenized, so that 10 MB take no time.
WINDOW = 8
SMALLEST_WINDOW = 4096
# Tokenizers split a text into words, digits and signs before they look for tokens.
_PIECES = re.compile(r"[A-Za-z]+|[0-9]|[ ]+|[^A-Za-z0-9 ]")
_WORD_LETTERS = 12
_LETTERS_PER_TOKEN, _LETTERS_PER_TOKEN_OF_NO_WORD, _SPACES_PER_TOKEN = 3, 1.5, 4
# An estimated token stands for at most this many characters.
_MOST_CHARACTERS = 4


def estimated_tokens(text: str) -> int:
    """Return an upper estimate of the tokens of ``text``, for a model whose tokenizer is not at hand."""
    return sum(map(_cost, _PIECES.findall(text)))


@lru_cache(8192)
def _cost(piece: str) -> int:
    if piece[0] == " ":
        # One space belongs to the word after it.
        return math.ceil((len(piece) - 1) / _SPACES_PER_TOKEN)
    if piece.isascii():
        return math.ceil(
            len(piece) / (_LETTERS_PER_TOKEN if len(piece) <= _WORD_LETTERS else _LETTERS_PER_TOKEN_OF_NO_WORD)
        )
    return max(1, len(piece.encode("utf-8", "replace")) - 1)


def clip_by_estimate(text: str, max_tokens: int) -> tuple[str, int]:
    """Do what `llm.llamacpp.truncation.clip_exactly` does, by `estimated_tokens`."""
    total = estimated_tokens(text)
    if total <= max_tokens:
        return text, 0
    # Spaces on both sides of the mark may cost one token each.
    room = max_tokens - estimated_tokens(MARK) - 2
    if room <= 0:
        return "", total
    first = round(room * HEAD_SHARE)
    head, tail = _prefix(text, first), _prefix(text[::-1], room - first)[::-1]
    return head + MARK + tail, max(1, total - estimated_tokens(head) - estimated_tokens(tail))


def _prefix(text: str, max_tokens: int) -> str:
    """The longest prefix of ``text`` that is estimated at ``max_tokens`` at most, by bisection."""
    low, high = 0, min(len(text), max_tokens * _MOST_CHARACTERS)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if estimated_tokens(text[:middle]) <= max_tokens else (low, middle - 1)
    return text[:low]
