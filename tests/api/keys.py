"""Named keys for the tests of the server, made as the command makes them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from agent.api import guard, key_ring
from agent.core.access import ROLES
from agent.core.api_keys import digest_of, new_key
from agent.core.settings import Settings
from retrieval.store.api_keys import ApiKeys
from retrieval.store.engine import open_store


class Keys:
    """The keys in the store of a server, with their texts, which the store has not."""

    def __init__(self, settings: Settings) -> None:
        self.engine = open_store(settings.store_url)
        self.stored = ApiKeys(self.engine)

    def add(self, name: str, role: str, rate: str | None = None, lasts: timedelta | None = None) -> str:
        key = new_key()
        expires_at = None if lasts is None else datetime.now(UTC) + lasts
        assert self.stored.add(name, digest_of(key), role, "the tests", rate, expires_at)
        return key

    def rotate(self, name: str, grace: timedelta | None = None) -> str:
        key = new_key()
        until = None if grace is None else datetime.now(UTC) + grace
        assert self.stored.rotate(name, digest_of(key), "the tests", until, None)
        return key

    def remove(self, name: str) -> None:
        assert self.stored.remove(name, "the tests")

    def of_each_role(self) -> dict[str, str]:
        return {role: self.add(role, role) for role in ROLES}


@pytest.fixture(scope="module")
def settings(copy_of: Callable[..., Settings]) -> Settings:
    return copy_of(model="none")


@pytest.fixture(scope="module")
def keys(settings: Settings) -> dict[str, str]:
    return Keys(settings).of_each_role()


def bearer(key: str | None) -> dict[str, str]:
    return {} if key is None else {"Authorization": f"Bearer {key}"}


def always_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the server look up its keys at each request, and at each piece of a stream."""
    monkeypatch.setattr(key_ring, "_FRESH", 0.0)
    monkeypatch.setattr(guard, "_CHECKED", 0.0)
