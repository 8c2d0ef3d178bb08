"""Knowing that the process was told to stop, for whoever is in the middle of something long."""

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
    """Set by SIGINT and SIGTERM, which are then handled as they would have been; see `watch`."""

    def __init__(self) -> None:
        self._told = asyncio.Event()

    @property
    def told(self) -> bool:
        return self._told.is_set()

    def watch(self) -> None:
        """Begin, in the event loop; signals come to a process's main thread alone."""
        if threading.current_thread() is not threading.main_thread():
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            before = signal.getsignal(number)
            if not callable(before):
                continue

            def stop(number: int, frame: FrameType | None, before: Any = before) -> None:
                with suppress(RuntimeError):
                    loop.call_soon_threadsafe(self._told.set)
                before(number, frame)

            signal.signal(number, stop)

    async def cancel_on_shutdown(self, work: Awaitable[T]) -> T:
        """What the work gives.

        Raises:
            Stopped: the process was told to stop first, and the work was given up.
        """
        working, stop = asyncio.ensure_future(work), asyncio.ensure_future(self._told.wait())
        try:
            await asyncio.wait({working, stop}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise Stopped
            return working.result()
        finally:
            stop.cancel()
            working.cancel()
