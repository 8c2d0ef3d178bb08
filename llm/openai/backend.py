"""A model on a server with OpenAI's interface as a `ChatBackend`, through LangChain's ChatOpenAI."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import openai
from langchain_core.messages import BaseMessage
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field, ValidationError

from llm.base import TOP_LOGPROBS, read_answers
from llm.errors import ModelFailure, NoLogProbabilities
from llm.host_pool import Host, HostPool
from llm.http_deadline import complete_within
from llm.openai.address import ServedModel
from llm.openai.client import ServerErrors, chat_openai, context_tokens_of, http_client, limit, no_such_model
from llm.served_backend import STRUCTURED_TOKENS, ServedBackend

# Servers allow different numbers of alternatives; the first that is accepted is kept.
_TOP: tuple[int, ...] = (TOP_LOGPROBS, 5)
# Rounding makes log-probabilities slightly positive on some servers.
_ROUNDING = 1e-3


class _Token(BaseModel):
    token: str
    logprob: float = Field(le=_ROUNDING, allow_inf_nan=False)


class _FirstToken(_Token):
    top_logprobs: list[_Token] = Field(default_factory=list)


class OpenAIBackend(ServedBackend):
    """A `ChatBackend` on a server; its methods are documented there.

    Tokens are counted by an estimate that errs on the safe side. The server does not tell a hash of its weights: a
    model is identified by its name and the server's URL.
    """

    def __init__(
        self, model: ServedModel, chat: ChatOpenAI, key: str | None, context_tokens: int, timeout: float
    ) -> None:
        self.name, self.sha256, self.adapter_sha256 = model.spec, None, None
        self._errors = ServerErrors(key)
        super().__init__(context_tokens)
        self._timeout, self._top = timeout, _TOP
        errors = self._errors.of_client()
        self._pool = HostPool([Host(model.url, chat, errors)], errors, lambda _: no_such_model(model), timeout)

    def with_adapter(self, path: Path, sha256: str, weights_sha256: str) -> OpenAIBackend:
        """Itself: a server has its adapters under names of their own."""
        return self

    @classmethod
    def connect(cls, model: ServedModel, key: str | None, *, context_tokens: int, timeout: float) -> OpenAIBackend:
        """Find the model on its server. Raises ModelFailure, which says what is missing."""
        client = http_client()
        try:
            served = context_tokens_of(model, key, client)
        except ModelFailure:
            client.close()
            raise
        chat = chat_openai(model, key, client, timeout)
        return cls(model, chat, key, min(context_tokens, served or context_tokens), timeout)

    def answer_log_probabilities(self, messages: Sequence[BaseMessage], answers: Sequence[str]) -> dict[str, float]:
        """The natural logarithm of each answer's probability; raises `NoLogProbabilities` if there is none."""
        prompt = self._prompt(messages, 1)
        while self._top:
            try:
                metadata = self._invoke(prompt, 1, logprobs=True, top_logprobs=self._top[0])[1]
                break
            except ModelFailure as error:
                if not _refuses_logprobs(error.__cause__):
                    raise
                self._top = self._top[1:]
        else:
            raise NoLogProbabilities(f"{self.name} does not return log-probabilities")
        content = (metadata.get("logprobs") or {}).get("content")
        if not content:
            raise NoLogProbabilities(f"{self.name} returns no log-probabilities")
        try:
            first = _FirstToken.model_validate(content[0])
        except ValidationError as error:
            where = ".".join(map(str, error.errors()[0]["loc"]))
            raise ModelFailure(f"the log-probabilities of {self.name} are not valid: {where}") from error
        return read_answers(first.model_dump(), answers)

    def structured(self, messages: Sequence[BaseMessage], schema: Mapping[str, Any], attempt: int = 0) -> str:
        """A reply in the JSON schema; attempt 0 is greedy, others are sampled with the attempt as seed."""
        prompt = self._prompt(messages, STRUCTURED_TOKENS)
        form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": dict(schema), "strict": True}}
        sampled = {"seed": attempt, "temperature": 0.5 * attempt}
        return self._invoke(prompt, STRUCTURED_TOKENS, {"response_format": form}, **sampled)[0]

    def stream(self, messages: Sequence[BaseMessage], max_tokens: int) -> Iterator[str]:
        """Yield the reply piece by piece."""
        prompt = self._prompt(messages, max_tokens)
        for chunk in self._pool.stream(lambda chat: chat.stream(prompt, extra_body={"max_tokens": max_tokens})):
            yield str(chunk.content)

    def close(self) -> None:
        """Close the connections."""
        for host in self._pool.hosts:
            host.chat.http_client.close()

    def _invoke(
        self, prompt: list[BaseMessage], tokens: int, body: Mapping[str, Any] | None = None, **options: Any
    ) -> tuple[str, Mapping[str, Any]]:
        """The text and the metadata of a reply, within the time limit, waiting for a full queue included."""
        deadline = time.monotonic() + self._timeout

        def call(chat: ChatOpenAI) -> tuple[str, Mapping[str, Any]]:
            left = max(deadline - time.monotonic(), 0.1)
            # not `max_tokens`: LangChain renames that to a parameter that few servers but OpenAI's know
            extra = {"max_tokens": tokens, **(body or {})}
            with complete_within(left):
                reply = chat.invoke(prompt, extra_body=extra, timeout=limit(left), **options)
            return str(reply.content), reply.response_metadata

        return self._pool.call(call)


def _refuses_logprobs(error: BaseException | None) -> bool:
    return isinstance(error, openai.APIStatusError) and error.status_code in (400, 422) and "logprob" in str(error)
