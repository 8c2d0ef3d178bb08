"""What every HTTP request passes before it is served: host, key, size; and how bodies are read."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

from fastapi import HTTPException, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent.core.settings import Settings

NDJSON = "application/x-ndjson"
_STREAMED = "/v1/verdicts"
_OPEN_PATHS = frozenset({"/healthz", "/readyz"})
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
_EVERY_ADDRESS = frozenset({"0.0.0.0", "::", ""})
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\[\]:/@\s]+)(?::\d{1,5})?")
# seconds
_SOON = 1.0
T = TypeVar("T")
_JSON = re.compile(r"application/(?:[\w.-]+\+)?json")


class GuardMiddleware:
    """Refuses requests to another host's name, without the API key, or with a body over the limit.

    The name is checked so that no web page can reach the server by a name of its own (DNS rebinding). A stream of
    NDJSON may be of any length: each of its lines has the limit.
    """

    def __init__(self, app: ASGIApp, chosen: Settings) -> None:
        self._app, self._key, self._limit = app, chosen.api_key, chosen.max_body_bytes
        bound = f"[{chosen.host}]" if ":" in chosen.host else chosen.host
        self._hosts = None if chosen.host in _EVERY_ADDRESS else _LOOPBACK | {bound.lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refused = self._refused(scope["path"], headers)
        if refused is not None:
            await refused(scope, receive, send)
            return
        limit = None if scope["path"] == _STREAMED and media_type(headers) == NDJSON else self._limit
        seen = 0

        async def limited() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if limit is not None and seen > limit:
                raise HTTPException(413, _too_large(limit))
            return message

        length = headers.get("content-length", "0")
        if limit is not None and length.isdecimal() and int(length) > limit:
            await _refusal(413, _too_large(limit))(scope, receive, send)
            return
        await self._app(scope, limited, send)

    def _refused(self, path: str, headers: Headers) -> JSONResponse | None:
        if self._hosts is not None:
            host = _HOST.fullmatch(headers.get("host", "").lower())
            if host is None or host[1] not in self._hosts:
                return _refusal(400, f"the Host header names no host served here: {', '.join(sorted(self._hosts))}")
        if self._key and path not in _OPEN_PATHS:
            given = headers.get("authorization", "").encode("utf-8", "replace")
            if not secrets.compare_digest(given, f"Bearer {self._key}".encode()):
                refusal = _refusal(401, "an API key is wanted: Authorization: Bearer KEY")
                refusal.headers["WWW-Authenticate"] = "Bearer"
                return refusal
        return None


def _refusal(status: int, detail: str) -> JSONResponse:
    return JSONResponse({"detail": detail}, status)


def _too_large(limit: int) -> str:
    return f"the body is longer than {limit} bytes"


def media_type(headers: Headers) -> str:
    """The content type, without its parameters."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


class JsonRequest(Request):
    """A request whose body, when it is no JSON, is refused in words; FastAPI and LangServe both read through it."""

    async def json(self) -> Any:
        try:
            return await super().json()
        except (ValueError, RecursionError) as error:
            raise HTTPException(422, f"the body is not JSON that can be read: {error}") from error


class JsonRoute(APIRoute):
    """A route that reads `JsonRequest`, and from a POST or PUT takes only JSON that says it is JSON.

    A web page of another origin cannot send that content type unasked, so that it can neither judge nor correct.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def read(request: Request) -> Response:
            if request.method in ("POST", "PUT"):
                given = media_type(request.headers)
                if not (_JSON.fullmatch(given) or (given == NDJSON and request.url.path == _STREAMED)):
                    wanted = f"application/json{f' or {NDJSON}' if request.url.path == _STREAMED else ''}"
                    raise HTTPException(415, f"the content type is {given or 'missing'!r}; send {wanted}")
            return await handler(JsonRequest(request.scope, request.receive))

        return read


class Duplex(StreamingResponse):
    """A response that is sent while the request's body is still read: nothing else may take messages off it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.stream_response(send)


async def cancel_on_disconnect(request: Request, answer: Coroutine[Any, Any, T]) -> T:
    """The answer to a request whose body was read; given up when who asked has gone.

    Raises:
        ClientDisconnect: nobody waits for it any more.
    """
    answering = asyncio.ensure_future(answer)
    try:
        # most answers come before it is worth while to look
        if not (await asyncio.wait({answering}, timeout=_SOON))[0]:
            leaving = asyncio.ensure_future(request.receive())
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
            leaving.cancel()
            if not answering.done():
                raise ClientDisconnect
        return await answering
    finally:
        answering.cancel()


async def lines(request: Request, limit: int) -> AsyncIterator[list[tuple[int, bytes | None]]]:
    """The numbered lines of the body, as many at a time as have arrived; None for one over ``limit`` bytes."""
    number, rest, over = 1, bytearray(), False
    async for chunk in request.stream():
        arrived: list[tuple[int, bytes | None]] = []
        *ended, begun = chunk.split(b"\n")
        for piece in ended:
            rest += piece
            arrived.append((number, None if over or len(rest) > limit else bytes(rest)))
            number, over = number + 1, False
            rest.clear()
        rest += begun
        if over or len(rest) > limit:
            over = True
            rest.clear()
        if arrived:
            yield arrived
    if rest or over:
        yield [(number, None if over else bytes(rest))]
