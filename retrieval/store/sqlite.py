"""Connections to SQLite: its settings, and reading a store whose folder cannot be written to.

A store in WAL mode is read by way of a file beside it, which the first reader makes. Where that is impossible (a full
disk, a read-only folder) and no process has left changes beside the store, the store is read as it is, and a
connection that does so is replaced when the folder can be written to again.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Engine, event
from sqlalchemy.exc import DisconnectionError
from tenacity import retry, retry_if_exception, stop_after_delay, wait_random

from retrieval.disk import probe

_BUSY_SECONDS = 30
_SETTINGS = (f"busy_timeout={_BUSY_SECONDS * 1000}", "journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON")
_FROZEN = "precedent_frozen"


def open_sqlite_by(engine: Engine) -> None:
    """Let the engine open its connections as this module says."""
    event.listen(engine, "do_connect", _connect)
    event.listen(engine, "checkout", _replace_if_writable)


def _connect(_: object, record: Any, arguments: list[Any], options: dict[str, Any]) -> sqlite3.Connection:
    file = Path(arguments[0])
    try:
        return _configured(sqlite3.connect(file, *arguments[1:], **options))
    except sqlite3.OperationalError:
        if not file.is_file() or _has_changes_beside(file) or probe(file.absolute().parent) is None:
            raise
    connection: sqlite3.Connection = sqlite3.connect(
        f"file:{quote(str(file.absolute()))}?immutable=1", uri=True, **options
    )
    record.info[_FROZEN] = file
    return connection


def _configured(connection: sqlite3.Connection) -> sqlite3.Connection:
    try:
        for setting in _SETTINGS:
            _set(connection, setting)
        # makes the file through which the others are read, if there is none
        connection.execute("SELECT count(*) FROM sqlite_master")
    except BaseException:
        connection.close()
        raise
    return connection


def _is_busy(error: BaseException) -> bool:
    return isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY


# SQLite does not wait for others, whatever its busy_timeout, where two change the journal's mode at the same time
@retry(
    retry=retry_if_exception(_is_busy), stop=stop_after_delay(_BUSY_SECONDS), wait=wait_random(0.01, 0.1), reraise=True
)
def _set(connection: sqlite3.Connection, setting: str) -> None:
    connection.execute(f"PRAGMA {setting}")


def _replace_if_writable(_: object, record: Any, __: object) -> None:
    file = record.info.get(_FROZEN)
    if file is not None and (_has_changes_beside(file) or probe(file.absolute().parent) is None):
        del record.info[_FROZEN]
        raise DisconnectionError("the store can be written to again")


def _has_changes_beside(file: Path) -> bool:
    log = file.with_name(file.name + "-wal")
    return log.exists() and log.stat().st_size > 0
