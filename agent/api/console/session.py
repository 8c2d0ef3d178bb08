"""Sessions of the console that were begun with `PRECEDENT_API_KEY`: a signed cookie.

A cookie is valid for twelve hours, unless its session is ended by signing out.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime, timedelta

from cachetools import TTLCache
from itsdangerous import BadSignature, TimestampSigner
from sqlalchemy import Engine, delete, select

from retrieval.store.engine import insert_or_ignore
from retrieval.store.schema import ended_sessions

COOKIE, SECONDS = "precedent_session", 12 * 3600
# seconds for which a session that has not ended is not looked up again, and how many are remembered
_FRESH, _REMEMBERED = 2.0, 1_000


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
        self._engine = engine
        secret = hashlib.sha256(f"precedent console session\0{key}".encode()).digest()
        self._signer = TimestampSigner(secret, salt="console", digest_method=hashlib.sha256)
        self._going_on: TTLCache[str, bool] = TTLCache(_REMEMBERED, _FRESH)

    def begin(self) -> str:
        """Begin a session; returns its cookie."""
        return self._signer.sign(secrets.token_hex(16)).decode()

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
            expired = ended_sessions.c.ended_at < now - timedelta(seconds=SECONDS)
            connection.execute(delete(ended_sessions).where(expired))
            connection.execute(insert_or_ignore(self._engine, ended_sessions), {"id": session, "ended_at": now})
        self._going_on.pop(session, None)

    def _session_of(self, cookie: str | None) -> str | None:
        try:
            return self._signer.unsign(cookie, max_age=SECONDS).decode() if cookie else None
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
