"""Errors of Ollama's client and of HTTP, mapped to `ModelFailure`."""

from __future__ import annotations

import httpx
import ollama

from llm.host_pool import ClientErrors


def _reason(error: Exception) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    if isinstance(error, TypeError | LookupError | AttributeError):
        return "its reply is not of Ollama's form"
    return str(error) or type(error).__name__


def _status(error: BaseException) -> int | None:
    # A stream that breaks off gives an error with status -1.
    return error.status_code if isinstance(error, ollama.ResponseError) else None


OLLAMA_ERRORS = ClientErrors(
    server="Ollama",
    # ConnectionError is what ollama's client raises in place of httpx.ConnectError, the others a reply of another form
    types=(httpx.HTTPError, ollama.ResponseError, ConnectionError, ValueError, TypeError, LookupError, AttributeError),
    status=_status,
    reason=_reason,
    full=frozenset({503}),
)
mapped = OLLAMA_ERRORS.mapped
