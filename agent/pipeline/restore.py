"""Restoring a backup: staged and checked whole, then put in place; what was there is kept."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout
from sqlalchemy.engine import make_url

from agent.core.archive import opened_archive, sync_folder
from agent.core.errors import UsageError
from agent.core.progress import Progress
from agent.core.scratch import scratch_folder
from agent.core.settings import Settings
from agent.core.writing import writing
from agent.pipeline.backup import (
    DETECTORS,
    STORE,
    BackupSummary,
    backup,
    checked_summary,
    detector_files,
    extract_store,
)
from agent.pipeline.context import AppContext
from retrieval.errors import RetrievalError, StoreFailure
from retrieval.store.engine import open_store
from retrieval.store.store_file import holds_sources, is_in_use, replace_store


def restore(
    settings: Settings, path: Path, *, overwrite: bool = False, progress: Progress | None = None
) -> tuple[BackupSummary, Path | None]:
    """Put a backup into the data directory and the store that the settings name.

    All of the backup is checked before anything is changed.

    Parameters
    ----------
    settings : Settings
    path : Path
        The backup.
    overwrite : bool
        Whether what is there already is replaced; it is kept beside it.
    progress : Progress, optional

    Returns
    -------
    BackupSummary
    Path or None
        Where that is which was there before: a folder, of a store on a server a backup; None if there was nothing.

    Raises
    ------
    InputError
        The backup is damaged, or is none.
    MissingPart
        A newer Precedent made it.
    UsageError
        The data directory or the store is not empty, or in use.
    """
    home = settings.home.absolute()
    with opened_archive(path) as archive:
        summary = checked_summary(archive, path, progress)
        with writing(home):
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
            with scratch_folder(home) as staged, _index_of(home):
                extract_store(archive, path, staged / STORE)
                for member in archive.manifest.members:
                    if member.name != STORE:
                        archive.extract(member, staged / member.name)
                kept = _replace(settings, staged, overwrite=overwrite)
            sync_folder(home)
    return summary, kept


@contextmanager
def _index_of(home: Path) -> Iterator[None]:
    """Own the embedded index, which no process may use while it is replaced."""
    lock = FileLock(home / "index.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise _in_use(home) from None
    try:
        yield
    finally:
        lock.release()


def _in_use(place: Path) -> UsageError:
    return UsageError(f"another Precedent process has {place} open: stop it first (`precedent serve`, `watch`, `chat`)")


def _replace(settings: Settings, staged: Path, *, overwrite: bool) -> Path | None:
    home, location = settings.home.absolute(), make_url(settings.store_url)
    if location.get_backend_name() != "sqlite" or not location.database:
        return _replace_on_server(settings, staged, overwrite=overwrite)
    file = Path(location.database).absolute()
    file.parent.mkdir(parents=True, exist_ok=True)
    empty = _is_empty(file, home)
    if not empty and not overwrite:
        raise _not_empty(home)
    if file.exists() and is_in_use(file):
        raise _in_use(file)
    kept = None if empty else _kept_folder(home)
    for path in (*_store_files(file), home / DETECTORS, home / "index.seal", home / "index"):
        if not path.exists():
            continue
        # the store is copied: as long as the new one is not there, the old one is
        if kept is not None:
            _link_or_copy(path, kept / path.name) if path == file else shutil.move(path, kept / path.name)
        elif path != file:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    _put(staged, home, file)
    return kept


def _put(staged: Path, home: Path, file: Path) -> None:
    """Move what was staged to its places; the store last, in one step."""
    if (staged / DETECTORS).is_dir():
        shutil.move(staged / DETECTORS, home / DETECTORS)
    draft = file.with_name(f".{file.name}.restoring")
    shutil.move(staged / STORE, draft)
    with draft.open("rb") as stream:
        os.fsync(stream.fileno())
    draft.replace(file)
    sync_folder(file.parent)


def _store_files(file: Path) -> list[Path]:
    """The log of changes first: a store must never find that of another one."""
    return [*(file.with_name(file.name + end) for end in ("-wal", "-shm", "-seal")), file]


def _is_empty(file: Path, home: Path) -> bool:
    """Whether there is nothing to keep; a store that cannot be read is kept."""
    if any(detector_files(home / DETECTORS)):
        return False
    if not file.exists():
        return True
    try:
        engine = open_store(f"sqlite:///{file}")
    except StoreFailure:
        return False
    try:
        return not holds_sources(engine)
    except StoreFailure:
        return False
    finally:
        engine.dispose()


def _not_empty(home: Path) -> UsageError:
    return UsageError(
        f"{home} is not empty: --force replaces what is there and keeps it beside; or set PRECEDENT_HOME to another one"
    )


def _kept_folder(home: Path) -> Path:
    """A new folder beside the data directory; within it where that is a mount of its own."""
    parent, prefix = (home, "") if os.path.ismount(home) else (home.parent, f"{home.name}.")
    stamp = f"{prefix}before-restore-{datetime.now(UTC):%Y%m%dT%H%M%S}"
    for number in range(1_000):
        folder = parent / (f"{stamp}-{number}" if number else stamp)
        if not folder.exists():
            folder.mkdir()
            return folder
    raise UsageError(f"there are too many folders {stamp}-… in {parent}")


def _link_or_copy(file: Path, target: Path) -> None:
    try:
        os.link(file, target)
    except OSError:
        shutil.copy2(file, target)


def _replace_on_server(settings: Settings, staged: Path, *, overwrite: bool) -> Path | None:
    """Replace the store on a database server in one transaction; what it held is kept as a backup."""
    context, home, kept = AppContext(settings), settings.home.absolute(), None
    try:
        store = context.casebook.engine
        if holds_sources(store) or any(detector_files(home / DETECTORS)):
            if not overwrite:
                raise _not_empty(home)
            kept = _kept_folder(home) / "before-restore.zip"
            backup(context, kept)
        replace_store(store, staged / STORE)
        for name in (DETECTORS, "index"):
            if (home / name).exists():
                shutil.rmtree(home / name)
        (home / "index.seal").unlink(missing_ok=True)
        if (staged / DETECTORS).is_dir():
            shutil.move(staged / DETECTORS, home / DETECTORS)
    finally:
        context.close()
    return kept


def index_again(context: AppContext, progress: Progress | None = None) -> list[tuple[str, str]]:
    """Make the index of every source from the store; returns the sources of which it is made later, and why."""
    later: list[tuple[str, str]] = []
    for name in context.casebook.names():
        try:
            context.casebook.reindex(context.source(name), progress)
        except RetrievalError as error:
            later.append((name, str(error)))
    return later
