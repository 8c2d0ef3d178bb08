"""Signing in to the console where the server has an API key: a page that takes the key, and a signed cookie.

A cookie is valid for twelve hours, unless its session is ended by signing out.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from datetime import UTC, datetime, timedelta
from html import escape
from urllib.parse import parse_qs, quote, urlsplit

from cachetools import TTLCache
from itsdangerous import BadSignature, TimestampSigner
from sqlalchemy import Engine, delete, select
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from agent.api.console.conversation import CHAT_COOKIE
from retrieval.store.engine import insert_or_ignore
from retrieval.store.schema import ended_sessions

COOKIE, LOGIN_PATH, LOGOUT_PATH = "precedent_session", "/login", "/logout"
_SECONDS = 12 * 3600
_MOST_BYTES, _PAUSE = 4_096, 0.5
# seconds for which a session that has not ended is not looked up again, and how many are remembered
_FRESH, _REMEMBERED = 2.0, 1_000
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
.wrong{{color:light-dark(#a3261b,#ff9d8f)}}</style><main><h1>Precedent</h1><p>This server requires its API key.</p>
{problem}<form method="post" action="{action}"><label for="key">API key</label>
<input id="key" name="key" type="password" autocomplete="current-password" required autofocus>
<button>Sign in</button></form></main></html>"""


class Sessions:
    """Signs and checks the cookies of one API key; another key makes them invalid.

    Parameters
    ----------
    key : str
        The API key.
    engine : Engine
        The store, which keeps the sessions that were ended.
    """

    def __init__(self, key: str, engine: Engine) -> None:
        self._key, self._engine = key, engine
        secret = hashlib.sha256(f"precedent console session\0{key}".encode()).digest()
        self._signer = TimestampSigner(secret, salt="console", digest_method=hashlib.sha256)
        self._going_on: TTLCache[str, bool] = TTLCache(_REMEMBERED, _FRESH)

    def is_valid(self, cookie: str | None) -> bool:
        """Whether the cookie was made here, not too long ago, and its session was not ended."""
        session = self._session_of(cookie)
        return session is not None and not self._is_ended(session)

    def is_ended(self, cookie: str | None) -> bool:
        """Whether the cookie's session was ended by signing out."""
        session = self._session_of(cookie)
        return session is not None and self._is_ended(session)

    def end(self, cookie: str | None) -> None:
        """End the session of a cookie, and forget those whose cookies have expired."""
        session = self._session_of(cookie)
        if session is None:
            return
        now = datetime.now(UTC)
        with self._engine.begin() as connection:
            expired = ended_sessions.c.ended_at < now - timedelta(seconds=_SECONDS)
            connection.execute(delete(ended_sessions).where(expired))
            connection.execute(insert_or_ignore(self._engine, ended_sessions), {"id": session, "ended_at": now})
        self._going_on.pop(session, None)

    def _session_of(self, cookie: str | None) -> str | None:
        try:
            return self._signer.unsign(cookie, max_age=_SECONDS).decode() if cookie else None
        except BadSignature:
            return None

    def _is_ended(self, session: str) -> bool:
        if session in self._going_on:
            return False
        with self._engine.connect() as connection:
            found = connection.scalar(select(ended_sessions.c.id).where(ended_sessions.c.id == session))
        if found is None:
            self._going_on[session] = True
        return found is not None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the login page, its form, or the logout."""
        request = Request(scope, receive)
        await (await self._answer(request))(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        target = _local(request.query_params.get("next", "/"))
        if request.url.path == LOGOUT_PATH:
            await asyncio.to_thread(self.end, request.cookies.get(COOKIE))
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
        if not secrets.compare_digest(sent.encode(), self._key.encode()):
            # slows down guessing
            await asyncio.sleep(_PAUSE)
            return self._page(target, "This is not the server's API key.")
        response = RedirectResponse(target, 303)
        cookie = self._signer.sign(secrets.token_hex(16)).decode()
        secure = request.url.scheme == "https"
        response.set_cookie(COOKIE, cookie, _SECONDS, httponly=True, samesite="strict", secure=secure)
        return response

    @staticmethod
    def _page(target: str, problem: str = "") -> HTMLResponse:
        shown = f'<p class="wrong" role="alert">{escape(problem)}</p>' if problem else ""
        page = _PAGE.format(problem=shown, action=escape(f"{LOGIN_PATH}?next={quote(target)}"))
        headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-store", "X-Frame-Options": "DENY"}
        return HTMLResponse(page, 401 if problem else 200, headers)


def login_location(path: str, query: bytes) -> str:
    """Where to send a browser that is not signed in."""
    target = path + (f"?{query.decode('latin-1')}" if query else "")
    return f"{LOGIN_PATH}?next={quote(target)}"


def _local(target: str) -> str:
    """The target if it is a path of this server, else the console."""
    parts = urlsplit(target)
    is_local = target.startswith("/") and not target.startswith(("//", "/\\")) and not parts.scheme and not parts.netloc
    return target if is_local and target.isprintable() else "/"
