"""LangChain's client of a server with OpenAI's interface, and what the server says of its models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx
import openai
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from llm.errors import ModelFailure
from llm.host_pool import ClientErrors
from llm.http_deadline import hooks
from llm.openai.address import ServedModel

CONNECT_SECONDS = 3.0
_LIST_SECONDS = 5.0
_LONGEST_REASON = 300
_KEY_HINT = "set PRECEDENT_OPENAI_API_KEY to the server's key"
# servers that do not list their models
_NO_LIST = (404, 405, 501)


@dataclass(frozen=True)
class ServerErrors:
    """The texts of errors, without the key that a server may repeat in them."""

    key: str | None

    def reason(self, error: Exception) -> str:
        """What an error says, in one line."""
        status = status_of(error)
        if isinstance(error, openai.APITimeoutError | httpx.TimeoutException):
            return "no answer in time"
        if status in (401, 403):
            return f"it does not accept the key (HTTP {status}): {_KEY_HINT}"
        cause = error.__cause__
        while isinstance(error, openai.APIConnectionError) and cause is not None:
            error, cause = (cause if isinstance(cause, Exception) else error), cause.__cause__
        if isinstance(error, TypeError | LookupError | AttributeError):
            return "its reply is not of OpenAI's form"
        text = self.shown(str(error) or type(error).__name__)
        if isinstance(error, ValueError):
            return f"its reply is not of OpenAI's form: {text}"
        return text if status is None or str(status) in text else f"HTTP {status}: {text}"

    def shown(self, text: str) -> str:
        """A text of the server as one printable line of limited length."""
        text = text.replace(self.key, "***") if self.key else text
        line = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
        return line if len(line) <= _LONGEST_REASON else line[: _LONGEST_REASON - 1] + "…"

    def of_client(self) -> ClientErrors:
        """What the errors of the client mean."""
        return ClientErrors(
            server="the model server",
            # LangChain raises all but the first two for a reply that is not of OpenAI's form
            types=(openai.OpenAIError, httpx.HTTPError, ValueError, TypeError, LookupError, AttributeError),
            status=status_of,
            reason=self.reason,
            full=frozenset({429, 503}),
        )


def status_of(error: BaseException) -> int | None:
    """The HTTP status of an error of the client."""
    return error.status_code if isinstance(error, openai.APIStatusError) else None


def http_client() -> httpx.Client:
    """A client that follows no redirects: they would send records to a server that no setting names."""
    return httpx.Client(follow_redirects=False, event_hooks=hooks())


def limit(seconds: float) -> httpx.Timeout:
    """The timeout of a request that may take so long."""
    return httpx.Timeout(seconds, connect=min(seconds, CONNECT_SECONDS))


def chat_openai(model: ServedModel, key: str | None, client: httpx.Client, timeout: float) -> ChatOpenAI:
    """Return a chat model for verdicts: greedy, seeded, without retries (`llm.host_pool` has them)."""
    return ChatOpenAI(
        model=model.name,
        base_url=model.url,
        # the client demands one; a server without keys ignores it
        api_key=SecretStr(key or "none"),
        temperature=0.0,
        seed=0,
        timeout=limit(timeout),
        max_retries=0,
        http_client=client,
        use_responses_api=False,
    )


def context_tokens_of(model: ServedModel, key: str | None, client: httpx.Client) -> int | None:
    """Ask the server whether it has a model; return the length of its context, where the server tells it (vLLM).

    Raises
    ------
    ModelFailure
        No such server, no such model, or the key is wrong.
    """
    errors = ServerErrors(key)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with errors.of_client().mapped(f"no model server with OpenAI's interface at {model.url}"):
        reply = client.get(f"{model.url}/models", headers=headers, timeout=limit(_LIST_SECONDS))
        if reply.status_code in (401, 403):
            raise ModelFailure(f"the model server at {model.url} does not accept the key", _KEY_HINT)
        if reply.status_code in _NO_LIST:
            return None
        if not reply.is_success:
            raise ValueError(f"HTTP {reply.status_code}: {reply.text}")
        listed: list[dict[str, Any]] = list(reply.json()["data"])
        names = [str(entry["id"]) for entry in listed]
    if model.name not in names:
        has = errors.shown(", ".join(sorted(names)[:8])) or "none"
        raise ModelFailure(f"{no_such_model(model)}; its models: {has}")
    length = listed[names.index(model.name)].get("max_model_len")
    return length if isinstance(length, int) and length > 0 else None


def no_such_model(model: ServedModel) -> str:
    """The message that the server does not have the model."""
    return f"the model server at {model.url} has no model {model.name!r}"
