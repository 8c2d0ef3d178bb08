"""An archive of files with a manifest of their sizes and SHA-256: a ZIP file, written at once or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from agent.core.errors import InputError, UsageError
from agent.core.progress import Progress
from agent.core.scratch import scratch_folder
from agent.core.writing import writing

MANIFEST = "manifest.json"
_BLOCK = 1 << 20
_LARGEST_MANIFEST = 64 << 20
# what damaged ZIP files make the reader raise
_DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, EOFError, ValueError, KeyError, RuntimeError, struct.error, OverflowError),
    # a seek to where no file has bytes
    OSError,
)
_NAME = re.compile(r"[^\\:\x00-\x1f]+")


@dataclass(frozen=True)
class Member:
    """A file in an archive: its name, with ``/`` between folders, its size in bytes and its SHA-256 in hex."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What an archive says of itself.

    Attributes
    ----------
    details : dict
        What the writer noted, as JSON.
    members : tuple of Member
    """

    details: dict[str, Any]
    members: tuple[Member, ...]


def write_archive(
    path: Path,
    files: Sequence[tuple[str, Path]],
    details: Mapping[str, Any],
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write files to a new archive.

    The archive gets its name when all of it is on the disk; where that fails, nothing is left.

    Parameters
    ----------
    path : Path
    files : sequence of (str, Path)
        Names in the archive, and where the files are.
    details : mapping
        Plain values for the manifest, beside the members.
    overwrite : bool
        Whether a file that is there already is replaced.

    Raises
    ------
    UsageError
        The archive cannot be written, or a file is there already.
    NotWritable
        Its disk is full.
    """
    _refuse_existing(path, overwrite=overwrite)
    with writing(path), scratch_folder(path.absolute().parent) as folder:
        draft = folder / path.name
        # only its owner may read it
        with os.fdopen(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b") as out:
            with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
                members = [_add(archive, name, file, progress) for name, file in files]
                manifest = {**details, "members": [vars(member) for member in members]}
                archive.writestr(MANIFEST, json.dumps(manifest, indent=1))
            out.flush()
            os.fsync(out.fileno())
        _refuse_existing(path, overwrite=overwrite)
        draft.replace(path)
        sync_folder(path.absolute().parent)


def _refuse_existing(path: Path, *, overwrite: bool) -> None:
    if path.is_dir():
        raise UsageError(f"{path} is a folder: name a file")
    if path.exists() and not overwrite:
        raise UsageError(f"{path} is there already: name another file, or give --force to replace it")


def _add(archive: zipfile.ZipFile, name: str, file: Path, progress: Progress | None) -> Member:
    digest, size, total = hashlib.sha256(), 0, file.stat().st_size
    with file.open("rb") as source, archive.open(name, "w", force_zip64=True) as target:
        while block := source.read(_BLOCK):
            digest.update(block)
            target.write(block)
            size += len(block)
            if progress:
                progress(f"writing {name}", size, total)
    return Member(name, size, digest.hexdigest())


def sync_folder(folder: Path) -> None:
    """Write the names of a folder to the disk; not every system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class ArchiveReader:
    """An archive that was checked whole before anything of it is used.

    Attributes
    ----------
    manifest : Manifest
    """

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self._path, self._archive = path, archive
        with self._reading(MANIFEST):
            text = self._bytes_of_manifest()
            stored = json.loads(text)
            members = tuple(Member(str(m["name"]), int(m["size"]), str(m["sha256"])) for m in stored.pop("members"))
        self.manifest = Manifest(stored, members)

    def check(self, progress: Progress | None = None) -> None:
        """Read everything, and compare it with the manifest.

        Raises
        ------
        InputError
            A member is missing, damaged, or has a name that leads elsewhere; the message names it.
        """
        names = [info.filename for info in self._archive.infolist()]
        expected = [MANIFEST, *(member.name for member in self.manifest.members)]
        for name in names:
            if name not in expected or names.count(name) > 1:
                raise InputError(f"{name!r} is not in its manifest, or comes twice", str(self._path))
        for member in self.manifest.members:
            if not _is_safe(member.name):
                raise InputError(f"{member.name!r} is not a name within the archive", str(self._path))
            for _ in self.blocks(member, progress):
                pass

    def blocks(self, member: Member, progress: Progress | None = None) -> Iterator[bytes]:
        """The bytes of a member.

        Raises
        ------
        InputError
            They are not those of the manifest.
        """
        digest, size = hashlib.sha256(), 0
        with self._reading(member.name), self._archive.open(member.name) as source:
            while block := source.read(_BLOCK):
                size += len(block)
                if size > member.size:
                    break
                digest.update(block)
                yield block
                if progress:
                    progress(f"checking {member.name}", size, member.size)
        if (size, digest.hexdigest()) != (member.size, member.sha256):
            raise InputError(
                f"{member.name} is damaged: its size or its SHA-256 is not that of the manifest", str(self._path)
            )

    def extract(self, member: Member, target: Path) -> None:
        """Write a member to a new file, and to the disk."""
        target.parent.mkdir(parents=True, exist_ok=True)
        with writing(target), target.open("xb") as out:
            for block in self.blocks(member):
                out.write(block)
            out.flush()
            os.fsync(out.fileno())

    def _bytes_of_manifest(self) -> bytes:
        with self._archive.open(MANIFEST) as stream:
            text = stream.read(_LARGEST_MANIFEST + 1)
        if len(text) > _LARGEST_MANIFEST:
            raise ValueError("it is too large")
        return text

    @contextmanager
    def _reading(self, name: str) -> Iterator[None]:
        try:
            yield
        except (*_DAMAGED, TypeError, AttributeError) as error:
            raise InputError(f"{name} is damaged or missing ({error})", str(self._path)) from error


@contextmanager
def opened_archive(path: Path) -> Iterator[ArchiveReader]:
    """Open an archive.

    Raises
    ------
    InputError
        It cannot be read, or is none: its name, and what of it is damaged.
    """
    try:
        stream: IO[bytes] = path.open("rb")
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", str(path)) from error
    with stream:
        try:
            archive = zipfile.ZipFile(stream)
        except _DAMAGED as error:
            raise InputError(f"is no backup, or is damaged or truncated ({error})", str(path)) from error
        with archive:
            yield ArchiveReader(path, archive)


def _is_safe(name: str) -> bool:
    """Whether a name stays within the folder that it is extracted to."""
    parts = PurePosixPath(name).parts
    return bool(_NAME.fullmatch(name)) and not name.startswith("/") and ".." not in parts and name == "/".join(parts)
