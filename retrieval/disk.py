"""Why nothing can be written to a folder: its disk is full, or it is read-only."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
# what SQLite needs at least to open its log of changes
_PROBE_BYTES = 128 * 1024


def is_full(error: OSError) -> bool:
    """Whether a disk, or somebody's share of it, is full."""
    return error.errno in _FULL


def disk_is_full(folder: Path) -> str:
    """The sentence about a full disk."""
    return f"the disk of {folder} is full: free some space on it"


def reason_not_writable(error: OSError, folder: Path) -> str | None:
    """The reason in plain words, with what to do about it; None of another error."""
    if is_full(error):
        return disk_is_full(folder)
    if error.errno in _READ_ONLY:
        return f"{folder} is read-only: allow writing there"
    return None


def probe(folder: Path) -> str | None:
    """Try to write a file without a name to a folder; why that is impossible, None if it is not."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_PROBE_BYTES))
    except OSError as error:
        return reason_not_writable(error, folder)
    return None
