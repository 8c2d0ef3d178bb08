"""Errors of the OpenAI-compatible routes in the shape that OpenAI's clients read: ``{"error": {"message": …}}``."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CHAT_PATH, MODELS_PATH = "/v1/chat/completions", "/v1/models"
# OpenAI answers a request that is not valid with 400, not with 422
_STATUS = {422: 400}
_TYPES = {401: "authentication_error", 429: "rate_limit_error"}
_CODES = {401: "invalid_api_key", 429: "rate_limit_exceeded"}


def error_object(status: int, message: str, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    """The body of an error.

    Parameters
    ----------
    status : int
        The HTTP status, which the type of the error follows.
    message : str
    code : str, optional
        A short name of the error; by default that of the status.
    param : str, optional
        The key of the request that is wrong.
    """
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code or _CODES.get(status)}}


class OpenAIError(BaseModel):
    """What is wrong, as OpenAI's clients read it."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIProblem(BaseModel):
    """The body of every error of these routes."""

    error: OpenAIError


class OpenAIErrorMiddleware:
    """Rewrites the errors of the OpenAI-compatible routes, whichever route or middleware gave them.

    An answer that has an ``error`` already, and every answer of another path, is passed on as it is.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request; an error is collected and sent in the other shape."""
        path = scope.get("path", "")
        is_ours = path in (CHAT_PATH, MODELS_PATH) or path.startswith(f"{MODELS_PATH}/")
        if scope["type"] != "http" or not is_ours:
            await self._app(scope, receive, send)
            return
        start: Message | None = None
        body = bytearray()

        async def send_in_shape(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start" and message["status"] >= 400:
                start = message
                return
            if start is None or message["type"] != "http.response.body":
                await send(message)
                return
            body.extend(message.get("body", b""))
            if not message.get("more_body"):
                shaped = _reshaped(start["status"], bytes(body))
                start["status"] = _STATUS.get(start["status"], start["status"])
                MutableHeaders(scope=start)["content-length"] = str(len(shaped))
                await send(start)
                await send({"type": "http.response.body", "body": shaped})

        await self._app(scope, receive, send_in_shape)


def _reshaped(status: int, body: bytes) -> bytes:
    try:
        sent = json.loads(body)
    except ValueError:
        # the client has disconnected, and reads nothing
        return body
    if not isinstance(sent, dict) or "detail" not in sent:
        return body
    detail, param = sent["detail"], None
    if isinstance(detail, list):
        # of a body that is not valid: where, and what
        first = detail[0]
        param = ".".join(part for part in first["loc"] if part != "body") or None
        detail = f"{param}: {first['msg']}" if param else first["msg"]
    return json.dumps(error_object(_STATUS.get(status, status), str(detail), param=param), ensure_ascii=False).encode()
