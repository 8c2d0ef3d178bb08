"""A bounded cache that threads may share."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import Generic, TypeVar

import cachetools

T = TypeVar("T")


class LRUCache(Generic[T]):
    """At most ``size`` values; the least recently used one is evicted first."""

    def __init__(self, size: int) -> None:
        self._values: cachetools.LRUCache[Hashable, T] = cachetools.LRUCache(size)
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> T | None:
        """The value, None when it is not cached; a caller that needs it later keeps it: it may be evicted meanwhile."""
        with self._lock:
            return self._values.get(key)

    def put(self, key: Hashable, value: T) -> None:
        """Cache the value."""
        with self._lock:
            self._values[key] = value

    def clear(self) -> None:
        """Forget all values."""
        with self._lock:
            self._values.clear()
