"""Servers with the same model: the least busy one is called, one that fails is left out for a while.

A server that refuses connections, hangs or breaks off is called again only after `OPEN_SECONDS` (circuit breaker,
Nygard 2007); one whose queue is full is called again after growing random pauses, and left out when it stays full. An
error in the request itself is raised at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

from purgatory import SyncCircuitBreakerFactory
from purgatory.domain.model import OpenedState
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from llm.errors import ModelFailure

# Consecutive failures after which a server is left out, and for how long.
FAILURES = 2
OPEN_SECONDS = 5.0
BUSY_SECONDS = 20.0
_MISSING = 404
T = TypeVar("T")
Chat = TypeVar("Chat")


@dataclass(frozen=True)
class ClientErrors:
    """What the errors of one kind of client mean.

    Attributes
    ----------
    server : str
        The kind of server, for messages.
    types : tuple of type
        What the client raises; other errors are defects.
    status : callable
        The HTTP status of an error; None, or negative, where there is none (no connection, broken off).
    reason : callable
        What an error says, never an empty text.
    full : frozenset of int
        The statuses of a full queue.
    """

    server: str
    types: tuple[type[Exception], ...]
    status: Callable[[BaseException], int | None]
    reason: Callable[[Exception], str]
    full: frozenset[int]

    @contextmanager
    def mapped(self, context: str, hint: str | None = None) -> Iterator[None]:
        """Raise the errors of a request as `ModelFailure`, whose message is ``context`` and the reason."""
        try:
            yield
        except self.types as error:
            raise ModelFailure(f"{context}: {self.reason(error)}", hint) from error

    def is_full(self, error: BaseException) -> bool:
        """Whether the server asks to come again later."""
        return isinstance(error, self.types) and self.status(error) in self.full

    def is_refusal(self, error: BaseException) -> bool:
        """Whether the error says nothing against the server: the request is wrong."""
        if not isinstance(error, self.types):
            return True
        status = self.status(error)
        return status is not None and 0 <= status < 500 and status not in self.full


class Host(Generic[Chat]):
    """One server: its chat model, its number of running calls, and its circuit breaker."""

    def __init__(self, url: str, chat: Chat, errors: ClientErrors) -> None:
        self.url, self.chat, self.running = url, chat, 0
        self._lock = threading.Lock()
        breakers = SyncCircuitBreakerFactory(FAILURES, OPEN_SECONDS, [(BaseException, errors.is_refusal)])
        self._breaker = breakers.get_breaker(url)

    @contextmanager
    def calling(self) -> Iterator[Chat]:
        """Count the body as the server's success or failure. Raises OpenedState while the server is left out."""
        # The breaker is not thread-safe, and must not be locked during the call.
        with self._lock:
            self._breaker.__enter__()
            self.running += 1
        failure: BaseException | None = None
        try:
            yield self.chat
        except BaseException as error:
            failure = error
            raise
        finally:
            with self._lock:
                self.running -= 1
                self._breaker.__exit__(type(failure) if failure else None, failure, None)


class HostPool(Generic[Chat]):
    """Servers that have the same model; may be used by many threads at once.

    Parameters
    ----------
    hosts : sequence of Host
    errors : ClientErrors
    missing : callable
        Returns the message for the URL of a server that turns out not to have the model.
    timeout : float
        Seconds that a call may take: it waits half of them at most, and at most `BUSY_SECONDS`, for a place in a full
        queue.
    """

    def __init__(
        self,
        hosts: Sequence[Host[Chat]],
        errors: ClientErrors,
        missing: Callable[[str], str],
        timeout: float,
    ) -> None:
        self.hosts, self._errors, self._missing = tuple(hosts), errors, missing
        self._busy_seconds = min(BUSY_SECONDS, timeout / 2)

    def call(self, function: Callable[[Chat], T]) -> T:
        """Return the result of ``function`` from the first server that succeeds, the least busy one first.

        Raises ModelFailure when none does; the message names the reason for each.
        """
        errors, failures = self._errors, []
        for host in sorted(self.hosts, key=lambda host: host.running):
            try:
                with host.calling() as chat:
                    return self._retrying(function, chat)
            except OpenedState:
                failures.append(f"{host.url} failed before and is tried again in {OPEN_SECONDS:.0f} s at most")
            except errors.types as error:
                if errors.status(error) == _MISSING:
                    failures.append(self._missing(host.url))
                elif errors.is_refusal(error):
                    raise ModelFailure(f"{errors.server} at {host.url} refused: {errors.reason(error)}") from error
                else:
                    failures.append(f"{host.url}: {errors.reason(error)}")
        raise ModelFailure(f"{errors.server} did not answer: {'; '.join(failures)}")

    def stream(self, function: Callable[[Chat], Iterator[T]]) -> Iterator[T]:
        """Yield the pieces of ``function``'s result; servers are tried as in `call` until the first piece arrives.

        Closing the iterator closes the connection, upon which the server stops generating. Raises ModelFailure when no
        server begins, or the server breaks off.
        """

        def begin(chat: Chat) -> tuple[list[T], Iterator[T]]:
            pieces = function(chat)
            return list(islice(pieces, 1)), pieces

        first, rest = self.call(begin)
        try:
            with self._errors.mapped(f"{self._errors.server} broke off"):
                yield from first
                yield from rest
        finally:
            if close := getattr(rest, "close", None):
                close()

    def _retrying(self, function: Callable[[Chat], T], chat: Chat) -> T:
        retrying = Retrying(
            retry=retry_if_exception(self._errors.is_full),
            wait=wait_random_exponential(multiplier=0.2, max=3),
            stop=stop_after_delay(self._busy_seconds),
            reraise=True,
        )
        return retrying(function, chat)
