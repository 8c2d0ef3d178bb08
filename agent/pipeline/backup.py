"""Backup of a casebook: the store and the detectors' files; the index is made from them again."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from agent.core.archive import ArchiveReader, Manifest, opened_archive, write_archive
from agent.core.errors import InputError, MissingPart, UsageError
from agent.core.progress import Progress
from agent.core.scratch import scratch_folder
from agent.core.writing import writing
from agent.pipeline.context import AppContext
from retrieval.errors import StoreFailure
from retrieval.store.schema import HEAD
from retrieval.store.store_file import (
    check_store_file,
    migrate_store_file,
    write_store_file,
)

_FORMAT, _FORMAT_VERSION = "precedent backup", 1
STORE, DETECTORS = "precedent.db", "detectors"
_TRIES = 3
# folders of trainings in progress, within that of a detector
_DRAFTS = {"work", "new"}


@dataclass(frozen=True)
class BackupSummary:
    """What a backup holds.

    Attributes
    ----------
    sources : dict of str to int
        The number of cases of each source.
    files : int
        Files of detectors: adapters, tuned classifiers.
    created_at : str
        When it was made (ISO 8601, UTC).
    schema : str
        Of the store in it.
    """

    sources: dict[str, int]
    files: int
    created_at: str
    schema: str

    @classmethod
    def of(cls, manifest: Manifest) -> BackupSummary:
        """The summary of an archive."""
        details = manifest.details
        return cls(dict(details["sources"]), len(manifest.members) - 1, details["created_at"], details["schema"])


def backup(
    context: AppContext, path: Path, *, overwrite: bool = False, progress: Progress | None = None
) -> BackupSummary:
    """Write the casebook to one file, while others may use it.

    Parameters
    ----------
    context : AppContext
    path : Path
        The file to write.
    overwrite : bool
        Whether a file that is there already is replaced.
    progress : Progress, optional

    Returns
    -------
    BackupSummary

    Raises
    ------
    UsageError
        The file cannot be written, or is there already.
    NotWritable
        A disk is full.
    """
    if path.exists() and not overwrite:
        raise UsageError(f"{path} is there already: name another file, or give --force to replace it")
    detectors = context.settings.home / DETECTORS
    with writing(path), scratch_folder(path.absolute().parent) as folder:
        for attempt in range(_TRIES):
            files = detector_files(detectors)
            copies = [(name, folder / str(attempt) / name) for name, _ in files]
            store = folder / str(attempt) / STORE
            store.parent.mkdir()
            if progress:
                progress("copying the store", 0, 0)
            sources = write_store_file(context.casebook.engine, store)
            # a detector's files never change; new ones get new names
            if _copied(files, copies) and detector_files(detectors) == files:
                break
        else:
            raise StoreFailure(f"the files in {detectors} changed while they were copied: try again when it is quiet")
        created_at = datetime.now(UTC).isoformat(timespec="seconds")
        details = {
            "format": _FORMAT,
            "version": _FORMAT_VERSION,
            "precedent": version("precedent-agent"),
            "schema": HEAD,
            "created_at": created_at,
            "embedder": context.settings.embedder,
            "sources": sources,
        }
        write_archive(path, [(STORE, store), *copies], details, overwrite=overwrite, progress=progress)
    return BackupSummary(sources, len(files), created_at, HEAD)


def detector_files(detectors: Path) -> list[tuple[str, Path]]:
    """The files in a folder of detectors by their names in an archive, without drafts of trainings in progress."""
    found = sorted(
        path
        for path in detectors.rglob("*")
        if path.is_file() and not path.is_symlink() and not _DRAFTS & {*path.relative_to(detectors).parts[1:-1]}
    )
    return [(f"{DETECTORS}/{path.relative_to(detectors).as_posix()}", path) for path in found]


def _copied(files: list[tuple[str, Path]], copies: list[tuple[str, Path]]) -> bool:
    """Copy files; whether none of them was removed meanwhile."""
    for (_, source), (_, target) in zip(files, copies, strict=True):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(source, target)
        except FileNotFoundError:
            return False
    return True


def check_backup(path: Path, progress: Progress | None = None) -> BackupSummary:
    """Read a whole backup and check it, as `restore` does; nothing is changed.

    Raises
    ------
    InputError
        It is damaged, or no backup.
    MissingPart
        A newer Precedent made it.
    """
    with tempfile.TemporaryDirectory(prefix="precedent-check-") as folder, opened_archive(path) as archive:
        summary = checked_summary(archive, path, progress)
        extract_store(archive, path, Path(folder) / STORE)
    return summary


def checked_summary(archive: ArchiveReader, path: Path, progress: Progress | None) -> BackupSummary:
    """What a backup says of itself, after it was read whole and checked; see `agent.pipeline.restore.restore`."""
    details = archive.manifest.details
    if details.get("format") != _FORMAT:
        raise InputError("is no backup of Precedent", str(path))
    if details.get("version") != _FORMAT_VERSION or str(details.get("schema")) > HEAD:
        raise MissingPart(
            f"{path} was made by a newer Precedent ({details.get('precedent')}, schema {details.get('schema')}; this "
            f"one knows {HEAD}): update this one"
        )
    names = [member.name for member in archive.manifest.members]
    if STORE not in names or any(name != STORE and not name.startswith(f"{DETECTORS}/") for name in names):
        raise InputError("manifest.json names other files than those of a backup", str(path))
    archive.check(progress)
    try:
        return BackupSummary.of(archive.manifest)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"manifest.json lacks {error}", str(path)) from error


def extract_store(archive: ArchiveReader, path: Path, file: Path) -> None:
    """Extract the store, check it, and bring it to this version."""
    archive.extract(next(member for member in archive.manifest.members if member.name == STORE), file)
    if damage := check_store_file(file):
        raise InputError(f"{STORE} in it is damaged: {damage}", str(path))
    migrate_store_file(file)
