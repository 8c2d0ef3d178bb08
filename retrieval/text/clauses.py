"""Masked texts to clauses: what stands between punctuation marks, quotes and times, alone and joined to longer windows.

A record may hold several statements, of which one decides. Windows of two lengths begin at each clause, so that a
statement of another record is found wherever it stands. Clauses without any mark are cut into pieces.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from retrieval.text.masking import PLACEHOLDER

# characters: the least of a window of either length, and the longest clause that is not cut; a record with fewer in all
# is one clause or two
_SHORT, _LONG, _PIECE, _MANY = 18, 72, 42, 120
_WORD_PIECE = _PIECE // 2
_BREAK = re.compile(
    r"(?<=[.;:!?,|])\s+|(?<=[。；：！？，、｡])\s*"
    r"|\s*[\"“”«»„‟(){}\[\]]+[,:]?\s*|(?:(?<=\s)|^)['‘’`]+|['‘’`]+(?=[\s,.;:]|$)"
    r"|\s+(?:[-=–—]+>?|\\n)\s+|\\n"
)
_ENTRY = re.compile(r"(?:^|\s+)(?=<(?:time|date)>)")
_HAS_WORD = re.compile(r"[^\W\d_]")


def is_long(masked: str) -> bool:
    """Whether a masked text is longer than a clause or two.

    >>> is_long("<time> [<n>] LOG: checkpoint starting: time")
    False
    """
    return len(masked) > _MANY and len(PLACEHOLDER.sub("", masked)) > _MANY


class Window(NamedTuple):
    """A window of a text, and the clauses that it joins."""

    text: str
    clauses: tuple[str, ...]


def windows(masked: str) -> list[Window]:
    """The distinct windows of a masked text, in order: from each clause on, as many as make a short and a long text.

    No window goes beyond a time or date, where another entry may begin.

    >>> [window.text for window in windows("<time> ERROR: disk full; stopping")]
    ['ERROR: disk full; stopping', 'disk full; stopping', 'stopping']
    """
    found = dict[str, Window]()
    for entry in _ENTRY.split(masked):
        parts = _clauses(entry)
        for start in range(len(parts)):
            text, at = parts[start], start + 1
            for least in (_SHORT, _LONG):
                while at < len(parts) and len(text) < least:
                    text, at = f"{text} {parts[at]}", at + 1
                found.setdefault(text, Window(text, tuple(parts[start:at])))
    return list(found.values())


def _clauses(entry: str) -> list[str]:
    """The clauses of a masked text, in order, without placeholders."""
    found = []
    for part in _BREAK.split(entry):
        if _HAS_WORD.search(text := PLACEHOLDER.sub(" ", part)):
            found += _pieces(text)
    return found


def _pieces(text: str) -> list[str]:
    """A clause in pieces of whole words; words longer than a piece, as where no spaces are written, are cut."""
    words = text.split()
    if len(text) <= _PIECE:
        return [" ".join(words)]
    pieces, piece = list[str](), ""
    for word in words:
        if len(word) > _PIECE:
            pieces += [piece] if piece else []
            pieces += [word[start : start + _WORD_PIECE] for start in range(0, len(word), _WORD_PIECE)]
            piece = ""
        elif piece and len(piece) + len(word) >= _PIECE:
            pieces.append(piece)
            piece = word
        else:
            piece = f"{piece} {word}".strip()
    return pieces + ([piece] if piece else [])
