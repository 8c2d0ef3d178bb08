"""Whether a text says anything: one of placeholders and punctuation alone does not."""

from __future__ import annotations

import re
import unicodedata

_PLACEHOLDERS = re.compile(r"<(?:\*|\w+)>|\[(?:MASK|UNK|PAD|EMPTY)\]", re.IGNORECASE)
_NOTHING = frozenset({"n/a", "na", "nan", "null", "none", "nil"})
# punctuation, spaces and mathematical signs; not other symbols, since a face says something
_EMPTY = frozenset("PZC")


def says_nothing(text: str) -> bool:
    """Whether a text holds no word, number or symbol but words for a missing value."""
    words = _PLACEHOLDERS.sub(" ", text).casefold().split()
    return all(word in _NOTHING or _is_empty(word) for word in words)


def _is_empty(word: str) -> bool:
    return all(unicodedata.category(sign)[0] in _EMPTY or unicodedata.category(sign) == "Sm" for sign in word)
