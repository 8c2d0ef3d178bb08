"""Memory that is overwritten when it is allocated: hnswlib writes what it has not filled of its own to the disk.

What stands there is whatever the process held in that memory before, records among it.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

# of glibc's malloc.h; other C libraries have no such option
_M_PERTURB, _PATTERN = -6, 0xFF
_lock = threading.Lock()
_users = 0


@contextmanager
def cleared_memory() -> Iterator[None]:
    """Within it, in all threads, memory is filled with one byte when it is allocated, if the C library can do that."""
    global _users
    with _lock:
        _users += 1
        if _users == 1:
            _set(_PATTERN)
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                _set(0)


def _set(pattern: int) -> None:
    if (mallopt := _mallopt()) is not None:
        mallopt(_M_PERTURB, pattern)


@cache
def _mallopt() -> Any:
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018
        return library.mallopt
    except (OSError, AttributeError, TypeError):
        return None
