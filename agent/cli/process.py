"""Fast start and exit of a command's process.

Importing PyTorch creates so many objects that garbage collection, and finalizing them at exit, takes a third of the
time of judging one record.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

# as of a process that a closed pipe ends: 128 and the number of SIGPIPE
CLOSED_PIPE = 141
# allocations, and collections of the younger generations, between two garbage collections
_GC_THRESHOLDS = 50_000, 20, 100


@contextmanager
def fast_exit() -> Iterator[None]:
    """Run the whole process within it: at its end only `atexit` functions run and output is flushed."""
    gc.set_threshold(*_GC_THRESHOLDS)
    exit_code = [1]
    # functions that are registered later run before this one
    atexit.register(_exit, exit_code)
    try:
        yield
        exit_code[0] = 0
    except SystemExit as end:
        exit_code[0] = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise


def discard_unwritable_output() -> None:
    """Let standard output go nowhere if it cannot be written to, so that its end is no further error."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _exit(exit_code: list[int]) -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        exit_code[0] = exit_code[0] or CLOSED_PIPE
    except OSError as error:
        print(f"error: the output could not be written: {error}", file=sys.stderr)
        exit_code[0] = exit_code[0] or 1
    with suppress(OSError):
        sys.stderr.flush()
    os._exit(exit_code[0])
