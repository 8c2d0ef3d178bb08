"""Errors of the databases' drivers as `StoreFailure`, with reasons in plain words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sqlalchemy.engine import URL

from retrieval.disk import disk_is_full, probe, reason_not_writable
from retrieval.errors import NotWritable, StoreFailure

_LOCKED = "another process has locked it for too long: try again when that process is done"
_FULL = "its disk is full: free some space on it"
_READ_ONLY = "it is read-only: check the permissions of the file and of its folder"
# by SQLite's primary result code and by PostgreSQL's SQLSTATE
_LOCK_CODES = (5, 6, "55P03", "40P01")
_UNWRITABLE = {"53100": _FULL, "25006": _READ_ONLY, 8: _READ_ONLY}
# SQLite's codes for a full disk, and for what may come of one: an error of input or output, a file that is not opened
_FULL_CODE, _FILE_CODES = 13, (10, 14)
# SQLite's codes for a file whose pages do not fit together, and for one that is no store at all
DAMAGE_CODES = (11, 26)
RESTORE_HINT = "`precedent restore FILE --force` goes back to a backup, and keeps the damaged files beside it"


def read_json(text: str) -> Any:
    """A stored JSON value.

    Raises
    ------
    StoreFailure
        It is none.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        raise StoreFailure(f"a value in the store is damaged: {error}", RESTORE_HINT) from error


def failure(what: str, error: BaseException, location: URL) -> StoreFailure:
    """The error of a database as one of ours.

    Parameters
    ----------
    what
        What failed, as the message begins.
    error
        An error of SQLAlchemy or of the driver, or an `OSError`.
    """
    original = getattr(error, "orig", None) or error
    code = getattr(original, "sqlite_errorcode", None)
    code = code & 0xFF if code is not None else getattr(original, "sqlstate", None)
    if code in _LOCK_CODES:
        return StoreFailure(f"{what}: {_LOCKED}")
    # SQLite quotes what it finds in a damaged schema, which may be no text
    if isinstance(original, UnicodeDecodeError) or (code in DAMAGE_CODES and hasattr(original, "sqlite_errorcode")):
        return StoreFailure(f"{what}: the file is damaged ({str(original).strip()})", RESTORE_HINT)
    folder = Path(location.database).absolute().parent if location.database else Path()
    if isinstance(original, OSError):
        reason = reason_not_writable(original, folder)
    elif code == _FULL_CODE:
        reason = disk_is_full(folder)
    elif code in _UNWRITABLE:
        # what SQLite finds read-only may have been opened so because the disk is full
        reason = (probe(folder) if code == 8 else None) or _UNWRITABLE[code]
    else:
        reason = probe(folder) if code in _FILE_CODES and folder.is_dir() else None
    if reason:
        return NotWritable(f"{what}: {reason}")
    hint = RESTORE_HINT if "Could not decode" in str(original) else None
    return StoreFailure(f"{what}: {str(original).strip()}", hint)
