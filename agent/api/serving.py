"""The process of `precedent serve`: uvicorn, stopped so that no request that was sent to it is lost."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from typing import Any

import uvicorn

_APPLICATION = "server:create_app"
# seconds in which a client that has just connected sends its request, and for which clients may keep their connections
_GRACE, _KEPT = 0.3, 1.0
# as uvicorn's command ends when the application does not start
_NOT_STARTED = 3


class DrainingServer(uvicorn.Server):
    """Closes idle connections only some time after it takes no new ones: a request may be on its way on them."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections, wait for requests that are on their way, and finish all."""
        # connections that wait to be accepted would be reset: the event loop accepts them first
        for _ in range(3):
            await asyncio.sleep(0)
        for closing in (*self.servers, *(sockets or ())):
            closing.close()
        await asyncio.sleep(_GRACE)
        # whoever sends another request is answered with `Connection: close`
        until = time.monotonic() + _KEPT
        while self.server_state.connections and time.monotonic() < until:
            await asyncio.sleep(_GRACE / 10)
        await super().shutdown(sockets)


def run(*, host: str, port: int, workers: int, shutdown_timeout: int) -> None:
    """Serve ``server:create_app`` until the process receives a signal to stop."""
    options: dict[str, Any] = {
        "factory": True,
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
