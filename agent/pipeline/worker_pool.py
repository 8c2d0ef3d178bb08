"""Work that waits in line for threads, each of which takes some of it at a time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class WorkerPool(Generic[T]):
    """``threads`` threads that call ``serve`` with what has waited longest, up to ``at_once`` of it.

    What comes alone is served alone and at once; what comes while all are busy is served together. ``serve`` raises
    nothing.
    """

    def __init__(self, name: str, serve: Callable[[list[T]], None], *, at_once: int, threads: int = 1) -> None:
        self._name, self._serve, self._at_once, self._most = name, serve, at_once, threads
        self._waiting: deque[T] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._threads = list[threading.Thread]()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, work: Iterable[T]) -> None:
        with self._changed:
            self._waiting.extend(work)
            while self._waiting and len(self._threads) < self._most:
                thread = threading.Thread(target=self._live, name=self._name, daemon=True)
                self._threads.append(thread)
                thread.start()
            self._changed.notify_all()

    def close(self) -> None:
        """Serve what waits, and end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _live(self) -> None:
        while some := self._next():
            self._serve(some)

    def _next(self) -> list[T]:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or bool(self._waiting))
            return [self._waiting.popleft() for _ in range(min(self._at_once, len(self._waiting)))]
