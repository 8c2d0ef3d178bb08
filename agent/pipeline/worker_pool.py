"""A queue whose items threads take in batches."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class WorkerPool(Generic[T]):
    """Threads that call ``serve`` with the items that have waited longest, as many as are there, up to a limit.

    An item that arrives alone is served alone and at once; items that arrive while all threads are busy are served
    together.

    Parameters
    ----------
    name
        Name of the threads.
    serve
        Called with the items; must not raise.
    batch_size
        The most items of one call.
    threads
        How many threads, each started when it is first needed.
    """

    def __init__(self, name: str, serve: Callable[[list[T]], None], *, batch_size: int, threads: int = 1) -> None:
        self._name, self._serve, self._batch_size, self._max_threads = name, serve, batch_size, threads
        self._waiting: deque[T] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._threads = list[threading.Thread]()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, items: Iterable[T]) -> None:
        """Queue items.

        Raises
        ------
        RuntimeError
            The pool is closed: no thread would serve them.
        """
        with self._changed:
            if self._closed:
                raise RuntimeError(f"the worker pool {self._name!r} is closed")
            self._waiting.extend(items)
            while self._waiting and len(self._threads) < self._max_threads:
                thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._threads.append(thread)
                thread.start()
            self._changed.notify_all()

    def close(self) -> None:
        """Serve what is queued, and end the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while batch := self._next_batch():
            self._serve(batch)

    def _next_batch(self) -> list[T]:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or bool(self._waiting))
            return [self._waiting.popleft() for _ in range(min(self._batch_size, len(self._waiting)))]
