"""`precedent keys`: a key is shown once, only its hash is stored, and what was done is listed."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.core.access import ROLES
from agent.core.api_keys import Rate, digest_of, parse_expiry, parse_span
from agent.core.errors import UsageError
from agent.core.settings import settings
from tests.conftest import Run


def listed(run: Run) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = json.loads(run("keys", "list", "--json").out)
    return rows


def test_a_key_is_shown_once_and_its_hash_is_stored(run: Run) -> None:
    added = run("keys", "add", "ada", "--role", "correct", "--rate", "60 per minute", "--expires", "90d")
    assert added.code == 0, added.err
    key = added.out.strip()
    assert key.startswith("precedent_")
    assert len(key) == len("precedent_") + 43
    assert "the server asks for a key from now on" in added.err
    (row,) = listed(run)
    assert (row["name"], row["role"], row["rate"], row["last_used_at"]) == ("ada", "correct", "60/minute", None)
    store = Path(settings().store_url.removeprefix("sqlite:///"))
    stored = b"".join(path.read_bytes() for path in store.parent.glob(store.name + "*"))
    assert digest_of(key).encode() in stored
    assert key.encode() not in stored
    assert key not in run("keys", "list").out + run("keys", "changes").out


def test_two_keys_have_two_names(run: Run) -> None:
    first = run("keys", "add", "ada", "--role", "read").out
    again = run("keys", "add", "ada", "--role", "admin")
    assert (again.code, again.out) == (2, "")
    assert "there is a key named 'ada'" in again.err
    assert run("keys", "add", "bob", "--role", "read").out != first
    assert [(row["name"], row["role"]) for row in listed(run)] == [("ada", "read"), ("bob", "read")]


def test_rotation_and_removal_are_listed_with_who_did_them(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "eve")
    first = run("keys", "add", "ada", "--role", "read").out
    second = run("keys", "rotate", "ada", "--grace", "1h")
    assert second.out != first
    assert "the key before is accepted until" in second.err
    refused = run("keys", "remove", "ada", stdin=b"n\n")
    assert refused.code == 1, "the last key is not removed without a question"
    assert run("keys", "remove", "ada", "--yes").code == 0
    assert run("keys", "remove", "ada").code == 2
    assert run("keys", "rotate", "ada").code == 2
    changes = json.loads(run("keys", "changes", "--json").out)
    assert [(change["action"], change["changed_by"]) for change in changes] == [
        (action, "command line, eve") for action in ("added", "rotated", "removed")
    ]


def test_an_expired_key_is_rotated_only_with_a_new_time(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("keys", "add", "ada", "--role", "read", "--expires", "1s")
    ended = datetime.now(UTC) + timedelta(seconds=2)

    class Later(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return ended

    monkeypatch.setattr("agent.cli.keys.datetime", Later)
    assert "EXPIRED" in run("keys", "list").out
    assert "has expired" in run("keys", "rotate", "ada").err
    assert run("keys", "rotate", "ada", "--expires", "1d").code == 0
    assert "EXPIRED" not in run("keys", "list").out


@pytest.mark.parametrize(
    "arguments",
    [
        ("", "--role", "read"),
        ("a,b", "--role", "read"),
        ("a\nb", "--role", "read"),
        (" a", "--role", "read"),
        ("a" * 65, "--role", "read"),
        ("a", "--role", "root"),
        ("a",),
        ("a", "--role", "read", "--rate", "0/minute"),
        ("a", "--role", "read", "--rate", "many"),
        ("a", "--role", "read", "--expires", "2001-01-01"),
        ("a", "--role", "read", "--expires", "soon"),
        ("a", "--role", "read", "--expires", "0d"),
    ],
)
def test_what_is_no_name_role_rate_or_time_is_refused(run: Run, arguments: tuple[str, ...]) -> None:
    assert run("keys", "add", *arguments).code == 2
    assert listed(run) == []


def test_times_spans_and_rates() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert parse_expiry("2w", now) == datetime(2026, 1, 15, tzinfo=UTC)
    assert parse_expiry("2026-02-01T10:00:00+02:00", now) == datetime(2026, 2, 1, 8, tzinfo=UTC)
    assert (parse_span("0"), parse_span("90 d".replace(" ", ""))) == (timedelta(), timedelta(days=90))
    assert (str(Rate.parse("5/HOUR")), Rate.parse("5/hour").seconds) == ("5/hour", 3600)
    with pytest.raises(UsageError, match="not a time"):
        parse_expiry("999999w", now)
    assert ROLES == ("read", "judge", "correct", "admin")
