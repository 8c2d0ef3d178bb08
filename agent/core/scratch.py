"""Folders for drafts beside what they become; those that a killed process left are removed by the next."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from agent.core.logs import log_event

_PREFIX, _LOCK = ".precedent-draft-", "owner.lock"


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A new folder in ``parent`` that only this process uses, removed at the end. Raises OSError.

    Those of processes that live are locked. What processes that were killed left there is removed first.
    """
    for folder in parent.glob(f"{_PREFIX}*"):
        _remove_if_left(folder)
    own = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    lock = FileLock(own / _LOCK)
    try:
        lock.acquire()
        yield own
    finally:
        try:
            shutil.rmtree(own)
        finally:
            lock.release()


def _remove_if_left(folder: Path) -> None:
    # without one its process has not come to lock it yet
    if not (folder / _LOCK).is_file():
        return
    try:
        with FileLock(folder / _LOCK, timeout=0):
            shutil.rmtree(folder)
    except Timeout:
        return
    except FileNotFoundError:
        # another process removed it meanwhile
        return
    except OSError as error:
        log_event("leftover not removed", "warning", folder=str(folder), reason=error.strerror or str(error))
        return
    log_event("leftover removed", folder=str(folder))
