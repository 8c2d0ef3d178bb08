"""Several Ollama servers behind one call: the least busy is asked, one that fails is left out for a while.

A server that refuses, hangs or breaks off is tried again only after `OPEN_SECONDS` (circuit breaker, Nygard 2007);
one whose queue is full is asked again with growing, jittered pauses. What the request itself did wrong is nobody's
failure and goes to the caller at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import httpx
import ollama
from langchain_ollama import ChatOllama
from purgatory import SyncCircuitBreakerFactory
from purgatory.domain.model import OpenedState
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from llm.errors import ModelFailure

# Calls that fail in a row before a server is left alone, and for how long.
FAILURES = 2
OPEN_SECONDS = 5.0
BUSY_SECONDS = 20.0
_FULL, _MISSING = 503, 404
T = TypeVar("T")


class Host:
    """One server: how to ask it, how many calls it is answering now, and whether it may be asked."""

    def __init__(self, url: str, chat: ChatOllama) -> None:
        self.url, self.chat, self.busy = url, chat, 0
        self._lock = threading.Lock()
        breakers = SyncCircuitBreakerFactory(FAILURES, OPEN_SECONDS, [(BaseException, _not_the_servers_fault)])
        self._breaker = breakers.get_breaker(url)

    @contextmanager
    def call(self) -> Iterator[ChatOllama]:
        """Counts what happens inside as the server's success or failure; raises OpenedState while it is left alone."""
        # the breaker is not made for threads, and must not be locked while the server answers
        with self._lock:
            self._breaker.__enter__()
            self.busy += 1
        failure: BaseException | None = None
        try:
            yield self.chat
        except BaseException as error:
            failure = error
            raise
        finally:
            with self._lock:
                self.busy -= 1
                self._breaker.__exit__(type(failure) if failure else None, failure, None)


class HostPool:
    """Servers that have the same model. Safe to share between threads."""

    def __init__(self, hosts: Sequence[Host], missing: Callable[[str], str]) -> None:
        """``missing(url)``: what to say of a server that turns out not to have the model."""
        self.hosts, self._missing = tuple(hosts), missing

    def ask(self, call: Callable[[ChatOllama], T]) -> T:
        """``call``'s answer from the first server that gives one, the least busy asked first.

        Raises:
            ModelFailure: none gave one; the message says what became of each.
        """
        said = []
        for host in sorted(self.hosts, key=lambda host: host.busy):
            try:
                with host.call() as chat:
                    return _patiently(call, chat)
            except OpenedState:
                said.append(f"{host.url} failed before and is asked again in {OPEN_SECONDS:.0f} s at most")
            except ollama.ResponseError as error:
                if error.status_code == _MISSING:
                    said.append(self._missing(host.url))
                elif _is_the_servers(error):
                    said.append(f"{host.url} answered {error.status_code}: {error.error}")
                else:
                    raise ModelFailure(f"Ollama at {host.url} refused: {error.error}") from error
            except (httpx.HTTPError, ConnectionError, ValueError) as error:
                said.append(f"{host.url}: {_in_words(error)}")
        raise ModelFailure(f"Ollama did not answer: {'; '.join(said)}")

    def stream(self, call: Callable[[ChatOllama], Iterator[T]]) -> Iterator[T]:
        """``call``'s pieces; another server may give them only until the first has come.

        Closing the iterator closes the connection, at which Ollama stops generating.

        Raises:
            ModelFailure: no server began, or the one that did broke off.
        """

        def begin(chat: ChatOllama) -> tuple[list[T], Iterator[T]]:
            pieces = call(chat)
            return [piece for _, piece in zip(range(1), pieces, strict=False)], pieces

        first, rest = self.ask(begin)
        try:
            yield from first
            yield from rest
        except (httpx.HTTPError, ollama.ResponseError, ConnectionError, ValueError) as error:
            raise ModelFailure(f"Ollama broke off: {_in_words(error)}") from error
        finally:
            close = getattr(rest, "close", None)
            if close:
                close()


def _patiently(call: Callable[[ChatOllama], T], chat: ChatOllama) -> T:
    retrying = Retrying(
        retry=retry_if_exception(_is_full),
        wait=wait_random_exponential(multiplier=0.2, max=3),
        stop=stop_after_delay(BUSY_SECONDS),
        reraise=True,
    )
    return retrying(call, chat)


def _is_full(error: BaseException) -> bool:
    return isinstance(error, ollama.ResponseError) and error.status_code == _FULL


def _is_the_servers(error: ollama.ResponseError) -> bool:
    # a stream that breaks off gives an error without a status
    return error.status_code < 0 or error.status_code >= 500


def _not_the_servers_fault(error: BaseException) -> bool:
    if isinstance(error, ollama.ResponseError):
        return _is_full(error) or not _is_the_servers(error)
    return not isinstance(error, (httpx.HTTPError, ConnectionError, ValueError))


def _in_words(error: Exception) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    return str(error) or type(error).__name__
