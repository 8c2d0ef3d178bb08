"""Sessions of the console that were begun with a named key: a random cookie, of which the store has only a hash.

They are not signed with the key, as those of `PRECEDENT_API_KEY` are: the server does not have it, and who can read the
store must not be able to make a cookie from what is there.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from cachetools import TTLCache
from sqlalchemy import Engine, delete, insert, select

from agent.core.api_keys import digest_of
from retrieval.store.schema import console_sessions

_PREFIX = "key."
# seconds for which a session is not looked up again, and how many are remembered
_FRESH, _REMEMBERED = 2.0, 1_000
NameAndDigest = tuple[str, str]


class KeySessions:
    """Begins, finds and ends sessions.

    Parameters
    ----------
    engine : callable
        Opens the store, at first use.
    seconds : int
        How long a session lasts.
    """

    def __init__(self, engine: Callable[[], Engine], seconds: int) -> None:
        self._engine, self._lasts = engine, timedelta(seconds=seconds)
        self._found: TTLCache[str, NameAndDigest] = TTLCache(_REMEMBERED, _FRESH)
        self._lock = threading.Lock()

    @staticmethod
    def are_of(cookie: str | None) -> bool:
        """Whether a cookie has the form of these sessions'."""
        return cookie is not None and cookie.startswith(_PREFIX)

    def begin(self, name: str, key: str) -> str:
        """Begin a session with a key; returns its cookie. Those that have expired are forgotten."""
        cookie, now = _PREFIX + secrets.token_urlsafe(32), datetime.now(UTC)
        row = {"digest": digest_of(cookie), "key_name": name, "key_digest": digest_of(key), "begun_at": now}
        with self._engine().begin() as connection:
            connection.execute(delete(console_sessions).where(console_sessions.c.begun_at < now - self._lasts))
            connection.execute(insert(console_sessions).values(row))
        return cookie

    def find(self, cookie: str) -> NameAndDigest | None:
        """The name and the digest of the key that a session was begun with; None: there is no such session."""
        digest = digest_of(cookie)
        with self._lock:
            if (found := self._found.get(digest)) is not None:
                return found
        query = select(console_sessions.c.key_name, console_sessions.c.key_digest).where(
            console_sessions.c.digest == digest, console_sessions.c.begun_at > datetime.now(UTC) - self._lasts
        )
        with self._engine().connect() as connection:
            row = connection.execute(query).first()
        if row is None:
            return None
        found = (row.key_name, row.key_digest)
        with self._lock:
            self._found[digest] = found
        return found

    def end(self, cookie: str) -> None:
        """End a session."""
        digest = digest_of(cookie)
        with self._engine().begin() as connection:
            connection.execute(delete(console_sessions).where(console_sessions.c.digest == digest))
        with self._lock:
            self._found.pop(digest, None)
