"""A process that begins and ends quickly: what it loads is no garbage, and what it leaves the system takes back.

Importing PyTorch makes so many objects that looking for garbage among them, and taking them apart at the end, takes
a third of the time of judging one record.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# objects made, and younger collections, after which garbage is looked for
_SELDOM = 50_000, 20, 100


@contextmanager
def fast_exit() -> Iterator[None]:
    """A whole process: when it ends, what asked to since then is run (`atexit`), output flushed, and no more done."""
    gc.set_threshold(*_SELDOM)
    codes = [1]
    # what is registered later runs before it
    atexit.register(_leave, codes)
    try:
        yield
        codes[0] = 0
    except SystemExit as end:
        codes[0] = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise


def _leave(codes: list[int]) -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        codes[0] = codes[0] or 1
    except OSError as error:
        print(f"error: the output could not be written: {error}", file=sys.stderr)
        codes[0] = codes[0] or 1
    sys.stderr.flush()
    os._exit(codes[0])
