"""Signing in to the console where the server has an API key: a page that takes the key, and a signed cookie."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from html import escape
from urllib.parse import parse_qs, quote, urlsplit

from itsdangerous import BadSignature, TimestampSigner
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import Receive, Scope, Send

COOKIE, LOGIN_PATH, LOGOUT_PATH = "precedent_session", "/login", "/logout"
_SECONDS = 12 * 3600
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
.wrong{{color:light-dark(#a3261b,#ff9d8f)}}</style><main><h1>Precedent</h1><p>This server requires its API key.</p>
{problem}<form method="post" action="{action}"><label for="key">API key</label>
<input id="key" name="key" type="password" autocomplete="current-password" required autofocus>
<button>Sign in</button></form></main></html>"""


class Sessions:
    """Signs and checks the cookies of one API key; another key makes them invalid."""

    def __init__(self, key: str) -> None:
        self._key = key
        secret = hashlib.sha256(f"precedent console session\0{key}".encode()).digest()
        self._signer = TimestampSigner(secret, salt="console", digest_method=hashlib.sha256)

    def is_valid(self, cookie: str | None) -> bool:
        """Whether the cookie was made here, and not too long ago."""
        try:
            return bool(cookie) and bool(self._signer.unsign(cookie or "", max_age=_SECONDS))
        except BadSignature:
            return False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the login page, its form, or the logout."""
        request = Request(scope, receive)
        await (await self._answer(request))(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        target = _local(request.query_params.get("next", "/"))
        if request.url.path == LOGOUT_PATH:
            response: Response = RedirectResponse(LOGIN_PATH, 303)
            response.delete_cookie(COOKIE)
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
        cookie = self._signer.sign(secrets.token_hex(8)).decode()
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
