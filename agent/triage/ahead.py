"""Things made while others are used: a thread is a few of them ahead."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from queue import Empty, SimpleQueue
from typing import TypeVar

T = TypeVar("T")
# a reader that waits for a pipe to say more is not waited for; waiting without end would not end by a signal
_LEAVING_SECONDS, _SIGNAL_SECONDS = 1.0, 0.2


def ahead(items: Iterator[T], count: int) -> Generator[T, None, None]:
    """The items, in order, made in a thread; at most ``count`` are there at a time, the one in use among them.

    Raises:
        Exception: what making one raised, after those before it.
    """
    room, made, left = (
        threading.Semaphore(count),
        SimpleQueue[tuple[bool, T | BaseException | None]](),
        threading.Event(),
    )

    def make() -> None:
        try:
            while room.acquire() and not left.is_set():
                made.put((True, next(items)))
        except StopIteration:
            made.put((False, None))
        except BaseException as error:
            made.put((False, error))

    maker = threading.Thread(target=make, name="ahead", daemon=True)
    maker.start()
    try:
        while True:
            try:
                there, item = made.get(timeout=_SIGNAL_SECONDS)
            except Empty:
                continue
            if not there:
                if isinstance(item, BaseException):
                    raise item
                return
            yield item  # type: ignore[misc]
            room.release()
    finally:
        left.set()
        room.release()
        maker.join(_LEAVING_SECONDS)
