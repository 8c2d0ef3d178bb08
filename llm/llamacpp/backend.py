"""The embedded engine as a `ChatBackend`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from langchain_core.messages import BaseMessage

from llm.base import TOP_LOGPROBS, read_answers
from llm.errors import ModelFailure
from llm.llamacpp.chat_model import EmbeddedChatModel


class LlamaCppBackend:
    """A `ChatBackend` on an embedded chat model; its methods are documented there."""

    def __init__(self, chat: EmbeddedChatModel) -> None:
        self.chat = chat
        self.name, self.sha256 = f"embedded:{chat.model}", chat.model_sha256
        self.clip, self.close = chat.clip, chat.close

    def answer_log_probabilities(self, messages: Sequence[BaseMessage], answers: Sequence[str]) -> dict[str, float]:
        chat = self.chat.bind(max_tokens=1, logprobs=True, top_logprobs=TOP_LOGPROBS, answers=answers)
        return read_answers(chat.invoke(list(messages)).response_metadata["logprobs"][0], answers)

    def structured(self, messages: Sequence[BaseMessage], schema: Mapping[str, Any], attempt: int = 0) -> str:
        raise ModelFailure("the embedded engine returns log-probabilities and supports no schema")

    def stream(self, messages: Sequence[BaseMessage], max_tokens: int) -> Iterator[str]:
        for chunk in self.chat.stream(list(messages), max_tokens=max_tokens):
            yield str(chunk.content)

    def room(self, messages: Sequence[BaseMessage]) -> int:
        return self.chat.context_tokens - len(self.chat.prompt(messages)) - 1
