"""Bounded caches that threads may share, all of which can be emptied at once."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar
from weakref import WeakSet

import cachetools

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
_caches: WeakSet[LRUCache[Any]] = WeakSet()
_functions: list[Callable[[], None]] = []
_lock = threading.Lock()


class LRUCache(Generic[T]):
    """At most ``size`` values; the least recently used one is evicted first."""

    def __init__(self, size: int) -> None:
        self._values: cachetools.LRUCache[Hashable, T] = cachetools.LRUCache(size)
        self._lock = threading.Lock()
        with _lock:
            _caches.add(self)

    def get(self, key: Hashable) -> T | None:
        """The value, None when it is not cached; a caller that needs it later keeps it: it may be evicted meanwhile."""
        with self._lock:
            return self._values.get(key)

    def put(self, key: Hashable, value: T) -> None:
        """Cache the value."""
        with self._lock:
            self._values[key] = value

    def clear(self) -> None:
        """Drop all values."""
        with self._lock:
            self._values.clear()


def cached(size: int) -> Callable[[F], F]:
    """`functools.lru_cache` for a function of what records hold: `clear_caches` empties it."""

    def decorate(function: F) -> F:
        wrapped = functools.lru_cache(maxsize=size)(function)
        _functions.append(wrapped.cache_clear)
        return wrapped  # type: ignore[return-value]

    return decorate


def clear_caches() -> None:
    """Empty all caches of this process that may hold parts of records."""
    with _lock:
        caches = list(_caches)
    for cache in caches:
        cache.clear()
    for clear in _functions:
        clear()
