"""A model on one or more Ollama servers as a `ChatBackend`, through LangChain's ChatOllama."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_ollama import ChatOllama

from llm.base import TOP_LOGPROBS, read_answers
from llm.errors import ModelFailure, NoLogProbabilities
from llm.host_pool import Host, HostPool
from llm.http_deadline import complete_within
from llm.ollama.client import OllamaModel, chat_ollama, no_such_model, require_ollama, without_examples
from llm.ollama.errors import OLLAMA_ERRORS
from llm.served_backend import STRUCTURED_TOKENS, ServedBackend

_NO_LOGPROBS = {"logprobs": None, "top_logprobs": None}


class OllamaBackend(ServedBackend):
    """A `ChatBackend` on a pool of servers; its methods are documented there.

    Tokens are counted by an estimate that errs on the safe side, as Ollama has no tokenizer in its interface.
    """

    def __init__(self, model: OllamaModel, pool: HostPool[ChatOllama], context_tokens: int, timeout: float) -> None:
        self.name, self.sha256 = f"ollama:{model.name.removesuffix(':latest')}", model.digest
        self.adapter_sha256 = model.adapter_sha256
        super().__init__(context_tokens)
        self._pool, self._timeout = pool, timeout

    def with_adapter(self, path: Path, sha256: str, weights_sha256: str) -> OllamaBackend:
        """Itself: an adapter is part of a model when that is created on the server."""
        return self

    @classmethod
    def connect(
        cls, hosts: Sequence[str], name: str, *, context_tokens: int, timeout: float, threads: int | None = None
    ) -> OllamaBackend:
        """Find a model on servers; the first one that has it now determines the digest, others may answer later.

        The options are those of `chat_ollama`; the context is limited to the one that the model was trained for. Raises
        ModelFailure when no server has the model now; the message says for each what is missing.
        """
        failures = []
        for host in hosts:
            try:
                model = without_examples(host, require_ollama(host, name))
                break
            except ModelFailure as error:
                failures.append(error)
        else:
            hints = dict.fromkeys(failure.hint for failure in failures if failure.hint)
            raise ModelFailure("; ".join(map(str, failures)), "; ".join(hints) or None)
        context = min(context_tokens, model.context_tokens or context_tokens)
        chats = [
            chat_ollama(host, model.name, context_tokens=context, timeout=timeout, threads=threads) for host in hosts
        ]
        servers = [Host(str(chat.base_url), chat, OLLAMA_ERRORS) for chat in chats]
        pool = HostPool(servers, OLLAMA_ERRORS, lambda url: no_such_model(url, model.name), timeout)
        return cls(model, pool, context, timeout)

    def answer_log_probabilities(self, messages: Sequence[BaseMessage], answers: Sequence[str]) -> dict[str, float]:
        """The natural logarithm of each answer's probability; raises `NoLogProbabilities` if there is none."""
        logprobs = self.first_token(messages).get("logprobs")
        if not logprobs:
            raise NoLogProbabilities(f"{self.name} returns no log-probabilities")
        return read_answers(logprobs[0], answers)

    def first_token(self, messages: Sequence[BaseMessage]) -> Mapping[str, Any]:
        """Return a reply's metadata after one token: ``logprobs``, token counts and durations, as Ollama names them."""
        prompt = self._prompt(messages, 1)

        def call(chat: ChatOllama) -> Mapping[str, Any]:
            with complete_within(self._timeout):
                reply = _limited(chat, 1).invoke(prompt, logprobs=True, top_logprobs=TOP_LOGPROBS)
            return reply.response_metadata

        metadata = self._pool.call(call)
        read = metadata.get("prompt_eval_count") or 0
        if read >= self._context_tokens - 1:
            raise ModelFailure(f"Ollama truncated the prompt at its context of {self._context_tokens} tokens")
        return metadata

    def structured(self, messages: Sequence[BaseMessage], schema: Mapping[str, Any], attempt: int = 0) -> str:
        """A reply in the JSON schema; attempt 0 is greedy, others are sampled with the attempt as seed."""
        prompt = self._prompt(messages, STRUCTURED_TOKENS)
        # Greedy first; greedy again would give the same reply.
        changes = {**_NO_LOGPROBS, "format": dict(schema), "seed": attempt, "temperature": 0.5 * attempt}

        def call(chat: ChatOllama) -> str:
            with complete_within(self._timeout):
                return str(_limited(chat, STRUCTURED_TOKENS, changes).invoke(prompt).content)

        return self._pool.call(call)

    def stream(self, messages: Sequence[BaseMessage], max_tokens: int) -> Iterator[str]:
        """Yield the reply piece by piece."""
        prompt = self._prompt(messages, max_tokens)
        for chunk in self._pool.stream(lambda chat: _limited(chat, max_tokens, _NO_LOGPROBS).stream(prompt)):
            yield str(chunk.content)

    def close(self) -> None:
        """Do nothing: the server unloads its models itself."""


def _limited(chat: ChatOllama, tokens: int, changes: Mapping[str, Any] | None = None) -> ChatOllama:
    # An option passed with the call would replace all others, the size of the context among them.
    return chat.model_copy(update={"num_predict": tokens, **(changes or {})})
