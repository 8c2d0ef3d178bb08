"""How often a key may call, and how many wrong keys may come from an address; counted in this process only."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from ipaddress import IPv6Address, ip_address, ip_network

from cachetools import LRUCache
from starlette.requests import HTTPConnection

from agent.core.api_keys import Rate

_REMEMBERED = 10_000
WRONG_KEYS = Rate(300, "minute")
"""The most wrong keys from one address."""


class RateLimiter:
    """Buckets by who uses them, each of the size of the rate, and filled evenly; of each is kept when it will be full.

    Parameters
    ----------
    clock : callable
        Seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._full_at: LRUCache[Hashable, float] = LRUCache(_REMEMBERED)

    def take(self, caller: Hashable, rate: Rate) -> float:
        """Take one token.

        Returns
        -------
        float
            0 if there was one, else the seconds until there is.
        """
        now = self._clock()
        full_at = max(now, self._full_at.get(caller, now)) + rate.seconds / rate.requests
        # a millionth of a second of rounding is no request too many
        if (wait := full_at - now - rate.seconds) > 1e-6:
            return wait
        self._full_at[caller] = full_at
        return 0.0

    def wait(self, caller: Hashable, rate: Rate) -> float:
        """The seconds until there is a token, 0 if there is one; takes none."""
        now = self._clock()
        return max(0.0, self._full_at.get(caller, now) - now + rate.seconds / rate.requests - rate.seconds)


class WrongKeys:
    """Counts wrong keys by the address that they come from; of IPv6 by the network of 64 bits, as one client has it."""

    def __init__(self) -> None:
        self._limiter = RateLimiter()

    def wait(self, connection: HTTPConnection) -> float:
        """The seconds until the address may send another wrong key, 0 if it may now."""
        return self._limiter.wait(_origin(connection), WRONG_KEYS)

    def count(self, connection: HTTPConnection) -> float:
        """Count a wrong key; the seconds to wait if there were too many, else 0."""
        return self._limiter.take(_origin(connection), WRONG_KEYS)


def _origin(connection: HTTPConnection) -> str:
    host = connection.client.host if connection.client else ""
    try:
        address = ip_address(host)
    except ValueError:
        # a Unix socket
        return host
    return str(ip_network((address, 64), strict=False)) if isinstance(address, IPv6Address) else host
