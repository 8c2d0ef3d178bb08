"""The embedded engine as a `ChatBackend`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage

from llm.base import TOP_LOGPROBS, read_answers
from llm.errors import ModelFailure
from llm.llamacpp.chat_model import EmbeddedChatModel
from llm.weights.checksum import sha256_of


class LlamaCppBackend:
    """A `ChatBackend` on an embedded chat model; its methods are documented there."""

    def __init__(self, chat: EmbeddedChatModel, adapter: Path | None = None, adapter_sha256: str | None = None) -> None:
        self.chat, self._adapter, self.adapter_sha256 = chat, adapter, adapter_sha256
        # answers are cached by this name, and a source is judged with the model of the name that it was fitted with
        with_adapter = f"+lora-{adapter_sha256[:16]}" if adapter_sha256 else ""
        self.name, self.sha256 = f"embedded:{chat.model}{with_adapter}", chat.model_sha256
        self.clip, self.close = chat.clip, chat.close

    def with_adapter(self, path: Path, sha256: str, weights_sha256: str) -> LlamaCppBackend:
        """The same model with an adapter, on the same engine; itself if the adapter is of other weights."""
        if weights_sha256 != self.sha256:
            return self
        try:
            actual = sha256_of(path)
        except OSError as error:
            raise ModelFailure(f"the adapter {path} cannot be read: {error.strerror}") from error
        if actual != sha256:
            raise ModelFailure(f"the adapter {path} is damaged or another one: its SHA-256 is not {sha256[:16]}…")
        return LlamaCppBackend(self.chat, path, sha256)

    def answer_log_probabilities(self, messages: Sequence[BaseMessage], answers: Sequence[str]) -> dict[str, float]:
        """The natural logarithm of each answer's probability, exact for every answer."""
        few_shot = _has_examples(messages)
        chat = self.chat.bind(
            max_tokens=1,
            logprobs=True,
            top_logprobs=TOP_LOGPROBS,
            answers=answers,
            few_shot=few_shot,
            adapter=self._adapter,
        )
        return read_answers(chat.invoke(list(messages)).response_metadata["logprobs"][0], answers)

    def structured(self, messages: Sequence[BaseMessage], schema: Mapping[str, Any], attempt: int = 0) -> str:
        """Raise `ModelFailure`: the engine returns log-probabilities, so that no schema is needed."""
        raise ModelFailure("the embedded engine returns log-probabilities and supports no schema")

    def stream(self, messages: Sequence[BaseMessage], max_tokens: int) -> Iterator[str]:
        """Yield the reply piece by piece."""
        options: dict[str, Any] = {
            "max_tokens": max_tokens,
            "few_shot": _has_examples(messages),
            "adapter": self._adapter,
        }
        for chunk in self.chat.stream(list(messages), **options):
            yield str(chunk.content)

    def room(self, messages: Sequence[BaseMessage]) -> int:
        """How many tokens fit into the context beside ``messages`` and a reply of one token; may be negative."""
        return self.chat.context_tokens - len(self.chat.prompt(messages)) - 1


def _has_examples(messages: Sequence[BaseMessage]) -> bool:
    """Whether there are replies in the conversation: these are examples, which recur with each record."""
    return any(isinstance(message, AIMessage) for message in messages)
