"""A model on one or more Ollama servers, asked through LangChain's ChatOllama."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_ollama import ChatOllama

from llm.base import TOP_LOGPROBS, read_answers
from llm.errors import ModelFailure, NoLogProbabilities
from llm.ollama.client import OllamaModel, chat_ollama, how_to_get, require_ollama, without_examples
from llm.ollama.pool import Host, HostPool
from llm.truncation import clip_by_estimate, estimated_tokens

# What a chat template adds to each message, at most.
_TEMPLATE_TOKENS = 12
_STRUCTURED_TOKENS = 48
_SPECIAL = re.compile(r"<(?=\||/?s>|(?:start|end)_of_turn>|(?:bos|eos|pad|unk)>)|\[(?=/?INST\])", re.IGNORECASE)
_NO_LOGPROBS = {"logprobs": None, "top_logprobs": None}


class OllamaBackend:
    """A `ChatBackend` of a fleet. The first server that answers at the start says which weights are meant."""

    def __init__(self, model: OllamaModel, fleet: HostPool, context_tokens: int) -> None:
        self.name, self.sha256 = f"ollama:{model.name.removesuffix(':latest')}", model.digest
        self._fleet, self._context_tokens = fleet, context_tokens

    @classmethod
    def connect(
        cls, hosts: Sequence[str], name: str, *, context_tokens: int, timeout: float, threads: int | None = None
    ) -> OllamaBackend:
        """Find ``name`` on the servers. One that does not answer now may later.

        Raises:
            ModelFailure: no server has the model now; the message says what to do about each.
        """
        model = _first(hosts, name)
        context = min(context_tokens, model.context_tokens or context_tokens)
        fleet = [
            Host(one, chat_ollama(one, model.name, context_tokens=context, timeout=timeout, threads=threads))
            for one in hosts
        ]
        return cls(model, HostPool(fleet, lambda url: how_to_get(url, model.name)), context)

    def answer_log_probabilities(self, messages: Sequence[BaseMessage], answers: Sequence[str]) -> dict[str, float]:
        logprobs = self.first_token(messages).get("logprobs")
        if not logprobs:
            raise NoLogProbabilities(f"{self.name} returns no log-probabilities")
        return read_answers(logprobs[0], answers)

    def first_token(self, messages: Sequence[BaseMessage]) -> Mapping[str, Any]:
        """The metadata of a reply of one token: ``logprobs``, ``prompt_eval_count`` and durations, as Ollama has it."""
        plain = self._fitting(messages, 1)

        def ask(chat: ChatOllama) -> Mapping[str, Any]:
            answer = _limited(chat, 1).invoke(plain, logprobs=True, top_logprobs=TOP_LOGPROBS)
            return answer.response_metadata

        metadata = self._fleet.ask(ask)
        read = metadata.get("prompt_eval_count") or 0
        if read >= self._context_tokens - 1:
            raise ModelFailure(f"Ollama cut the prompt at its context of {self._context_tokens} tokens")
        return metadata

    def structured(self, messages: Sequence[BaseMessage], schema: Mapping[str, Any], attempt: int = 0) -> str:
        plain = self._fitting(messages, _STRUCTURED_TOKENS)

        # greedy first; the same question put the same way would only give the same answer
        changed = {**_NO_LOGPROBS, "format": dict(schema), "seed": attempt, "temperature": 0.5 * attempt}

        def ask(chat: ChatOllama) -> str:
            bound = _limited(chat, _STRUCTURED_TOKENS).model_copy(update=changed)
            return str(bound.invoke(plain).content)

        return self._fleet.ask(ask)

    def stream(self, messages: Sequence[BaseMessage], max_tokens: int) -> Iterator[str]:
        plain = self._fitting(messages, max_tokens)

        def begin(chat: ChatOllama) -> Iterator[BaseMessage]:
            return _limited(chat, max_tokens).model_copy(update=_NO_LOGPROBS).stream(plain)

        for chunk in self._fleet.stream(begin):
            yield str(chunk.content)

    def clip(self, text: str, max_tokens: int) -> tuple[str, int]:
        return clip_by_estimate(text, max_tokens)

    def room(self, messages: Sequence[BaseMessage]) -> int:
        read = sum(estimated_tokens(str(message.content)) + _TEMPLATE_TOKENS for message in messages)
        return self._context_tokens - read - 1

    def close(self) -> None:
        """Nothing is ours: the server keeps its model by its own clock."""

    def _fitting(self, messages: Sequence[BaseMessage], answer_tokens: int) -> list[BaseMessage]:
        """The messages without a model's own tokens in them, which Ollama would obey; refused when they are too many.

        Ollama would cut an overlong prompt without a word, the record itself included.
        """
        over = answer_tokens - 1 - self.room(messages)
        if over > 0:
            raise ModelFailure(
                f"the prompt is about {over} tokens too long for the context of {self._context_tokens} tokens"
            )
        return [message.model_copy(update={"content": _powerless(str(message.content))}) for message in messages]


def _powerless(text: str) -> str:
    """The text with special tokens broken: `<|im_end|>` ends nothing as `< |im_end|>`."""
    return _SPECIAL.sub(r"\g<0> ", text)


def _limited(chat: ChatOllama, tokens: int) -> ChatOllama:
    # an option of the call would replace all others, the context's size among them
    return chat.model_copy(update={"num_predict": tokens})


def _first(hosts: Sequence[str], name: str) -> OllamaModel:
    failures = []
    for host in hosts:
        try:
            return without_examples(host, require_ollama(host, name))
        except ModelFailure as error:
            failures.append(str(error))
    raise ModelFailure("; ".join(failures))
