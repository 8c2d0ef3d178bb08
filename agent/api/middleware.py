"""Middleware of all HTTP requests: log line, request id, security headers and time limit; `guard` has the rest."""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections.abc import Callable

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from agent.api.bodies import NDJSON, UPLOAD_PATH, media_type
from agent.core.errors import translate
from agent.core.logs import log_error, log_event

_PROBE_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})
# assets and messages of the console, of which one page has dozens
_QUIET_PREFIXES = ("/_nicegui", "/console/static/", "/console/jobs/")
# bytes of a body that is read whether it is used or not
_READ_ANYWAY = 64 * 1024
CALLER_STATE = "caller"
"""The key of a request's state under which the guard leaves what the log says of its API key."""
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
    new one. The answer and every event of the request carry it. The answer gets the security headers as well, and ends
    the connection if it is given before a long body has arrived: the rest of that would be read for nothing.
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
        is_arriving = has_body(Headers(scope=scope), longer_than=_READ_ANYWAY)

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
                **scope.get("state", {}).get(CALLER_STATE, {}),
                **scope.get("state", {}).get("logged", {}),
            )

        async def receive_to_its_end() -> Message:
            nonlocal is_arriving
            message = await receive()
            is_arriving = is_arriving and bool(message.get("more_body"))
            return message

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                if self._is_stopping() or (is_arriving and media_type(headers) != NDJSON):
                    # the next request goes to another server, or on another connection
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
                await self._app(scope, receive_to_its_end, send_with_id)
            except Exception as error:
                if expected := translate(error):
                    # of a background task: the request was answered
                    log_event("request failed", "error", path=scope["path"], reason=str(expected))
                else:
                    log_error("request failed", error, method=scope["method"], path=scope["path"])
                if not status:
                    detail = f"internal error; the server's log has the details of request {request_id}"
                    await refusal(500, detail)(scope, receive, send_with_id)
            finally:
                finish()


class TimeoutMiddleware:
    """Bounds a request: 504 when it is not answered in time, 408 when it has not arrived, and its work is cancelled.

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
        has_arrived = not has_body(Headers(scope=scope))

        async def send_step(message: Message) -> None:
            nonlocal answered_as
            if message["type"] == "http.response.start":
                answered_as = media_type(Headers(raw=message["headers"]))
            await send(message)
            last = message["type"] == "http.response.body" and not message.get("more_body")
            limit.reschedule(None if last else clock() + self._seconds)

        async def receive_step() -> Message:
            nonlocal has_arrived
            message = await receive()
            has_arrived = not message.get("more_body")
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
            if answered_as is None and not has_arrived:
                detail = f"the body had not arrived after {self._seconds:g} seconds"
                await refusal(408, detail)(scope, receive, send)
            elif answered_as is None:
                detail = (
                    f"the request took longer than {self._seconds:g} seconds and was cancelled; what it had begun to "
                    "change may still be done"
                )
                await refusal(504, detail)(scope, receive, send)
            else:
                reason = f"no progress for {self._seconds:g} seconds: the rest was cancelled"
                await send({"type": "http.response.body", "body": last_piece(answered_as, 504, reason)})


def has_body(headers: Headers, *, longer_than: int = 0) -> bool:
    """Whether a request has a body of more than so many bytes, or one whose length it does not say."""
    length = headers.get("content-length", "0")
    return "transfer-encoding" in headers or not length.isdecimal() or int(length) > longer_than


def last_piece(media_type: str, status: int, reason: str) -> bytes:
    """The last piece of a stream of this type that is cut off, with the reason."""
    if media_type == NDJSON:
        return json.dumps({"error": reason}).encode() + b"\n"
    if media_type == "text/event-stream":
        # LangServe's clients read the first two keys, OpenAI's the last
        body = {"status_code": status, "message": reason, "error": {"message": reason}}
        return f"event: error\r\ndata: {json.dumps(body)}\r\n\r\n".encode()
    return f"({reason})\n".encode() if media_type == "text/plain" else b""


def refusal(status: int, detail: str) -> JSONResponse:
    """An error as the routes answer it."""
    return JSONResponse({"detail": detail}, status)
