"""Where two texts differ, by words, for highlighting."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

_WORD = re.compile(r"\s+|[^\s\w]|\w+")
_MOST_WORDS = 400


def differing(text: str, other: str) -> list[tuple[str, bool]]:
    """Cut ``text`` into pieces; the second value tells whether ``other`` lacks the piece at that place.

    Words beyond the first 400 (signs and spaces count) are one piece that is not compared.
    """
    words, others = _WORD.findall(text), _WORD.findall(other)[:_MOST_WORDS]
    compared, rest = words[:_MOST_WORDS], "".join(words[_MOST_WORDS:])
    pieces: list[tuple[str, bool]] = []
    matcher = SequenceMatcher(None, compared, others, autojunk=False)
    for tag, start, end, _, _ in matcher.get_opcodes():
        if piece := "".join(compared[start:end]):
            pieces.append((piece, tag != "equal" and not piece.isspace()))
    return [*pieces, (rest, False)] if rest else pieces
