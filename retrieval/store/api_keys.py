"""The server's named API keys, of which the store has only hashes, and who changed them when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, and_, delete, insert, or_, select, update

from retrieval.store.engine import insert_or_ignore
from retrieval.store.schema import api_key_changes, api_keys, console_sessions, in_utc


@dataclass(frozen=True)
class StoredKey:
    """A named key.

    Attributes
    ----------
    digest : str
        SHA-256 of the key, in hexadecimal digits.
    previous_digest, previous_until : str, datetime, or None
        That of the key before the last rotation, and until when it is still accepted.
    role : str
        What it may do; see `agent.core.access.Role`.
    rate : str or None
        The most requests, such as ``60/minute``; None: any number.
    last_used_at : datetime or None
        When it was last used, to about a minute.
    """

    name: str
    digest: str
    previous_digest: str | None
    previous_until: datetime | None
    role: str
    rate: str | None
    created_at: datetime
    rotated_at: datetime | None
    expires_at: datetime | None
    last_used_at: datetime | None

    def digests(self, now: datetime) -> list[str]:
        """The digests that are accepted at that moment."""
        if self.expires_at is not None and self.expires_at <= now:
            return []
        in_grace = self.previous_until is not None and now < self.previous_until
        return [self.digest, *([self.previous_digest] if in_grace and self.previous_digest else [])]


@dataclass(frozen=True)
class KeyChange:
    """Who did what to a key: ``added``, ``rotated`` or ``removed``."""

    name: str
    action: str
    role: str
    changed_by: str
    changed_at: datetime


class ApiKeys:
    """The keys in a store. Safe to share between threads and processes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def all(self) -> list[StoredKey]:
        """All keys, expired ones too, by name."""
        with self._engine.connect() as connection:
            return [_key(row) for row in connection.execute(select(api_keys).order_by(api_keys.c.name)).mappings()]

    def get(self, name: str) -> StoredKey | None:
        """The key of that name."""
        with self._engine.connect() as connection:
            return _key_of(connection, name)

    def add(
        self, name: str, digest: str, role: str, changed_by: str, rate: str | None, expires_at: datetime | None
    ) -> bool:
        """Add a key; whether there was none of that name."""
        now = datetime.now(UTC)
        values = {"name": name, "digest": digest, "role": role, "rate": rate, "created_at": now}
        with self._engine.begin() as connection:
            added = insert_or_ignore(self._engine, api_keys).values(**values, expires_at=expires_at)
            is_new = connection.scalar(added.returning(api_keys.c.name)) is not None
            if is_new:
                _note(connection, name, "added", role, changed_by, now)
            return is_new

    def rotate(
        self, name: str, digest: str, changed_by: str, previous_until: datetime | None, expires_at: datetime | None
    ) -> bool:
        """Replace a key, of which the store may still accept the present one for a while; whether there is one."""
        now, name_is = datetime.now(UTC), api_keys.c.name == name
        values: dict[str, Any] = {
            # the row's own digest before this statement, whoever rotated it last
            "previous_digest": None if previous_until is None else api_keys.c.digest,
            "previous_until": previous_until,
            "digest": digest,
            "rotated_at": now,
            "expires_at": expires_at,
        }
        with self._engine.begin() as connection:
            rotated = connection.execute(update(api_keys).where(name_is).values(values)).rowcount
            if rotated:
                role = connection.scalar(select(api_keys.c.role).where(name_is)) or ""
                _note(connection, name, "rotated", role, changed_by, now)
            return bool(rotated)

    def remove(self, name: str, changed_by: str) -> bool:
        """Remove a key; whether there was one."""
        with self._engine.begin() as connection:
            key = _key_of(connection, name)
            removed = connection.execute(delete(api_keys).where(api_keys.c.name == name)).rowcount
            if key is not None and removed:
                connection.execute(delete(console_sessions).where(console_sessions.c.key_name == name))
                _note(connection, name, "removed", key.role, changed_by, datetime.now(UTC))
            return bool(removed)

    def used(self, name: str, at: datetime) -> None:
        """Note that a key was used."""
        earlier = or_(api_keys.c.last_used_at.is_(None), api_keys.c.last_used_at < at)
        with self._engine.begin() as connection:
            connection.execute(update(api_keys).where(and_(api_keys.c.name == name, earlier)).values(last_used_at=at))

    def changes(self, name: str | None = None) -> list[KeyChange]:
        """The changes of one key, or of all, oldest first."""
        query = select(api_key_changes).order_by(api_key_changes.c.id)
        if name is not None:
            query = query.where(api_key_changes.c.name == name)
        names = ("name", "action", "role", "changed_by")
        with self._engine.connect() as connection:
            rows: Sequence[Any] = connection.execute(query).mappings().all()
        return [KeyChange(**{key: row[key] for key in names}, changed_at=in_utc(row["changed_at"])) for row in rows]


def _key_of(connection: Connection, name: str) -> StoredKey | None:
    row = connection.execute(select(api_keys).where(api_keys.c.name == name)).mappings().first()
    return None if row is None else _key(row)


def _note(connection: Connection, name: str, action: str, role: str, changed_by: str, at: datetime) -> None:
    values = {"name": name, "action": action, "role": role, "changed_by": changed_by, "changed_at": at}
    connection.execute(insert(api_key_changes).values(values))


def _key(row: Any) -> StoredKey:
    values: dict[str, Any] = {
        name: in_utc(value) if isinstance(value, datetime) else value for name, value in row.items()
    }
    return StoredKey(**values)
