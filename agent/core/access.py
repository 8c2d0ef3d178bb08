"""Who calls, and what they may do: the roles of API keys, in one order, and the key of the present request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar
from dataclasses import dataclass
from enum import IntEnum

from agent.core.api_keys import Rate
from agent.core.errors import Forbidden
from retrieval.types import KEY_MARK


class Role(IntEnum):
    """What a key may do; each role may do all that those before it may."""

    PUBLIC = 0
    """Needs no key."""
    READ = 1
    """Look at verdicts, cases, sources and metrics."""
    JUDGE = 2
    """Judge records, and talk with the agent."""
    CORRECT = 3
    """Correct verdicts, relabel cases, undo that, see proposals."""
    ADMIN = 4
    """Learn, remove, change sources, and whatever else there is."""

    @property
    def word(self) -> str:
        """The role as it is written in the store and in messages."""
        return self.name.lower()

    @classmethod
    def of(cls, word: str) -> Role:
        """The role by its word."""
        return cls[word.upper()]


ROLES = tuple(role.word for role in Role if role is not Role.PUBLIC)
"""The roles that a key may have, the least first."""


@dataclass(frozen=True)
class Caller:
    """The API key of a request, by its name; ``rate``: how often it may call, None: as often as it will."""

    name: str
    role: Role
    rate: Rate | None = None


_caller: ContextVar[Caller | None] = ContextVar("precedent_caller", default=None)


def current_caller() -> Caller | None:
    """The key of the present request; None in commands, and in a server without keys: everything is allowed there."""
    return _caller.get()


@contextmanager
def calling_as(caller: Caller | None) -> Iterator[None]:
    """Within it, and in the tasks and threads that are started there, the caller is that one."""
    token = _caller.set(caller)
    try:
        yield
    finally:
        _caller.reset(token)


def carry_caller(context: Context) -> None:
    """Have what runs in another context be called by the caller of this one."""
    context.run(_caller.set, _caller.get())


def require(role: Role) -> None:
    """Refuse what the present caller's role does not allow.

    Raises
    ------
    Forbidden
        With the role that is needed, and the one that the key has.
    """
    caller = _caller.get()
    if caller is not None and caller.role < role:
        raise Forbidden(missing_role(role, caller))


def missing_role(needed: Role, caller: Caller) -> str:
    """The sentence about a role that is not enough."""
    return f"this needs the role {needed.word}; the API key {caller.name!r} has the role {caller.role.word}"


def signed(client: str) -> str:
    """Who changes something, as it is stored: the client (such as ``console``), and the name of its API key."""
    caller = _caller.get()
    if caller is None:
        return client
    named = f"{client}{KEY_MARK}{caller.name}"
    # the API is how keys are mostly used
    return named.removeprefix("API, ")
