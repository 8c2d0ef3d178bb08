"""Limits on the time of an HTTP reply: httpx limits the wait for each byte alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import httpx

_DEADLINE: ContextVar[float | None] = ContextVar("precedent_reply_deadline", default=None)


@contextmanager
def complete_within(seconds: float) -> Iterator[None]:
    """Within it, replies of clients with `hooks` must be complete in this time; `httpx.ReadTimeout` if they are not."""
    token = _DEADLINE.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _DEADLINE.reset(token)


def hooks() -> dict[str, list[Callable[[Any], None]]]:
    """Event hooks of a client: outside of `complete_within`, each line of a reply has the request's timeout."""
    return {"request": [_start], "response": [_limit]}


def _start(request: httpx.Request) -> None:
    request.extensions["deadline"] = _DEADLINE.get()


def _limit(response: httpx.Response) -> None:
    if isinstance(response.stream, httpx.SyncByteStream):
        response.stream = _LimitedStream(response.stream, response.request)


class _LimitedStream(httpx.SyncByteStream):
    """The body of a response; a timeout when it, or its next line, is late, however often a byte comes."""

    def __init__(self, stream: httpx.SyncByteStream, request: httpx.Request) -> None:
        self._stream, self._request = stream, request

    def __iter__(self) -> Iterator[bytes]:
        whole, seconds = self._request.extensions["deadline"], self._request.extensions["timeout"]["read"]
        began = time.monotonic()
        for block in self._stream:
            yield block
            now = time.monotonic()
            if b"\n" in block:
                began = now
            if now > whole if whole is not None else seconds is not None and now - began > seconds:
                raise httpx.ReadTimeout("the reply was not complete in time", request=self._request)

    def close(self) -> None:
        self._stream.close()
