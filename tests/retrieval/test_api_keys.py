"""Named keys in the store: only hashes, one of a name, replaced at once or after a while, with who did what."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from retrieval.store.api_keys import ApiKeys
from retrieval.store.copying import copy_store
from retrieval.store.engine import open_store

from .test_sharing import in_threads

HOUR = timedelta(hours=1)


@pytest.fixture
def engine(store_url: str) -> Iterator[Engine]:
    made = open_store(store_url)
    yield made
    made.dispose()


@pytest.fixture
def keys(engine: Engine) -> ApiKeys:
    return ApiKeys(engine)


def accepted(keys: ApiKeys, at: datetime | None = None) -> list[str]:
    return [digest for key in keys.all() for digest in key.digests(at or datetime.now(UTC))]


def test_one_key_has_a_name(keys: ApiKeys) -> None:
    assert keys.add("ada", "d1", "read", "eve", None, None)
    assert not keys.add("ada", "d2", "admin", "eve", None, None)
    assert [(key.name, key.role, key.digest) for key in keys.all()] == [("ada", "read", "d1")]
    assert [change.action for change in keys.changes()] == ["added"]


def test_of_processes_that_add_a_name_at_once_one_does(keys: ApiKeys) -> None:
    added = list[bool]()
    in_threads([lambda n=n: added.append(keys.add("ada", f"d{n}", "read", "eve", None, None)) for n in range(6)])  # type: ignore[misc]
    assert sorted(added) == [False] * 5 + [True]


def test_a_rotation_ends_the_key_before_at_once_or_after_a_while(keys: ApiKeys) -> None:
    now = datetime.now(UTC)
    keys.add("ada", "d1", "judge", "eve", "5/minute", None)
    assert keys.rotate("ada", "d2", "eve", None, None)
    assert accepted(keys) == ["d2"]
    assert keys.rotate("ada", "d3", "eve", now + HOUR, None)
    assert accepted(keys) == ["d3", "d2"]
    assert accepted(keys, now + 2 * HOUR) == ["d3"]
    # the one before the one before is gone, whatever its grace was
    assert keys.rotate("ada", "d4", "eve", now + HOUR, None)
    assert accepted(keys) == ["d4", "d3"]
    (key,) = keys.all()
    assert (key.role, key.rate) == ("judge", "5/minute")
    assert not keys.rotate("bob", "d5", "eve", None, None)


def test_an_expired_key_is_accepted_neither_itself_nor_by_its_grace(keys: ApiKeys) -> None:
    now = datetime.now(UTC)
    keys.add("ada", "d1", "read", "eve", None, now + HOUR)
    keys.rotate("ada", "d2", "eve", now + 3 * HOUR, now + HOUR)
    assert accepted(keys) == ["d2", "d1"]
    assert accepted(keys, now + HOUR) == []


def test_what_was_done_is_kept_when_the_key_is_gone(keys: ApiKeys) -> None:
    keys.add("ada", "d1", "read", "eve", None, None)
    keys.rotate("ada", "d2", "bob", None, None)
    assert keys.remove("ada", "carol")
    assert not keys.remove("ada", "carol")
    assert keys.all() == []
    done = [(change.name, change.action, change.role, change.changed_by) for change in keys.changes("ada")]
    assert done == [
        ("ada", "added", "read", "eve"),
        ("ada", "rotated", "read", "bob"),
        ("ada", "removed", "read", "carol"),
    ]
    assert all(change.changed_at.tzinfo for change in keys.changes())


def test_a_copy_of_the_store_has_the_keys_and_notes_further_changes(
    keys: ApiKeys, engine: Engine, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    keys.add("ada", "d1", "read", "eve", "5/hour", None)
    url = f"sqlite:///{tmp_path / 'copy.db'}"
    if engine.dialect.name == "postgresql":
        url = request.getfixturevalue("postgres").empty_database()
    other = open_store(url)
    copy_store(engine, other)
    copied = ApiKeys(other)
    assert copied.all() == keys.all()
    assert copied.remove("ada", "bob")
    assert [change.action for change in copied.changes()] == ["added", "removed"]
    other.dispose()


def test_the_last_use_only_moves_on(keys: ApiKeys) -> None:
    keys.add("ada", "d1", "read", "eve", None, None)
    now = datetime.now(UTC)
    for at in (now, now - HOUR):
        keys.used("ada", at)
    (key,) = keys.all()
    assert key.last_used_at == now
