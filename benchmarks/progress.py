"""What a long benchmark is doing, on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

_EVERY_SECONDS = 10.0
Progress = Callable[[str, int, int], None]


def progress_lines(name: str) -> Progress:
    """A line when something else is done, and every ten seconds."""
    last, shown = "", 0.0

    def show(doing: str, done: int, total: int) -> None:
        nonlocal last, shown
        now = time.monotonic()
        if doing != last or now - shown > _EVERY_SECONDS:
            print_status(f"{name}: {doing} {done:,}" + (f" of {total:,}" if total else ""))
            last, shown = doing, now

    return show


def print_status(line: str) -> None:
    """Print a line on standard error."""
    print(line, file=sys.stderr, flush=True)
