"""The API keys that the server accepts: the one of the settings, and the named ones of the store."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy import Engine
from starlette.concurrency import run_in_threadpool

from agent.core.access import Caller, Role
from agent.core.api_keys import SETTING_NAME, Rate, digest_of
from agent.core.errors import describe, translate
from agent.core.logs import log_event
from retrieval.store.api_keys import ApiKeys, StoredKey

# seconds after which the store is read again: a key that was removed there is refused
_FRESH = 2.0
# characters of a key of the settings that might be guessed; a named key cannot be
_GUESSABLE = 20
# seconds between two notes in the store that a key was used
_NOTED = 60.0


class KeyRing:
    """Compares keys with those that there are now.

    A key is compared with every one, each in constant time, by its hash: how long that takes depends on the number of
    keys only, not on the key or on a name. The key of the settings needs no store.

    Parameters
    ----------
    key : str, optional
        The key of the settings.
    engine : callable
        Opens the store, at first use.
    """

    def __init__(self, key: str | None, engine: Callable[[], Engine]) -> None:
        self._digest, self._engine = None if key is None else digest_of(key), engine
        self._is_guessable = key is not None and len(key) < _GUESSABLE
        self._keys: list[StoredKey] = []
        self._read_at, self._reading = -_FRESH, asyncio.Lock()
        self._used_at: dict[str, float] = {}
        self._noting = set[asyncio.Task[None]]()

    async def is_needed(self) -> bool:
        """Whether there is any key, so that requests need one; an expired one counts."""
        return self._digest is not None or bool(await self._current())

    @property
    def is_open(self) -> bool:
        """Whether there was no key when the store was last read; False before that."""
        return self._digest is None and self._read_at >= 0 and not self._keys

    async def caller_of(self, key: str, *, guesses: bool = False) -> Caller | None:
        """Whose key it is; None: it is none, or not any more.

        Parameters
        ----------
        key : str
        guesses : bool
            Whether it comes from where too many wrong keys came from: a key of the settings that is so short that it
            could be guessed is not accepted then.
        """
        digest = digest_of(key)
        if self._digest is not None and hmac.compare_digest(digest, self._digest):
            return None if guesses and self._is_guessable else Caller(SETTING_NAME, Role.ADMIN)
        found, now = None, datetime.now(UTC)
        for stored in await self._current():
            # no early end: the place of a key in the list is not to be seen by the time
            for accepted in stored.digests(now):
                if hmac.compare_digest(digest, accepted):
                    found = stored
        return None if found is None else self._used(found)

    async def caller_by_digest(self, name: str, digest: str) -> Caller | None:
        """The caller of a session that was begun with a key of that name and digest, if the key is still accepted."""
        now = datetime.now(UTC)
        for stored in await self._current():
            if stored.name == name and digest in stored.digests(now):
                return self._used(stored)
        return None

    async def _current(self) -> list[StoredKey]:
        """The keys in the store, as they were at most two seconds ago.

        Raises
        ------
        StoreFailure
            It cannot be read: no key can be checked.
        """
        async with self._reading:
            if time.monotonic() - self._read_at >= _FRESH:
                self._keys = await run_in_threadpool(lambda: ApiKeys(self._engine()).all())
                self._read_at = time.monotonic()
            return self._keys

    def _used(self, stored: StoredKey) -> Caller:
        now = time.monotonic()
        if now - self._used_at.get(stored.name, -_NOTED) >= _NOTED:
            self._used_at[stored.name] = now
            # nobody waits for it: another process may have locked the store
            noting = asyncio.create_task(run_in_threadpool(self._note_use, stored.name))
            self._noting.add(noting)
            noting.add_done_callback(self._noting.discard)
        return Caller(stored.name, Role.of(stored.role), Rate.parse(stored.rate) if stored.rate else None)

    def _note_use(self, name: str) -> None:
        try:
            ApiKeys(self._engine()).used(name, datetime.now(UTC))
        except Exception as error:
            if translate(error) is None:
                raise
            log_event("the use of an API key is not noted", "warning", key=name, reason=describe(error))
