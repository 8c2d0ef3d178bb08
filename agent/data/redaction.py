"""What of a source's records is redacted (`retrieval.text.redaction`)."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

if TYPE_CHECKING:
    from retrieval.text.redaction import Redactor

_KEY_BYTES = 32


class Redaction(BaseModel):
    """The kinds of values that a source redacts, and its key, which no dump shows but `to_stored`.

    Parameters
    ----------
    kinds
        Of `retrieval.text.redaction.KINDS`.
    key
        Hexadecimal digits.
    """

    model_config = ConfigDict(frozen=True)

    kinds: Annotated[tuple[str, ...], Field(min_length=1)]
    key: SecretStr = Field(exclude=True)

    @classmethod
    def of(cls, kinds: Iterable[str]) -> Redaction:
        """These kinds with a new key."""
        return cls(kinds=tuple(kinds), key=SecretStr(secrets.token_hex(_KEY_BYTES)))

    @field_validator("kinds")
    @classmethod
    def _are_known(cls, kinds: tuple[str, ...]) -> tuple[str, ...]:
        return _redactor(kinds).kinds

    @field_validator("key")
    @classmethod
    def _is_whole(cls, key: SecretStr) -> SecretStr:
        # what stands in its place where secrets are hidden must never become one
        if len(bytes.fromhex(key.get_secret_value())) != _KEY_BYTES:
            raise ValueError(f"a key of redaction has {2 * _KEY_BYTES} hexadecimal digits")
        return key

    @cached_property
    def redactor(self) -> Redactor:
        """What redacts with this key."""
        return _redactor(self.kinds, bytes.fromhex(self.key.get_secret_value()))

    def to_stored(self) -> dict[str, Any]:
        """With the key, as the source's row stores it."""
        return {"kinds": list(self.kinds), "key": self.key.get_secret_value()}


def parse_kinds(text: str) -> tuple[str, ...]:
    """The kinds that a list with commas names; ``default`` is all but addresses of machines, ``none`` is none.

    Raises
    ------
    ValueError
        It names something else.

    Examples
    --------
    >>> parse_kinds("card, Email"), parse_kinds("none")
    (('card', 'email'), ())
    """
    from retrieval.text.redaction import DEFAULT_KINDS, KINDS

    names = [name.strip().casefold() for name in text.split(",") if name.strip()]
    if names == ["none"]:
        return ()
    kinds = [kind for name in names for kind in (DEFAULT_KINDS if name == "default" else (name,))]
    if not kinds:
        raise ValueError(f"names no kind: default, none, or some of {', '.join(KINDS)}")
    return _redactor(kinds).kinds


def _redactor(kinds: Iterable[str], key: bytes = b"") -> Redactor:
    # compiling its patterns takes a while, and most sources are not redacted
    from retrieval.text.redaction import Redactor

    return Redactor(tuple(kinds), key)
