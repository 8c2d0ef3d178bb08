"""The process of `precedent serve`: uvicorn, stopped so that no request that was sent to it is lost."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from typing import Any

import uvicorn

from agent.api.connections import BoundedProtocol

_APPLICATION = "server:create_app"
# seconds in which a client that has just connected sends its request, and for which clients may keep their connections
_GRACE, _KEPT = 0.3, 1.0
# as uvicorn's command ends when the application does not start
_NOT_STARTED = 3


class DrainingServer(uvicorn.Server):
    """Closes idle connections only some time after it takes no new ones: a request may be on its way on them."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections, wait for requests that are on their way, and finish all."""
        for server in self.servers:
            for listening in server.sockets:
                await self._accept_waiting(listening)
            server.close()
        for closing in sockets or ():
            closing.close()
        await asyncio.sleep(_GRACE)
        # whoever sends another request is answered with `Connection: close`
        until = time.monotonic() + _KEPT
        while self.server_state.connections and time.monotonic() < until:
            await asyncio.sleep(_GRACE / 10)
        await super().shutdown(sockets)

    async def _accept_waiting(self, listening: socket.socket) -> None:
        """Accept the connections that wait at a socket; closing it would reset them."""
        loop = asyncio.get_running_loop()
        with listening.dup() as waiting:
            waiting.setblocking(False)
            while True:
                try:
                    connection, _ = waiting.accept()
                except BlockingIOError:
                    return
                connection.setblocking(False)
                await loop.connect_accepted_socket(self._protocol, connection)

    def _protocol(self) -> asyncio.Protocol:
        """As uvicorn makes one for a connection."""
        make: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = make(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol


def run(*, host: str, port: int, workers: int, shutdown_timeout: int) -> None:
    """Serve ``server:create_app`` until the process receives a signal to stop."""
    options: dict[str, Any] = {
        "factory": True,
        "http": BoundedProtocol,
        "host": host,
        "port": port,
        # the application configures logging, and logs requests itself
        "log_config": None,
        "log_level": "warning",
        "access_log": False,
        "timeout_graceful_shutdown": shutdown_timeout,
    }
    if workers > 1:
        # the address stays open while uvicorn replaces one of them
        uvicorn.run(_APPLICATION, workers=workers, **options)
        return
    server = DrainingServer(uvicorn.Config(_APPLICATION, **options))
    server.run()
    if not server.started:
        sys.exit(_NOT_STARTED)
