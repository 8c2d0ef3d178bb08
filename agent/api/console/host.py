"""NiceGUI inside the application: which requests it answers, its start and stop, and the headers of its pages."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import warnings
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache
from typing import TYPE_CHECKING

from fastapi import FastAPI
from nicegui import core, ui
from starlette.datastructures import MutableHeaders
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import HTTPConnection
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent.api.console.conversation import CHAT_KEY, conversation_id, cookie_of
from agent.api.console.elements import STATE_KEY
from agent.api.console.frame import PAGES, STATIC
from agent.core.access import Role

if TYPE_CHECKING:
    from agent.api.state import ServerState

_INTERNAL = ("/_nicegui/", "/_nicegui_ws/")
_SCRIPT = re.compile(rb"<script(?=[ >])")
_ICON = "/favicon.ico"
_TITLE, _MESSAGES_RESENT, _RECONNECT_SECONDS = "Precedent", 100, 10.0
_SEVERAL_PROCESSES = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Precedent</title><h1>Precedent</h1>
<p>The console needs a server of one process: start <code>precedent serve</code> without <code>--workers</code>.</p>
<p><a href="/chain/playground/">Chat</a> · <a href="/verdict/playground/">One record, one verdict</a> ·
<a href="/docs">The API</a></p></html>"""
_ANOTHER_APPLICATION = "The console is served by another application of this process; one process serves one console."
# the application whose event loop runs NiceGUI
_owner: ConsoleRoute | None = None


def content_policy(nonce: str) -> str:
    """The content security policy of a page.

    NiceGUI compiles Vue templates in the browser (`unsafe-eval`) and sets styles of elements (`unsafe-inline`).
    """
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src 'self' 'nonce-{nonce}' 'unsafe-eval'",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data:",
            "font-src 'self' data:",
            "connect-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        ]
    )


SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class _PageHeaders:
    """Adds the security headers to pages, the policy's nonce to their scripts, and a cookie for the conversation."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request; HTML is sent in one piece."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        nonce, start, body = secrets.token_urlsafe(16), dict[str, object](), bytearray()
        conversation, is_new = conversation_id(HTTPConnection(scope).cookies)
        scope[CHAT_KEY] = conversation

        async def send_page(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message["headers"])
                for name, value in SECURITY_HEADERS.items():
                    headers[name] = value
                if headers.get("content-type", "").startswith("text/html"):
                    headers["Content-Security-Policy"] = content_policy(nonce)
                    if is_new:
                        headers.append("Set-Cookie", cookie_of(conversation, secure=scope["scheme"] == "https"))
                    start.update(message)
                    return
            if not start:
                await send(message)
                return
            body.extend(message["body"])
            if not message.get("more_body"):
                page = _SCRIPT.sub(f'<script nonce="{nonce}"'.encode(), bytes(body))
                MutableHeaders(raw=start["headers"])["content-length"] = str(len(page))  # type: ignore[arg-type]
                await send(start)
                await send({"type": "http.response.body", "body": page})

        await self._app(scope, receive, send_page)


@cache
def _nicegui() -> FastAPI:
    """The application that NiceGUI is mounted on, one for the process, as NiceGUI's own is."""
    from agent.api.console.pages import register

    register()
    host = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    ui.run_with(
        host,
        title=_TITLE,
        dark=None,
        language="en-US",
        tailwind=False,
        gzip_middleware_factory=None,
        reconnect_timeout=_RECONNECT_SECONDS,
        message_history_length=_MESSAGES_RESENT,
        show_welcome_message=False,
        favicon=STATIC / "favicon.svg",
    )
    core.app.config.socket_io_js_transports = ["websocket"]
    return host


class ConsoleRoute(BaseRoute):
    """The route of the console's pages and of NiceGUI's own paths; all others stay the application's.

    Any key may open the pages; what a page does needs the role that doing it elsewhere needs.
    """

    required_role = Role.READ

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._host = _nicegui()
        self._app = GZipMiddleware(_PageHeaders(self._host))
        self._stack: AsyncExitStack | None = None
        self._starting = asyncio.Lock()

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether the request is for the console."""
        if scope["type"] not in ("http", "websocket"):
            return Match.NONE, {}
        path = scope["path"]
        page = (path in PAGES or path == _ICON) and scope["type"] == "http" and scope["method"] == "GET"
        return (Match.FULL if page or path.startswith(_INTERNAL) else Match.NONE), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer by NiceGUI; its pages find the server's state in the scope."""
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            # a page's socket would reach a process that does not know the page
            await HTMLResponse(_SEVERAL_PROCESSES, 503, SECURITY_HEADERS)(scope, receive, send)
            return
        if not await self._runs_nicegui():
            await PlainTextResponse(_ANOTHER_APPLICATION, 503, SECURITY_HEADERS)(scope, receive, send)
            return
        scope[STATE_KEY] = self._state
        await self._app(scope, receive, send)

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """End NiceGUI with the application, if a page of it was asked for."""
        global _owner
        async with AsyncExitStack() as stack:
            self._stack = stack
            try:
                yield
            finally:
                if _owner is self:
                    await stack.aclose()
                    _owner = None

    async def _runs_nicegui(self) -> bool:
        """Run NiceGUI in this application's event loop, unless another application of the process runs it.

        NiceGUI is one for the process, and from time to time drops what tasks of other event loops are building.
        """
        global _owner
        assert self._stack is not None, "requests are served within the lifespan"
        async with self._starting:
            if _owner is None:
                _owner = self
                try:
                    with warnings.catch_warnings():
                        # NiceGUI looks at every object of the process, and some warn
                        warnings.simplefilter("ignore")
                        await self._stack.enter_async_context(self._host.router.lifespan_context(self._host))
                except BaseException:
                    _owner = None
                    raise
        return _owner is self
