"""What the agent asks of a language model, wherever it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from langchain_core.messages import BaseMessage

# how many of the likeliest first tokens a model is asked for
TOP_LOGPROBS = 20


class ChatBackend(Protocol):
    """A language model for verdicts. Safe to share between threads; every call raises ModelFailure or EngineBusy."""

    @property
    def name(self) -> str:
        """What a verdict's provenance says: `embedded:NAME` or `ollama:NAME`."""

    @property
    def sha256(self) -> str | None:
        """The SHA-256 of the weights, or Ollama's digest."""

    def first_token(self, messages: Sequence[BaseMessage]) -> Mapping[str, Any]:
        """The response's metadata after one token; its ``logprobs`` may be absent where a server gives none."""

    def structured(self, messages: Sequence[BaseMessage], schema: Mapping[str, Any], attempt: int = 0) -> str:
        """An answer bound to a JSON schema, as text; nothing guarantees that it keeps to it. Later attempts differ."""

    def stream(self, messages: Sequence[BaseMessage], max_tokens: int) -> Iterator[str]:
        """Pieces of the answer's text; closing the iterator stops the model."""

    def clip(self, text: str, max_tokens: int) -> tuple[str, int]:
        """The text shortened to at most ``max_tokens``, and how many tokens were dropped."""

    def room(self, messages: Sequence[BaseMessage]) -> int:
        """Tokens that the context still holds after these and one of the answer; negative if they are too many."""

    def close(self) -> None:
        """Give memory and connections back."""
