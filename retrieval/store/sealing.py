"""The seal of an SQLite store: what closed it last says how its file was left, and who opens it compares.

Whoever opens the store removes the seal, and the last to close it writes a new one, so that a process that is killed
leaves none. Where several have it open, or changes are in the log beside it, nothing is compared.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from sqlalchemy import Engine
from sqlalchemy.engine import URL

from retrieval.errors import StoreFailure
from retrieval.seal import Seal
from retrieval.store.failures import RESTORE_HINT
from retrieval.store.wal import damage_of_log

_WAIT = 60.0
_logger = logging.getLogger("precedent.index")


@contextmanager
def opening(location: URL) -> Iterator[None]:
    """Open a store within it: raises `StoreFailure` if the file is not as it was left when it was last closed."""
    file = _file(location)
    if file is None or not file.exists():
        yield
        return
    seal = Seal(_beside(file, "seal"))
    try:
        lock = FileLock(_beside(file, "seal.lock"))
        lock.acquire(timeout=_WAIT)
    except (Timeout, OSError):
        # where nothing can be written the seal stays
        _compare(seal, file)
        yield
        return
    try:
        _compare(seal, file)
        seal.remove()
        yield
    finally:
        lock.release()


def close_store(engine: Engine) -> None:
    """Close all connections, and seal the store if no other process has it open."""
    engine.dispose()
    file = _file(engine.url) if engine.dialect.name == "sqlite" else None
    if file is None or not file.exists():
        return
    try:
        with FileLock(_beside(file, "seal.lock"), timeout=_WAIT):
            if not _beside(file, "wal").exists():
                Seal(_beside(file, "seal")).write({file.name: file})
    except (Timeout, OSError):
        # without a seal nothing is compared
        return


def _file(location: URL) -> Path | None:
    name = location.database
    return Path(name) if name and name != ":memory:" else None


def _beside(file: Path, end: str) -> Path:
    return file.with_name(f"{file.name}-{end}")


def _compare(seal: Seal, file: Path) -> None:
    log = _beside(file, "wal")
    if log.exists():
        _check_log(log)
        return
    if seal.broken({file.name: file}) is None:
        return
    raise StoreFailure(
        f"the store {file} is damaged, or another program has changed it: it is not as it was left",
        f"{RESTORE_HINT}; to use it as it is, delete {seal.file}",
    )


def _check_log(log: Path) -> None:
    damage = damage_of_log(log)
    if damage is not None and damage[1]:
        # another process may have begun the log anew while it was read
        damage = damage_of_log(log)
    if damage is None:
        return
    reason, others_follow = damage
    if not others_follow:
        _logger.warning("the last change of the store was not written whole and is left out (%s: %s)", log, reason)
        return
    raise StoreFailure(
        f"the store's log of changes {log} is damaged ({reason}): committed changes after it cannot be read",
        f"{RESTORE_HINT}; to go on without those changes, move the log elsewhere",
    )
