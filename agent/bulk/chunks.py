"""Items produced in a thread ahead of their use."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
# seconds for which the thread is waited for at the end: it may block on a pipe for ever
_JOIN_SECONDS = 1.0
# seconds between two looks at signals, which a queue's `get` without a timeout would not see
_SIGNAL_SECONDS = 0.2


def prefetch(items: Iterator[T], count: int) -> Generator[T, None, None]:
    """Yield the items in order, while a thread produces the next ones.

    Parameters
    ----------
    items : iterator
        What to yield; an exception that it raises is raised here, after the items before it.
    count : int
        Items that exist at a time, the one in use included.
    """
    for batch in prefetch_batches(items, 1, count):
        yield from batch


def prefetch_batches(
    items: Iterator[T], size: int, count: int, pause: float | None = None
) -> Generator[list[T], None, None]:
    """Yield the items in order in lists, while a thread produces the next ones.

    Parameters
    ----------
    items : iterator
        As in `prefetch`.
    size : int
        Items of a list; the last one may be shorter.
    count : int
        Items that exist at a time, those in use included.
    pause : float, optional
        Seconds after which a shorter list is yielded when no further item is produced.
    """
    free, stopped = threading.Semaphore(count), threading.Event()
    produced = SimpleQueue[tuple[bool, T | BaseException | None]]()

    def produce() -> None:
        try:
            while free.acquire() and not stopped.is_set():
                produced.put((True, next(items)))
        except StopIteration:
            produced.put((False, None))
        except BaseException as error:
            produced.put((False, error))

    producer = threading.Thread(target=produce, name="prefetch", daemon=True)
    producer.start()
    batch = list[T]()
    last = time.monotonic()
    try:
        while True:
            try:
                is_item, item = produced.get(timeout=_SIGNAL_SECONDS)
            except Empty:
                if not (batch and pause is not None and time.monotonic() - last > pause):
                    continue
            else:
                last = time.monotonic()
                if is_item:
                    batch.append(item)  # type: ignore[arg-type]
                if is_item and len(batch) < size:
                    continue
                if not is_item:
                    if batch:
                        yield batch
                    if isinstance(item, BaseException):
                        raise item
                    return
            yield batch
            free.release(len(batch))
            batch = []
    finally:
        stopped.set()
        free.release()
        producer.join(_JOIN_SECONDS)


def map_ahead(function: Callable[[T], R], items: Iterable[T], workers: int) -> Generator[R, None, None]:
    """Yield what ``function`` makes of each item, in order, while ``workers`` threads make the next ones."""
    waiting = deque[Future[R]]()
    with ThreadPoolExecutor(workers, thread_name_prefix="ahead") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
