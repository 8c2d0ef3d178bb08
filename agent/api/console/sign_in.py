"""Signing in to the console where the server has API keys: a page that takes one, and the cookie of its session."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from html import escape
from urllib.parse import parse_qs, quote, urlsplit

from sqlalchemy import Engine
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from agent.api.console.conversation import CHAT_COOKIE
from agent.api.console.key_sessions import KeySessions
from agent.api.console.session import COOKIE, SECONDS, Sessions
from agent.api.key_ring import KeyRing
from agent.api.rate_limit import WrongKeys
from agent.core.access import Caller, Role
from agent.core.api_keys import SETTING_NAME
from agent.core.errors import EXPECTED, describe

LOGIN_PATH, LOGOUT_PATH = "/login", "/logout"
_MOST_BYTES, _PAUSE = 4_096, 0.5
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Sign in · Precedent</title><style>
:root{{color-scheme:light dark}}body{{font:15px/1.5 system-ui,sans-serif;display:grid;
place-items:center;min-height:90vh;margin:0;background:light-dark(#f5f6f7,#14181b);color:light-dark(#1c2429,#e4e8ea)}}
main{{width:min(21rem,88vw);padding:1.6rem;border:1px solid light-dark(#d5dadd,#333c42);border-radius:8px;
background:light-dark(#fff,#1b2125)}}h1{{font-size:1.15rem;margin:0 0 .2rem}}p{{margin:.2rem 0 1rem}}
label{{display:block;font-weight:600;margin-bottom:.3rem}}input,button{{font:inherit;width:100%;box-sizing:border-box;
padding:.55rem .7rem;border-radius:6px;border:1px solid light-dark(#87939a,#6c7980)}}
button{{margin-top:.9rem;background:#1f6075;border-color:#1f6075;color:#fff;font-weight:600;cursor:pointer}}
.wrong{{color:light-dark(#a3261b,#ff9d8f)}}</style><main><h1>Precedent</h1><p>This server requires an API key.</p>
{problem}<form method="post" action="{action}"><label for="key">API key</label>
<input id="key" name="key" type="password" autocomplete="current-password" required autofocus>
<button>Sign in</button></form></main></html>"""


class SignIn:
    """The login page, its form, the logout, and whose a cookie is.

    Parameters
    ----------
    key : str, optional
        The key of the settings.
    ring : KeyRing
        All keys.
    wrong_keys : WrongKeys
        Where wrong keys came from.
    engine : callable
        Opens the store, at first use.
    """

    def __init__(self, key: str | None, ring: KeyRing, wrong_keys: WrongKeys, engine: Callable[[], Engine]) -> None:
        self._key, self._ring, self._wrong_keys, self._engine = key, ring, wrong_keys, engine
        self._sessions: Sessions | None = None
        self._named = KeySessions(engine, SECONDS)

    async def caller_of(self, cookie: str | None) -> Caller | None:
        """Whose session the cookie is of; None: of none, or the session has ended, or its key."""
        if cookie is None:
            return None
        if KeySessions.are_of(cookie):
            found = await asyncio.to_thread(self._named.find, cookie)
            return None if found is None else await self._ring.caller_by_digest(*found)
        signed = self._signed()
        return Caller(SETTING_NAME, Role.ADMIN) if signed is not None and signed.is_valid(cookie) else None

    def _signed(self) -> Sessions | None:
        if self._sessions is None and self._key is not None:
            self._sessions = Sessions(self._key, self._engine())
        return self._sessions

    def _end(self, cookie: str | None) -> None:
        signed = self._signed()
        if cookie is not None and KeySessions.are_of(cookie):
            self._named.end(cookie)
        elif signed is not None:
            signed.end(cookie)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the login page, its form, or the logout."""
        request = Request(scope, receive)
        await (await self._answer(request))(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        target = _local(request.query_params.get("next", "/"))
        if request.url.path == LOGOUT_PATH:
            await asyncio.to_thread(self._end, request.cookies.get(COOKIE))
            response: Response = RedirectResponse(LOGIN_PATH, 303)
            response.delete_cookie(COOKIE)
            response.delete_cookie(CHAT_COOKIE)
            return response
        if request.method != "POST":
            return self._page(target)
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MOST_BYTES:
                return self._page(target, "The key is too long.")
        sent = parse_qs(body.decode("utf-8", "replace")).get("key", [""])[0]
        caller = await self._ring.caller_of(sent, guesses=self._wrong_keys.wait(request) > 0)
        if caller is None:
            wait = self._wrong_keys.count(request)
            # slows down guessing
            await asyncio.sleep(_PAUSE)
            if wait:
                page = self._page(target, f"Too many wrong keys came from here: wait {math.ceil(wait)} seconds.", 429)
                page.headers["Retry-After"] = str(math.ceil(wait))
                return page
            return self._page(target, "This is not an API key of the server.")
        try:
            cookie = await asyncio.to_thread(self._begin, caller.name, sent)
        except EXPECTED as error:
            return self._page(target, f"Signing in is not possible now: {describe(error)}")
        response = RedirectResponse(target, 303)
        secure = request.url.scheme == "https"
        response.set_cookie(COOKIE, cookie, SECONDS, httponly=True, samesite="strict", secure=secure)
        return response

    def _begin(self, name: str, key: str) -> str:
        signed = self._signed()
        return signed.begin() if name == SETTING_NAME and signed is not None else self._named.begin(name, key)

    @staticmethod
    def _page(target: str, problem: str = "", status: int = 401) -> HTMLResponse:
        shown = f'<p class="wrong" role="alert">{escape(problem)}</p>' if problem else ""
        page = _PAGE.format(problem=shown, action=escape(f"{LOGIN_PATH}?next={quote(target)}"))
        headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-store", "X-Frame-Options": "DENY"}
        return HTMLResponse(page, status if problem else 200, headers)


def login_location(path: str, query: bytes) -> str:
    """Where to send a browser that is not signed in."""
    target = path + (f"?{query.decode('latin-1')}" if query else "")
    return f"{LOGIN_PATH}?next={quote(target)}"


def _local(target: str) -> str:
    """The target if it is a path of this server, else the console."""
    parts = urlsplit(target)
    is_local = target.startswith("/") and not target.startswith(("//", "/\\")) and not parts.scheme and not parts.netloc
    return target if is_local and target.isprintable() else "/"
