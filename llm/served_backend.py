"""What backends on servers share: prompts that are measured by an estimate, and hold no special tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence

from langchain_core.messages import BaseMessage

from llm.errors import ModelFailure
from llm.truncation import clip_by_estimate, estimated_tokens

STRUCTURED_TOKENS = 48
# What a chat template adds to each message, at most.
_TEMPLATE_TOKENS = 12
_SPECIAL = re.compile(r"<(?=\||/?s>|(?:start|end)_of_turn>|(?:bos|eos|pad|unk)>)|\[(?=/?INST\])", re.IGNORECASE)


class ServedBackend:
    """The part of a `llm.base.ChatBackend` that needs no server.

    Parameters
    ----------
    context_tokens : int
        Tokens are counted by an estimate that errs on the safe side: servers have no tokenizer in their interfaces.
    """

    def __init__(self, context_tokens: int) -> None:
        self._context_tokens = context_tokens

    def clip(self, text: str, max_tokens: int) -> tuple[str, int]:
        """Shorten ``text`` to an estimated ``max_tokens``; return it and how many tokens were removed."""
        return clip_by_estimate(text, max_tokens)

    def room(self, messages: Sequence[BaseMessage]) -> int:
        """How many tokens fit into the context, by an estimate; may be negative."""
        read = sum(estimated_tokens(str(message.content)) + _TEMPLATE_TOKENS for message in messages)
        return self._context_tokens - read - 1

    def _prompt(self, messages: Sequence[BaseMessage], answer_tokens: int) -> list[BaseMessage]:
        """The messages with special tokens disabled, which the server would obey, if they fit into the context.

        Ollama would truncate a prompt that is too long without an error, even the record.
        """
        excess = answer_tokens - 1 - self.room(messages)
        if excess > 0:
            raise ModelFailure(
                f"the prompt is about {excess} tokens too long for the context of {self._context_tokens} tokens"
            )
        return [message.model_copy(update={"content": _disable_special(str(message.content))}) for message in messages]


def _disable_special(text: str) -> str:
    """Break special tokens: `< |im_end|>` is plain text."""
    return _SPECIAL.sub(r"\g<0> ", text)
