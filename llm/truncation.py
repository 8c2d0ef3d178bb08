"""Shortening a text that a model has no room for: head and tail stay, and a mark says that something is gone."""

from __future__ import annotations

import math
import re
from functools import lru_cache

MARK = " […] "
# A record says who it is at its start and what happened at its end; the start says more.
HEAD_SHARE = 0.7
# Beyond this many characters a token on each side, a text is cut before it is tokenised: 10 MB must be cheap.
WINDOW = 8
SMALLEST_WINDOW = 4096
# For a tokeniser we cannot ask. Tokenisers cut a text into words, digits and signs before they look for tokens.
_PIECES = re.compile(r"[A-Za-z]+|[0-9]|[ ]+|[^A-Za-z0-9 ]")
_WORD, _LETTERS_A_TOKEN, _LETTERS_OF_NO_WORD = 12, 3, 1.5
_SPACES_A_TOKEN = 4
# A token that is estimated is worth at most this many characters.
_MOST_CHARACTERS = 4


def estimated_tokens(text: str) -> int:
    """A number of tokens that ``text`` hardly exceeds in any model: for models whose tokeniser is elsewhere."""
    return sum(map(_cost, _PIECES.findall(text)))


@lru_cache(8192)
def _cost(piece: str) -> int:
    if piece[0] == " ":
        # one space goes with the word after it
        return math.ceil((len(piece) - 1) / _SPACES_A_TOKEN)
    if piece.isascii():
        letters = _LETTERS_A_TOKEN if len(piece) <= _WORD else _LETTERS_OF_NO_WORD
        return math.ceil(len(piece) / letters)
    return max(1, len(piece.encode("utf-8", "replace")) - 1)


def clip_by_estimate(text: str, max_tokens: int) -> tuple[str, int]:
    """The same as `clip_exactly`, by `estimated_tokens`."""
    total = estimated_tokens(text)
    if total <= max_tokens:
        return text, 0
    # spaces on both sides of the mark's own may cost one token each
    room = max_tokens - estimated_tokens(MARK) - 2
    if room <= 0:
        return "", total
    first = round(room * HEAD_SHARE)
    head, tail = _fitting(text, first), _fitting(text[::-1], room - first)[::-1]
    return head + MARK + tail, max(1, total - estimated_tokens(head) - estimated_tokens(tail))


def _fitting(text: str, max_tokens: int) -> str:
    """The longest beginning of ``text`` that is estimated at ``max_tokens`` at most, by halving."""
    low, high = 0, min(len(text), max_tokens * _MOST_CHARACTERS)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if estimated_tokens(text[:middle]) <= max_tokens else (low, middle - 1)
    return text[:low]
