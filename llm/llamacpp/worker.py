"""The one thread that may touch a llama.cpp context, with a bounded queue of calls before it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from llm.errors import EngineBusy, ModelFailure
from llm.llamacpp.engine import Cancelled

# How long closing waits for the block of tokens that is being decoded.
JOIN_SECONDS = 10.0


class Closable(Protocol):
    """What the owner owns."""

    def close(self) -> None: ...


Tool = TypeVar("Tool", bound=Closable)
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Finished:
    """The last thing delivered for a call; ``error`` is what it died of, if it did."""

    error: Exception | None = None


class Call(Generic[Tool, Item]):
    """Work for the owner thread: what it yields, and then one Finished, is handed to ``deliver``."""

    def __init__(
        self,
        work: Callable[[Tool, Callable[[], bool]], Iterator[Item]],
        deliver: Callable[[Item | Finished], None],
    ) -> None:
        self._work, self._deliver = work, deliver
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """Nobody wants the rest: the work ends at its next step; safe from any thread, at any time."""
        self._cancelled.set()

    def finish(self, error: Exception | None) -> None:
        """Tell the one who waits that nothing more comes."""
        self._deliver(Finished(error))

    def perform(self, tool: Tool) -> None:
        """Do the work, on the owner thread; what goes wrong goes to the one who waits."""
        try:
            for item in self._work(tool, self._cancelled.is_set):
                self._deliver(item)
        except Cancelled:
            self.finish(_called_off())
        except Exception as error:  # the owner lives on, whatever one call dies of; the caller raises it
            self.finish(error)
        else:
            self.finish(None)

    @property
    def cancelled(self) -> bool:
        """Whether the call was called off."""
        return self._cancelled.is_set()


def _called_off() -> ModelFailure:
    """Whoever cancelled no longer listens; one who does was cut off by `Owner.close`."""
    return ModelFailure("the language model was closed before its answer was complete")


class InferenceThread(Generic[Tool]):
    """Makes its tool on its own thread at the first call, and does one call after the other.

    ``queue_size`` calls may wait; one more waits ``queue_timeout`` seconds for a place.
    """

    def __init__(self, make: Callable[[], Tool], *, queue_size: int, queue_timeout: float) -> None:
        self._make, self._size, self._timeout = make, queue_size, queue_timeout
        self._changed = threading.Condition()
        self._waiting: deque[Call[Tool, object]] = deque()
        self._current: Call[Tool, object] | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def submit(self, call: Call[Tool, Item]) -> None:
        """Queue ``call``. Raises EngineBusy when no place comes free in time, ModelFailure after close."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._closed or len(self._waiting) < self._size, self._timeout):
                raise EngineBusy(
                    f"{self._size} calls wait for the language model already, none got through in "
                    f"{self._timeout:g} s; try again later"
                )
            if self._closed:
                raise ModelFailure("the language model was closed")
            self._waiting.append(call)  # type: ignore[arg-type]  # it only ever delivers its own items
            if self._thread is None:
                self._thread = threading.Thread(target=self._live, name="llama-owner", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def close(self) -> None:
        """Stop after the running step; calls that wait fail. May be called twice, and at process exit."""
        with self._changed:
            self._closed = True
            if self._current is not None:
                self._current.cancel()
            self._changed.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(JOIN_SECONDS)

    def _live(self) -> None:
        tool: Tool | None = None
        while (call := self._next()) is not None:
            if call.cancelled:
                call.finish(_called_off())
                continue
            if tool is None:
                try:
                    tool = self._make()
                except Exception as error:  # the next call tries again: the memory may be there by then
                    call.finish(error)
                    continue
            call.perform(tool)
        if tool is not None:
            tool.close()

    def _next(self) -> Call[Tool, object] | None:
        """The next call, or None when closed, after failing all that waited."""
        with self._changed:
            self._current = None
            self._changed.wait_for(lambda: self._closed or bool(self._waiting))
            if self._closed:
                for call in self._waiting:
                    call.finish(ModelFailure("the language model was closed"))
                self._waiting.clear()
                return None
            self._current = self._waiting.popleft()
            self._changed.notify_all()
            return self._current
