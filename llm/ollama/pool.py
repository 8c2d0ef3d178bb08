"""Several Ollama servers with the same model: the least busy one is called, one that fails is left out for a while.

A server that refuses connections, hangs or breaks off is called again only after `OPEN_SECONDS` (circuit breaker,
Nygard 2007); one whose queue is full is called again after growing random pauses. An error in the request itself is
raised at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

import ollama
from langchain_ollama import ChatOllama
from purgatory import SyncCircuitBreakerFactory
from purgatory.domain.model import OpenedState
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from llm.errors import ModelFailure
from llm.ollama.errors import OLLAMA_ERRORS, mapped, reason

# Consecutive failures after which a server is left out, and for how long.
FAILURES = 2
OPEN_SECONDS = 5.0
BUSY_SECONDS = 20.0
_FULL, _MISSING = 503, 404
T = TypeVar("T")


class Host:
    """One server: its chat model, its number of running calls, and its circuit breaker."""

    def __init__(self, url: str, chat: ChatOllama) -> None:
        self.url, self.chat, self.running = url, chat, 0
        self._lock = threading.Lock()
        breakers = SyncCircuitBreakerFactory(FAILURES, OPEN_SECONDS, [(BaseException, _is_not_the_servers)])
        self._breaker = breakers.get_breaker(url)

    @contextmanager
    def calling(self) -> Iterator[ChatOllama]:
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


class HostPool:
    """Servers that have the same model; may be used by many threads at once."""

    def __init__(self, hosts: Sequence[Host], missing: Callable[[str], str]) -> None:
        """``missing`` returns the message for the URL of a server that turns out not to have the model."""
        self.hosts, self._missing = tuple(hosts), missing

    def call(self, function: Callable[[ChatOllama], T]) -> T:
        """Return the result of ``function`` from the first server that succeeds, the least busy one first.

        Raises ModelFailure when none does; the message names the reason for each.
        """
        failures = []
        for host in sorted(self.hosts, key=lambda host: host.running):
            try:
                with host.calling() as chat:
                    return _retrying(function, chat)
            except OpenedState:
                failures.append(f"{host.url} failed before and is tried again in {OPEN_SECONDS:.0f} s at most")
            except OLLAMA_ERRORS as error:
                status = error.status_code if isinstance(error, ollama.ResponseError) else None
                if status == _MISSING:
                    failures.append(self._missing(host.url))
                elif _is_not_the_servers(error) and status != _FULL:
                    raise ModelFailure(f"Ollama at {host.url} refused: {reason(error)}") from error
                else:
                    failures.append(f"{host.url}: {reason(error)}")
        raise ModelFailure(f"Ollama did not answer: {'; '.join(failures)}")

    def stream(self, function: Callable[[ChatOllama], Iterator[T]]) -> Iterator[T]:
        """Yield the pieces of ``function``'s result; servers are tried as in `call` until the first piece arrives.

        Closing the iterator closes the connection, upon which Ollama stops generating. Raises ModelFailure when no
        server begins, or the server breaks off.
        """

        def begin(chat: ChatOllama) -> tuple[list[T], Iterator[T]]:
            pieces = function(chat)
            return list(islice(pieces, 1)), pieces

        first, rest = self.call(begin)
        try:
            with mapped("Ollama broke off"):
                yield from first
                yield from rest
        finally:
            if close := getattr(rest, "close", None):
                close()


def _retrying(function: Callable[[ChatOllama], T], chat: ChatOllama) -> T:
    retrying = Retrying(
        retry=retry_if_exception(_is_full),
        wait=wait_random_exponential(multiplier=0.2, max=3),
        stop=stop_after_delay(BUSY_SECONDS),
        reraise=True,
    )
    return retrying(function, chat)


def _is_full(error: BaseException) -> bool:
    return isinstance(error, ollama.ResponseError) and error.status_code == _FULL


def _is_not_the_servers(error: BaseException) -> bool:
    """Whether an error says nothing against the server: the request is wrong, or the queue is full."""
    if isinstance(error, ollama.ResponseError):
        # A stream that breaks off gives an error with status -1.
        return _is_full(error) or 0 <= error.status_code < 500
    return not isinstance(error, OLLAMA_ERRORS)
