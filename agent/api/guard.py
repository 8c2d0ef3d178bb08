"""Which requests are served: to the right host, with a key whose role is enough, with a body that is not too long."""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Callable
from contextlib import suppress

from fastapi import HTTPException
from fastapi.responses import RedirectResponse, Response
from sqlalchemy import Engine
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent.api.bodies import NDJSON, STREAMED_PATH, UPLOAD_BYTES, UPLOAD_PATH, media_type
from agent.api.console.session import COOKIE
from agent.api.console.sign_in import LOGIN_PATH, LOGOUT_PATH, SignIn, login_location
from agent.api.key_ring import KeyRing
from agent.api.middleware import CALLER_STATE, last_piece, refusal
from agent.api.rate_limit import RateLimiter, WrongKeys
from agent.api.roles import needed_role
from agent.core.access import Caller, Role, calling_as, missing_role
from agent.core.errors import EXPECTED, translate
from agent.core.logs import log_event
from agent.core.settings import Settings

_UNPROTECTED_PATHS = frozenset({"/healthz", "/readyz"})
_ASSET_PREFIXES = ("/_nicegui", "/console/static/", "/static-offline-docs")
_CONSOLE_PREFIXES = ("/_nicegui", "/console/")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
_EVERY_ADDRESS = frozenset({"0.0.0.0", "::", ""})
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\[\]:/@\s]+)(?::\d{1,5})?")
_BEARER = "Bearer "
# bodies of requests that are held in memory at a time, as a multiple of the longest; bytes that each may have whatever
# the others have
_BODIES_HELD, _ALWAYS_HELD = 16, 64 * 1024
_RETRY = {"Retry-After": "1"}
# seconds after which the key of a request that goes on is checked again
_CHECKED = 2.0
_ENDED = "the API key of this request is not accepted any more: the rest was cancelled"


def allowed_hosts(settings: Settings) -> frozenset[str] | None:
    """The names, without a port, under which the server may be reached; None: any, because it binds to any address."""
    bound = f"[{settings.host}]" if ":" in settings.host else settings.host
    return None if settings.host in _EVERY_ADDRESS else _LOOPBACK | {bound.lower()}


class _KeyRequired(Exception):
    """There are keys, and the request has none of them."""


class _TooOften(Exception):
    """Too many requests with a key, or too many wrong keys from an address."""

    def __init__(self, message: str, wait: float) -> None:
        super().__init__(message)
        self.wait = wait


class GuardMiddleware:
    """Refuses requests to another host's name, without an API key of the role that the route needs, or too long ones.

    The name is checked so that no web page can reach the server under another name (DNS rebinding). Starlette's
    `TrustedHostMiddleware` answers plain text, and FastAPI's `HTTPBearer` does not protect `/docs`, `/metrics` and
    LangServe. A stream of NDJSON may be of any length: the limit holds for each of its lines. Where there is a key, a
    browser that is not signed in is sent to a page that takes it. What goes on when its key ends is cut off.
    """

    def __init__(self, app: ASGIApp, settings: Settings, ring: KeyRing, store: Callable[[], Engine]) -> None:
        self._app, self._limit = app, settings.max_body_bytes
        self._ring, self._wrong_keys = ring, WrongKeys()
        self._sign_in = SignIn(settings.api_key, self._ring, self._wrong_keys, store)
        self._hosts = allowed_hosts(settings)
        self._requests = RateLimiter()
        # bytes of the bodies of all requests that are served now
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request or pass it on, with a limit on the size of its body."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        caller: Caller | None = None
        answer: ASGIApp | None = self._wrong_address(scope, headers)
        if answer is None and scope["path"] not in _UNPROTECTED_PATHS:
            answer, caller = await self._check_key(scope, headers)
        if answer is not None and scope["type"] == "websocket":
            # closed before it is accepted: the server answers 403
            await send({"type": "websocket.close", "code": 1008})
            return
        if answer is not None:
            await answer(scope, receive, send)
            return
        with calling_as(caller):
            if scope["type"] == "websocket":
                await self._app(scope, self._until_ended(headers, scope, receive, send), send)
            elif scope["path"] in _UNPROTECTED_PATHS:
                await self._within_limits(scope, headers, receive, send)
            else:
                await self._while_accepted(scope, headers, receive, send)

    def _wrong_address(self, scope: Scope, headers: Headers) -> Response | None:
        """The refusal of a request for another host, or to the console from another page."""
        if self._hosts is not None:
            host = _HOST.fullmatch(headers.get("host", "").lower())
            if host is None or host[1] not in self._hosts:
                return refusal(400, f"the Host header must name one of: {', '.join(sorted(self._hosts))}")
        if scope["path"].startswith(_CONSOLE_PREFIXES) and not _is_same_origin(headers):
            return refusal(403, "the console answers only its own pages")
        return None

    async def _check_key(self, scope: Scope, headers: Headers) -> tuple[ASGIApp | None, Caller | None]:
        """The refusal of a request, or the page that signs in; None for a request to pass on, and whose it is."""
        path = scope["path"]
        try:
            if path in (LOGIN_PATH, LOGOUT_PATH) and await self._ring.is_needed():
                return self._sign_in, None
            caller = await self._caller_of(scope, headers)
            self._count(caller, path)
        except _TooOften as error:
            answer = refusal(429, str(error))
            answer.headers["Retry-After"] = str(math.ceil(error.wait))
            return answer, None
        except _KeyRequired:
            if scope["type"] == "http" and scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
                return RedirectResponse(login_location(path, scope["query_string"]), 303), None
            answer = refusal(401, "an API key is required: Authorization: Bearer KEY")
            answer.headers["WWW-Authenticate"] = "Bearer"
            return answer, None
        except EXPECTED as error:
            expected = translate(error)
            assert expected is not None
            log_event("API keys cannot be checked", "error", reason=str(expected))
            return refusal(expected.http_status, f"API keys cannot be checked: {expected}"), None
        if caller is not None and caller.role < Role.ADMIN:
            needed = needed_role(scope["app"], scope)
            if caller.role < needed:
                return refusal(403, missing_role(needed, caller)), None
        return None, caller

    async def _caller_of(self, scope: Scope, headers: Headers) -> Caller | None:
        """Whose request it is; None where there are no keys.

        Raises
        ------
        _KeyRequired
            There are keys, and the request has none of them.
        _TooOften
            Too many wrong keys have come from the address of the request.
        """
        caller = await self._find_caller(scope, headers)
        if caller is not None:
            scope.setdefault("state", {})[CALLER_STATE] = {"key": caller.name}
        return caller

    async def _find_caller(self, scope: Scope, headers: Headers) -> Caller | None:
        authorization, connection = headers.get("authorization", ""), HTTPConnection(scope)
        if authorization.startswith(_BEARER):
            guesses = self._wrong_keys.wait(connection) > 0
            for key in _readings(authorization.removeprefix(_BEARER)):
                if (caller := await self._ring.caller_of(key, guesses=guesses)) is not None:
                    return caller
        caller = await self._sign_in.caller_of(connection.cookies.get(COOKIE))
        if caller is not None or not await self._ring.is_needed():
            return caller
        if authorization and (wait := self._wrong_keys.count(connection)):
            raise _TooOften("too many wrong API keys have come from this address", wait)
        raise _KeyRequired

    def _count(self, caller: Caller | None, path: str) -> None:
        """Count a request of a key that may call only so often; the parts of a page are not counted.

        Raises
        ------
        _TooOften
        """
        if caller is None or caller.rate is None or path.startswith(_ASSET_PREFIXES):
            return
        if wait := self._requests.take(caller.name, caller.rate):
            raise _TooOften(f"the API key {caller.name!r} may make at most {caller.rate} requests", wait)

    async def _within_limits(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        """Serve the request unless its body, or the bodies of all requests at the time, are too long."""
        limit = self._body_limit(scope["path"], headers)
        received = held = 0
        # others are passed on piece by piece
        is_held = limit is not None and scope["path"] != UPLOAD_PATH

        async def limited() -> Message:
            nonlocal received, held
            message = await receive()
            size = len(message.get("body", b""))
            received += size
            if limit is not None and received > limit:
                raise HTTPException(413, _too_large(limit))
            if is_held:
                if received > _ALWAYS_HELD and self._held + size > _BODIES_HELD * self._limit:
                    raise HTTPException(429, "too many long requests are being served: try again", _RETRY)
                held += size
                self._held += size
            return message

        length = headers.get("content-length", "0")
        if limit is not None and length.isdecimal() and int(length) > limit:
            await refusal(413, _too_large(limit))(scope, receive, send)
            return
        try:
            await self._app(scope, limited, send)
        finally:
            self._held -= held

    def _body_limit(self, path: str, headers: Headers) -> int | None:
        if path == UPLOAD_PATH:
            return UPLOAD_BYTES
        return None if path == STREAMED_PATH and media_type(headers) == NDJSON else self._limit

    async def _is_accepted(self, scope: Scope, headers: Headers) -> bool:
        """Whether a request that was served is still one to serve."""
        try:
            await self._caller_of(scope, headers)
        except (_KeyRequired, _TooOften):
            return False
        except EXPECTED as error:
            # the request that is served goes on as long as nobody knows better
            log_event("API keys cannot be checked", "warning", reason=str(translate(error)))
        return True

    async def _while_accepted(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        """Serve the request; one that streams is cut off when its key is not accepted any more."""
        clock = asyncio.get_running_loop().time
        checked_at, answered_as, is_ended = time.monotonic(), "", False
        is_begun = False

        async def check() -> None:
            nonlocal checked_at, is_ended
            if time.monotonic() - checked_at < _CHECKED:
                return
            checked_at = time.monotonic()
            if not await self._is_accepted(scope, headers):
                is_ended = True
                limit.reschedule(clock())
                await asyncio.sleep(_CHECKED)

        async def send_while_accepted(message: Message) -> None:
            nonlocal answered_as, is_begun
            if message["type"] == "http.response.start":
                answered_as, is_begun = media_type(Headers(raw=message["headers"])), True
            elif message.get("more_body"):
                await check()
            await send(message)

        async def receive_while_accepted() -> Message:
            message = await receive()
            if message.get("more_body"):
                await check()
            return message

        try:
            async with asyncio.timeout(None) as limit:
                await self._within_limits(scope, headers, receive_while_accepted, send_while_accepted)
        except TimeoutError:
            if not is_ended:
                raise
            log_event("request cut off", "warning", reason="its API key is not accepted any more")
            if is_begun:
                await send({"type": "http.response.body", "body": last_piece(answered_as, 401, _ENDED)})
            else:
                await refusal(401, _ENDED)(scope, receive, send)

    def _until_ended(self, headers: Headers, scope: Scope, receive: Receive, send: Send) -> Receive:
        """The messages of a page's socket, until its session or its key has ended: then it is closed."""

        async def checked() -> Message:
            message = await receive()
            if message["type"] == "websocket.receive" and not await self._is_accepted(scope, headers):
                await send({"type": "websocket.close", "code": 1008})
                return {"type": "websocket.disconnect", "code": 1008}
            return message

        return checked


def _is_same_origin(headers: Headers) -> bool:
    """Whether a request comes from a page of this server, or from no page."""
    origin = headers.get("origin")
    return origin is None or origin.partition("://")[2].lower() == headers.get("host", "").lower()


def _readings(sent: str) -> list[str]:
    """What a key in a header may mean, which is read as Latin-1: some clients send UTF-8."""
    readings = [sent]
    if not sent.isascii():
        with suppress(UnicodeDecodeError):
            readings.append(sent.encode("latin-1").decode())
    return readings


def _too_large(limit: int) -> str:
    return f"the body is longer than {limit} bytes"
