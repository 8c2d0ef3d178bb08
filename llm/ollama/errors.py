"""Errors of Ollama's client and of HTTP, mapped to `ModelFailure`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import ollama

from llm.errors import ModelFailure

# ConnectionError is what ollama's client raises in place of httpx.ConnectError, ValueError an unreadable reply.
OLLAMA_ERRORS = (httpx.HTTPError, ollama.ResponseError, ConnectionError, ValueError)


@contextmanager
def mapped(context: str, hint: str | None = None) -> Iterator[None]:
    """Raise the errors of a request as `ModelFailure`, whose message is ``context`` and the reason."""
    try:
        yield
    except OLLAMA_ERRORS as error:
        raise ModelFailure(f"{context}: {reason(error)}", hint) from error


def reason(error: Exception) -> str:
    """Return what an error says, never an empty text."""
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    return str(error) or type(error).__name__
