"""Whether the process received a signal to stop, for long requests."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Awaitable
from contextlib import suppress
from types import FrameType
from typing import Any, TypeVar

from agent.core.errors import Stopped

T = TypeVar("T")


class Shutdown:
    """Set by SIGINT and SIGTERM, whose previous handlers then run as well."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    @property
    def requested(self) -> bool:
        """Whether the process received a signal to stop."""
        return self._event.is_set()

    def watch(self) -> None:
        """Install the handlers; called in the event loop, in the main thread, the only one that receives signals."""
        if threading.current_thread() is not threading.main_thread():
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            previous = signal.getsignal(number)
            if not callable(previous):
                continue

            def handle(number: int, frame: FrameType | None, previous: Any = previous) -> None:
                with suppress(RuntimeError):
                    loop.call_soon_threadsafe(self._event.set)
                previous(number, frame)

            signal.signal(number, handle)

    async def cancel_on_shutdown(self, work: Awaitable[T]) -> T:
        """The result of the work.

        Raises
        ------
        Stopped
            The process received a signal to stop first; the work is cancelled.
        """
        task, shutdown = asyncio.ensure_future(work), asyncio.ensure_future(self._event.wait())
        try:
            await asyncio.wait({task, shutdown}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise Stopped
            return task.result()
        finally:
            shutdown.cancel()
            task.cancel()
