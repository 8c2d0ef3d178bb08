"""Connections that a client cannot hold open or fill: what uvicorn leaves unbounded before a request and after it.

Bounds are on the time and the length of a request's head, and on the time for which a client takes nothing of its
answer. Within a request `TimeoutMiddleware` and the guard have the limits.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from agent.core.settings import settings

if TYPE_CHECKING:
    # one of two classes, by what is installed
    Protocol = Any
else:
    Protocol = AutoHTTPProtocol

# bytes of an answer that the kernel keeps for a client, who would otherwise make it keep megabytes
_KEPT_BY_KERNEL = 256 * 1024
# bytes of a request line and its headers, as of h11
_LONGEST_HEAD = 64 * 1024
_TOO_LONG = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_LATE = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class BoundedProtocol(Protocol):  # type: ignore[misc]
    """uvicorn's protocol of a connection, which it ends when a bound is crossed."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._unsent = 0
        self._unsent_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Take a connection, on which a request must come soon."""
        super().connection_made(transport)
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _KEPT_BY_KERNEL)
        self._expect_head()
        self._watch_unsent()

    def data_received(self, data: bytes) -> None:
        """Pass bytes on, unless they are of a head that is too long."""
        if not self._in_request():
            self._head_bytes += len(data)
            self._expect_head()
        super().data_received(data)
        if self._in_request():
            self._head_bytes = 0
            self._cancel_head()
        elif self._head_bytes > _LONGEST_HEAD:
            self._refuse(_TOO_LONG)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._cancel_head()
        if self._unsent_timer is not None:
            self._unsent_timer.cancel()
        super().connection_lost(exc)

    def _in_request(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _expect_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(settings().header_timeout, self._refuse, _LATE)

    def _cancel_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, answer: bytes) -> None:
        self._cancel_head()
        if not self.transport.is_closing():
            # a connection on which nothing was sent was opened ahead, and is owed no answer
            if self._head_bytes:
                self.transport.write(answer)
            self.transport.close()

    def _watch_unsent(self) -> None:
        """Abort the connection if as much waits to be sent as the last time; closing it would wait on."""
        unsent = self.transport.get_write_buffer_size()
        if unsent and unsent == self._unsent:
            # the kernel, too, forgets what it keeps for the client
            connection = self.transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
            return
        self._unsent = unsent
        self._unsent_timer = self.loop.call_later(settings().request_timeout, self._watch_unsent)
