"""Special tokens of chat templates in a record's text, which a server would obey."""

from __future__ import annotations

import re

_SPECIAL = re.compile(r"<(?=\||/?s>|(?:start|end)_of_turn>|(?:bos|eos|pad|unk)>)|\[(?=/?INST\])", re.IGNORECASE)


def disable_special(text: str) -> str:
    """Break special tokens: `< |im_end|>` is plain text."""
    return _SPECIAL.sub(r"\g<0> ", text)
