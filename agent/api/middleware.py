"""Middleware of all HTTP requests: log line and request id, host, API key, body limit and time limit."""

from __future__ import annotations

import asyncio
import json
import random
import re
import secrets
import time
from collections.abc import Callable

from fastapi import HTTPException
from fastapi.responses import JSONResponse, RedirectResponse
from sqlalchemy import Engine
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from agent.api.bodies import NDJSON, STREAMED_PATH, UPLOAD_BYTES, UPLOAD_PATH, media_type
from agent.api.console.session import COOKIE, LOGIN_PATH, LOGOUT_PATH, Sessions, login_location
from agent.core.errors import translate
from agent.core.logs import log_error, log_event
from agent.core.settings import Settings

_UNPROTECTED_PATHS = frozenset({"/healthz", "/readyz"})
_PROBE_PATHS = _UNPROTECTED_PATHS | {"/metrics"}
# assets and messages of the console, of which one page has dozens
_CONSOLE_PREFIXES = ("/_nicegui", "/console/")
_QUIET_PREFIXES = ("/_nicegui", "/console/static/", "/console/jobs/")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
_EVERY_ADDRESS = frozenset({"0.0.0.0", "::", ""})
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\[\]:/@\s]+)(?::\d{1,5})?")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# ids need not be secret; `uuid4` makes a system call for each, at which a busy process loses its turn
_request_ids = random.Random()
# Of answers without their own: a page loads nothing from elsewhere and is in no frame. LangServe's playgrounds and
# FastAPI's documentation have scripts in their pages.
_SECURITY_HEADERS = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'self'",
            "script-src 'self' 'unsafe-inline'",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
# the playground of forms compiles the schema of its form
_FORMS, _SCRIPTS = "/verdict/playground", "script-src 'self' 'unsafe-inline'"
_POLICY_OF_FORMS = _SECURITY_HEADERS["Content-Security-Policy"].replace(_SCRIPTS, f"{_SCRIPTS} 'unsafe-eval'")


class RequestLogMiddleware:
    """Logs each request once, with its id, and answers an unexpected error with a 500.

    The id is the client's ``X-Request-ID`` where that is 1 to 64 letters, digits, dots, hyphens or underscores, else a
    new one. The answer and every event of the request carry it. The answer gets the security headers as well.
    """

    def __init__(self, app: ASGIApp, is_stopping: Callable[[], bool]) -> None:
        self._app, self._is_stopping = app, is_stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request with an id and log it once."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sent_id = Headers(scope=scope).get("x-request-id", "")
        request_id = sent_id if _REQUEST_ID.fullmatch(sent_id) else f"{_request_ids.getrandbits(128):032x}"
        started, status, finished = time.perf_counter(), 0, False

        def finish() -> None:
            nonlocal finished
            if finished:
                return
            finished = True
            log_event(
                "request",
                "debug" if scope["path"] in _PROBE_PATHS or scope["path"].startswith(_QUIET_PREFIXES) else "info",
                method=scope["method"],
                path=scope["path"],
                status=status,
                ms=round(1e3 * (time.perf_counter() - started), 1),
                **scope.get("state", {}).get("logged", {}),
            )

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                if self._is_stopping():
                    # the next request goes to another server
                    headers["Connection"] = "close"
                if scope["path"].startswith(_FORMS):
                    headers["Content-Security-Policy"] = _POLICY_OF_FORMS
                for name, value in _SECURITY_HEADERS.items():
                    # pages of the console have a stricter policy
                    headers.setdefault(name, value)
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                # background tasks run after this
                finish()

        with bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, send_with_id)
            except Exception as error:
                if expected := translate(error):
                    # of a background task: the request was answered
                    log_event("request failed", "error", path=scope["path"], reason=str(expected))
                else:
                    log_error("request failed", error, method=scope["method"], path=scope["path"])
                if not status:
                    detail = f"internal error; the server's log has the details of request {request_id}"
                    await _refusal(500, detail)(scope, receive, send_with_id)
            finally:
                finish()


def allowed_hosts(settings: Settings) -> frozenset[str] | None:
    """The names, without a port, under which the server may be reached; None: any, because it binds to any address."""
    bound = f"[{settings.host}]" if ":" in settings.host else settings.host
    return None if settings.host in _EVERY_ADDRESS else _LOOPBACK | {bound.lower()}


class GuardMiddleware:
    """Refuses requests to another host's name, without the API key, or with a body over the limit.

    The name is checked so that no web page can reach the server under another name (DNS rebinding). Starlette's
    `TrustedHostMiddleware` answers plain text, and FastAPI's `HTTPBearer` does not protect `/docs`, `/metrics` and
    LangServe. A stream of NDJSON may be of any length: the limit holds for each of its lines. Where there is a key, a
    browser that is not signed in is sent to a page that takes it.
    """

    def __init__(self, app: ASGIApp, settings: Settings, store: Callable[[], Engine]) -> None:
        self._app, self._key, self._limit = app, settings.api_key, settings.max_body_bytes
        self._sessions = Sessions(settings.api_key, store()) if settings.api_key else None
        self._hosts = allowed_hosts(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request or pass it on, with a limit on the size of its body."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        answer = self._answer(scope, headers)
        if answer is not None and scope["type"] == "websocket":
            # closed before it is accepted: the server answers 403
            await send({"type": "websocket.close", "code": 1008})
            return
        if answer is not None:
            await answer(scope, receive, send)
            return
        if scope["type"] == "websocket" and self._sessions is not None:
            await self._app(scope, _until_ended(self._sessions, scope, receive, send), send)
            return
        limit = self._body_limit(scope["path"], headers)
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if limit is not None and received > limit:
                raise HTTPException(413, _too_large(limit))
            return message

        length = headers.get("content-length", "0")
        if limit is not None and length.isdecimal() and int(length) > limit:
            await _refusal(413, _too_large(limit))(scope, receive, send)
            return
        await self._app(scope, limited, send)

    def _body_limit(self, path: str, headers: Headers) -> int | None:
        if path == UPLOAD_PATH:
            return UPLOAD_BYTES
        return None if path == STREAMED_PATH and media_type(headers) == NDJSON else self._limit

    def _answer(self, scope: Scope, headers: Headers) -> ASGIApp | None:
        """The refusal of a request, or the page that signs in; None for a request to pass on."""
        path = scope["path"]
        if self._hosts is not None:
            host = _HOST.fullmatch(headers.get("host", "").lower())
            if host is None or host[1] not in self._hosts:
                return _refusal(400, f"the Host header must name one of: {', '.join(sorted(self._hosts))}")
        if path.startswith(_CONSOLE_PREFIXES) and not _is_same_origin(headers):
            return _refusal(403, "the console answers only its own pages")
        if self._sessions is None or path in _UNPROTECTED_PATHS:
            return None
        if path in (LOGIN_PATH, LOGOUT_PATH):
            return self._sessions
        authorization = headers.get("authorization", "").encode("utf-8", "replace")
        if secrets.compare_digest(authorization, f"Bearer {self._key}".encode()):
            return None
        if self._sessions.is_valid(HTTPConnection(scope).cookies.get(COOKIE)):
            return None
        if scope["type"] == "http" and scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
            return RedirectResponse(login_location(path, scope["query_string"]), 303)
        refusal = _refusal(401, "an API key is required: Authorization: Bearer KEY")
        refusal.headers["WWW-Authenticate"] = "Bearer"
        return refusal


def _until_ended(sessions: Sessions, scope: Scope, receive: Receive, send: Send) -> Receive:
    """The messages of a page's socket, until its session is ended: then it is closed."""
    cookie = HTTPConnection(scope).cookies.get(COOKIE)

    async def checked() -> Message:
        message = await receive()
        if message["type"] == "websocket.receive" and sessions.is_ended(cookie):
            await send({"type": "websocket.close", "code": 1008})
            return {"type": "websocket.disconnect", "code": 1008}
        return message

    return checked


class TimeoutMiddleware:
    """Bounds a request: 504 when it is not answered in time, and its work is cancelled.

    Once the answer has begun, and for an upload, the limit is for each step (a piece sent or received), and ends
    with the last piece, so that background tasks may take longer. A stream that is cut off ends with a line that gives
    the reason, where its format allows that.

    Parameters
    ----------
    seconds : float
        The limit.
    """

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self._app, self._seconds = app, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request within the time limit."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        clock = asyncio.get_running_loop().time
        answered_as: str | None = None

        async def send_step(message: Message) -> None:
            nonlocal answered_as
            if message["type"] == "http.response.start":
                answered_as = media_type(Headers(raw=message["headers"]))
            await send(message)
            last = message["type"] == "http.response.body" and not message.get("more_body")
            limit.reschedule(None if last else clock() + self._seconds)

        async def receive_step() -> Message:
            message = await receive()
            goes_on = answered_as is not None or scope["path"] == UPLOAD_PATH
            if goes_on and (when := limit.when()) is not None and not limit.expired():
                limit.reschedule(max(when, clock() + self._seconds))
            return message

        try:
            async with asyncio.timeout(self._seconds) as limit:
                await self._app(scope, receive_step, send_step)
        except TimeoutError:
            if not limit.expired():
                raise
            log_event("request timed out", "warning", seconds=self._seconds)
            if answered_as is None:
                detail = f"the request took longer than {self._seconds:g} seconds and was cancelled"
                await _refusal(504, detail)(scope, receive, send)
            else:
                reason = f"no progress for {self._seconds:g} seconds: the rest was cancelled"
                await send({"type": "http.response.body", "body": _last_piece(answered_as, reason)})


def _is_same_origin(headers: Headers) -> bool:
    """Whether a request comes from a page of this server, or from no page."""
    origin = headers.get("origin")
    return origin is None or origin.partition("://")[2].lower() == headers.get("host", "").lower()


def _last_piece(media_type: str, reason: str) -> bytes:
    """The last piece of a stream of this type that is cut off, with the reason."""
    if media_type == NDJSON:
        return json.dumps({"error": reason}).encode() + b"\n"
    if media_type == "text/event-stream":
        # LangServe's clients read the first two keys, OpenAI's the last
        body = {"status_code": 504, "message": reason, "error": {"message": reason}}
        return f"event: error\r\ndata: {json.dumps(body)}\r\n\r\n".encode()
    return f"({reason})\n".encode() if media_type == "text/plain" else b""


def _refusal(status: int, detail: str) -> JSONResponse:
    return JSONResponse({"detail": detail}, status)


def _too_large(limit: int) -> str:
    return f"the body is longer than {limit} bytes"
