"""Data sets from the network, to the cache folder: only on request, and only where no account is needed."""

from __future__ import annotations

import shutil
from pathlib import Path

import httpx
from filelock import FileLock

from agent.core.errors import MissingPart, UsageError
from agent.data.datasets.catalog import ACCESS, DatasetEntry, Download
from llm.errors import ModelFailure
from llm.weights.checksum import sha256_of
from llm.weights.download import TIMEOUT, download
from llm.weights.progress import DownloadProgress


def cached_folder(entry: DatasetEntry, cache: Path) -> Path | None:
    """The folder of a data set that was downloaded before, None if a file of it is missing."""
    folder = cache / "datasets" / entry.name
    complete = entry.downloads and all((folder / file.name).is_file() for file in entry.downloads)
    return folder if complete else None


def fetch_dataset(entry: DatasetEntry, cache: Path, *, offline: bool) -> Path:
    """Download the files of a data set that are not in the cache; return their folder.

    Raises
    ------
    UsageError
        The set cannot be downloaded without an account.
    MissingPart
        A file cannot be downloaded, has the wrong SHA-256, or ``offline`` is set; a partial file is resumed next time.
    """
    if not entry.downloads:
        how = (
            "has no address of a single download" if entry.access == "open" else f"is to be had {ACCESS[entry.access]}"
        )
        raise UsageError(f"{entry.name} {how}: --download does not get it", f"{entry.get} Then use --from")
    if (folder := cached_folder(entry, cache)) is not None:
        return folder
    if offline:
        raise MissingPart(f"{entry.name} is not in the cache and offline is set: it is not downloaded", entry.get)
    folder = cache / "datasets" / entry.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"), httpx.Client(timeout=TIMEOUT, follow_redirects=True) as client:
            for file in entry.downloads:
                if not (folder / file.name).is_file():
                    _fetch(client, entry, file, folder)
    except OSError as error:
        raise MissingPart(f"{entry.name} cannot be stored under {folder}: {error}") from error
    return folder


def _fetch(client: httpx.Client, entry: DatasetEntry, file: Download, folder: Path) -> None:
    # beside the finished files, which a loader looks through
    scratch = folder.parent / f".{entry.name}.partial"
    scratch.mkdir(exist_ok=True)
    partial = scratch / file.name
    with DownloadProgress(file.name, 0) as progress:
        try:
            download(client, file.url, partial, size=None, name=file.name, progress=progress.update)
        except ModelFailure as failure:
            raise MissingPart(
                f"{file.url} cannot be downloaded: {failure}",
                f"the same command resumes; or get it by hand ({entry.get}) and use --from",
            ) from failure
        progress.note("is complete")
    recorded = [digest.sha256 for digest in entry.sha256_of(file.name)]
    actual = sha256_of(partial)
    if recorded and actual not in recorded:
        partial.unlink()
        raise MissingPart(
            f"{file.url} is not the file it should be: expected SHA-256 {recorded[0]}, got {actual}; it is removed",
            f"the source is {entry.source}",
        )
    partial.replace(folder / file.name)
    if not any(scratch.iterdir()):
        shutil.rmtree(scratch)
