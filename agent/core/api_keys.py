"""Named API keys: how one is made, hashed and named, and how many requests it may make."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from agent.core.errors import UsageError

SETTING_NAME = "PRECEDENT_API_KEY"
"""The name of the key that is no named one: that of the settings, which may do everything."""
# by which a person, or a program that looks for leaked secrets, knows what it is
_PREFIX = "precedent_"
_BYTES = 32
# no comma, which separates it from other parts where it is stored as the one who labelled
_NAME = re.compile(r"[\w@](?:[\w@. -]{0,62}[\w@])?")
_UNITS = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400}
_RATE = re.compile(rf"([1-9][0-9]{{0,8}}) ?(?:/|per) ?({'|'.join(_UNITS)})")
_SPAN = re.compile(r"([0-9]{1,6})([smhdw])")
_SPAN_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400}


@dataclass(frozen=True)
class Rate:
    """The most requests in so many seconds."""

    requests: int
    unit: str

    @property
    def seconds(self) -> int:
        """The length of the unit."""
        return _UNITS[self.unit]

    def __str__(self) -> str:
        return f"{self.requests}/{self.unit}"

    @classmethod
    def parse(cls, text: str) -> Rate:
        """A rate such as ``60/minute``.

        Raises
        ------
        UsageError
            It is none.
        """
        found = _RATE.fullmatch(text.strip().lower())
        if found is None:
            raise UsageError(
                f"{text!r} is not a rate: write a number and a unit, such as 60/minute ({', '.join(_UNITS)})"
            )
        return cls(int(found[1]), found[2])


def new_key() -> str:
    """A key of 256 random bits."""
    return _PREFIX + secrets.token_urlsafe(_BYTES)


def digest_of(key: str) -> str:
    """What is stored of a key: its SHA-256.

    A slow hash, as passwords need it, would only cost time at each request: 256 random bits cannot be guessed from
    their hash, however fast that is.
    """
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def check_key_name(name: str) -> str:
    """Return the name if a key can have it.

    Raises
    ------
    UsageError
    """
    if name.upper() == SETTING_NAME:
        raise UsageError(f"{name!r} is the name of the key of the settings: choose another one")
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is not a valid name of a key: use 1 to 64 letters, digits, spaces, dots, hyphens, underscores "
            "or @, with none of space, dot and hyphen at an end"
        )
    return name


def parse_span(text: str) -> timedelta:
    """A span of time such as ``90d``; 0 is none.

    Raises
    ------
    UsageError
        It is none.
    """
    found = _SPAN.fullmatch(text.strip().lower())
    if found is None and text.strip() != "0":
        raise UsageError(f"{text!r} is not a span of time: write a number and one of s, m, h, d, w, such as 90d")
    return timedelta(seconds=int(found[1]) * _SPAN_SECONDS[found[2]] if found else 0)


def parse_expiry(text: str, now: datetime) -> datetime:
    """When a key expires: after a span such as ``90d``, or at a date or time (UTC, unless it names a zone).

    Raises
    ------
    UsageError
        It is neither, or not in the future.
    """
    try:
        if _SPAN.fullmatch(text.strip().lower()):
            moment = now + parse_span(text)
        else:
            moment = datetime.fromisoformat(text.strip())
            moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"{text!r} is not a time: write a span such as 90d, or a date such as 2027-01-31") from error
    if moment <= now:
        raise UsageError(f"{text!r} is not in the future")
    return moment
