"""The only thread that may use a llama.cpp context, with a bounded queue in front of it."""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Generic, TypeVar

from llm.errors import EngineBusy, ModelFailure
from llm.llamacpp.engine import Cancelled, Engine

Item = TypeVar("Item")
# Yields the items of a job; raises Cancelled once the function that it is given returns True.
Work = Callable[[Engine, Callable[[], bool]], Iterator[Item]]


class Job(Generic[Item]):
    """The items that a piece of work yields, as another thread receives them."""

    def __init__(self) -> None:
        self._items: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        self._cancelled = threading.Event()
        self._future: Future[None] | None = None
        self._error: BaseException | None = None

    def get(self) -> Item | None:
        """Wait for the next item; return None after the last one. Raises what the work raised."""
        item = self._items.get()
        if item is None and self._error is not None:
            raise self._error
        return item

    def cancel(self) -> None:
        """Stop the work at its next step, or before it begins; safe from any thread, at any time."""
        self._cancelled.set()
        if self._future is not None:
            self._future.cancel()

    def _finish(self, error: BaseException | None) -> None:
        self._error = error
        self._items.put(None)


class InferenceThread:
    """Makes an engine on a thread of its own at the first job, and runs one job after the other on it.

    Parameters
    ----------
    make : callable
        Makes the engine; when it raises, the job fails and the next job tries again.
    queue_size : int
        Jobs that may wait beside the one that runs.
    queue_timeout : float
        Seconds that `submit` waits for a place in the queue.
    """

    def __init__(self, make: Callable[[], Engine], *, queue_size: int, queue_timeout: float) -> None:
        self._make, self._size, self._timeout = make, queue_size, queue_timeout
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="llama")
        self._places = threading.Semaphore(queue_size + 1)
        self._closed, self._lock = threading.Event(), threading.Lock()
        self._engine: Engine | None = None
        self._thread: threading.Thread | None = None
        _threads.add(self)

    def submit(self, job: Job[Item], work: Work[Item]) -> None:
        """Queue ``work``, which yields the items of ``job``.

        Raises EngineBusy when no place becomes free in time, ModelFailure when the thread is closed.
        """
        if not self._closed.is_set() and not self._places.acquire(timeout=self._timeout):
            raise EngineBusy(
                f"{self._size} calls are waiting for the language model and none was answered in {self._timeout:g} s; "
                "try again later"
            )
        try:
            future = self._executor.submit(self._run, job, work)
        except RuntimeError as error:
            self._places.release()
            raise ModelFailure("the language model was closed") from error
        job._future = future
        future.add_done_callback(partial(self._done, job))

    def close(self) -> None:
        """Stop the running job at its next step, fail those that wait, close the engine. May be called twice."""
        self._closed.set()
        # The garbage collector may close a model on this very thread; `_run` then closes the engine.
        here = threading.current_thread() is self._thread
        self._executor.shutdown(wait=not here, cancel_futures=True)
        if not here:
            self._close_engine()

    def _run(self, job: Job[Item], work: Work[Item]) -> None:
        self._thread = threading.current_thread()
        try:
            if self._engine is None:
                self._engine = self._make()
            for item in work(self._engine, lambda: job._cancelled.is_set() or self._closed.is_set()):
                job._items.put(item)
        finally:
            if self._closed.is_set():
                self._close_engine()

    def _done(self, job: Job[Any], future: Future[None]) -> None:
        self._places.release()
        error = None if future.cancelled() else future.exception()
        if future.cancelled() or isinstance(error, Cancelled):
            # A consumer that cancelled its job does not read this.
            error = ModelFailure("the language model was closed before its answer was complete")
        job._finish(error)

    def _close_engine(self) -> None:
        with self._lock:
            engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()


_threads: weakref.WeakSet[InferenceThread] = weakref.WeakSet()


def _close_all() -> None:
    for thread in tuple(_threads):
        thread.close()


# At exit the interpreter joins an executor's thread before it calls the functions of `atexit`, and would wait for the
# whole answer. concurrent.futures itself registers here; what is registered later runs earlier.
threading._register_atexit(_close_all)  # type: ignore[attr-defined]
