"""The whole store as one SQLite file: written while others use the store, checked, and put back."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Engine, func, select
from sqlalchemy.engine import make_url

from retrieval.errors import StoreFailure
from retrieval.store.copying import copy_store
from retrieval.store.engine import open_store
from retrieval.store.failures import DAMAGE_CODES, failure
from retrieval.store.schema import cases, sources, vectors

_SHOWN = 3


def write_store_file(store: Engine, file: Path) -> dict[str, int]:
    """Write the store, as it is at one moment, to a new SQLite file; others may write to the store meanwhile.

    Returns
    -------
    dict of str to int
        The number of cases of each source in the file.

    Raises
    ------
    StoreFailure
        The store cannot be read.
    """
    if store.dialect.name == "sqlite":
        with store.connect() as connection:
            driver: Any = connection.connection.driver_connection
            with _failures(f"the store {store.url.database} cannot be copied", file):
                # leaves out what was deleted, and finds pages that are damaged
                driver.execute("VACUUM INTO ?", (str(file),))
    else:
        other = open_store(f"sqlite:///{file}")
        copy_store(store, other)
        other.dispose()
    _settle(file)
    copy = open_store(f"sqlite:///{file}")
    counted = select(sources.c.name, func.count(cases.c.id)).join_from(sources, cases, isouter=True)
    with copy.connect() as connection:
        counts: dict[str, int] = dict(connection.execute(counted.group_by(sources.c.name)).all())
    copy.dispose()
    _settle(file)
    return counts


def check_store_file(file: Path) -> str | None:
    """What is damaged in an SQLite file of a store; None if nothing is.

    Raises
    ------
    StoreFailure
        The file cannot be opened for another reason.
    """
    try:
        with closing(sqlite3.connect(f"file:{quote(str(file.absolute()))}?mode=ro", uri=True)) as connection:
            found = [row[0] for row in connection.execute("PRAGMA integrity_check(10)")]
            foreign = connection.execute("SELECT name FROM sqlite_master WHERE type IN ('trigger', 'view')").fetchall()
            orphans = connection.execute("PRAGMA foreign_key_check").fetchall()
    except UnicodeDecodeError as error:
        # raised for the texts of SQLite's own errors too
        return f"names in its schema are no text ({error})"
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in DAMAGE_CODES:
            return str(error)
        raise StoreFailure(f"the store {file} cannot be checked: {error}") from error
    if foreign:
        return f"it has what no store has: {', '.join(name for (name,) in foreign[:_SHOWN])}"
    if orphans:
        return f"{len(orphans)} rows of {orphans[0][0]} belong to no source"
    return None if found == ["ok"] else "; ".join(found[:_SHOWN])


def damage_of_store(store: Engine) -> str | None:
    """What is damaged in a store; None if nothing is. A database server checks itself."""
    file = store.url.database
    return check_store_file(Path(file)) if store.dialect.name == "sqlite" and file else None


def migrate_store_file(file: Path) -> None:
    """Bring the tables of an SQLite file to this version, and note that no vector is in an index.

    Raises
    ------
    StoreFailure
        A newer Precedent wrote it.
    """
    engine = open_store(f"sqlite:///{file}")
    try:
        with engine.begin() as connection:
            connection.execute(vectors.update().values(indexed=False))
    finally:
        engine.dispose()
    _settle(file)


def replace_store(store: Engine, file: Path) -> None:
    """Make the store hold what an SQLite file of this version holds, in one transaction."""
    other = open_store(f"sqlite:///{file}")
    try:
        copy_store(other, store)
    finally:
        other.dispose()


def holds_sources(store: Engine) -> bool:
    """Whether there is any source in the store."""
    with store.connect() as connection:
        return connection.scalar(select(sources.c.name).limit(1)) is not None


def is_in_use(file: Path) -> bool:
    """Whether another process has an SQLite store open; of one that is damaged this cannot be known: it is not.

    Raises
    ------
    StoreFailure
        It cannot be known, because the file or its folder fails.
    """
    with (
        _failures(f"the store {file} cannot be locked", file),
        closing(sqlite3.connect(file, timeout=0, isolation_level=None)) as connection,
    ):
        try:
            # only the last connection may leave the mode in which several read while one writes
            connection.execute("PRAGMA journal_mode=DELETE")
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("ROLLBACK")
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                return True
            if code not in DAMAGE_CODES:
                raise
    return False


def _settle(file: Path) -> None:
    """Leave everything in the file itself, and no log of changes beside it."""
    with _failures(f"the store {file} cannot be written", file), closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")


@contextmanager
def _failures(what: str, file: Path) -> Iterator[None]:
    """Errors of SQLite as `StoreFailure`; the engine does so for its own connections."""
    try:
        yield
    except sqlite3.Error as error:
        raise failure(what, error, make_url(f"sqlite:///{file}")) from error
