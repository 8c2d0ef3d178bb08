"""Files that grow: what is new in them, across rotation and truncation, from a stored position on.

Files are looked at by polling: notifications are missing on some file systems (network shares, containers).
A file is recognised by its inode and a hash of its beginning, so that one that a rotation renamed or copied is read to
its end before its successor.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from pydantic import BaseModel, ConfigDict

from agent.data.packed import READ_ERRORS, is_packed, open_unpacked

# bytes by which a file is recognised
_HEAD = 1_024
# seconds for which a file that was rotated away may still be written to
GRACE_SECONDS = 10.0


class Position(BaseModel):
    """How far a file was read.

    Attributes
    ----------
    path : str
        The path under which it is followed; after a rotation it has another one.
    device, inode : int
    head : int
        Bytes at its beginning of which ``fingerprint`` is the hash.
    offset : int
        Bytes that were read.
    line : int
        Number of the next line.
    """

    model_config = ConfigDict(frozen=True)

    path: str
    device: int
    inode: int
    head: int = 0
    fingerprint: str = ""
    offset: int = 0
    line: int = 1


@dataclass
class OpenFile:
    """One file that is read from a position on.

    Attributes
    ----------
    completed_at : float or None
        When it was first seen that it was rotated away (`time.monotonic`); whoever writes to it may go on for a moment.
    """

    stream: IO[bytes]
    position: Position
    completed_at: float | None = None

    @property
    def is_complete(self) -> bool:
        """Whether it was rotated away."""
        return self.completed_at is not None

    @property
    def is_final(self) -> bool:
        """Whether nothing more is expected to be written to it."""
        return self.completed_at is not None and time.monotonic() - self.completed_at >= GRACE_SECONDS

    def read(self, limit: int) -> bytes:
        """Bytes from the position on."""
        self.stream.seek(self.position.offset)
        return self.stream.read(limit)

    def beginning(self, size: int) -> bytes:
        """Bytes from the beginning on."""
        self.stream.seek(0)
        return self.stream.read(size)

    def advance(self, size: int, lines: int) -> None:
        """Count bytes and lines as read."""
        offset = self.position.offset + size
        head = min(_HEAD, offset)
        if head > self.position.head:
            fingerprint = _hash(self.beginning(head))
            self.position = self.position.model_copy(update={"head": head, "fingerprint": fingerprint})
        self.position = self.position.model_copy(update={"offset": offset, "line": self.position.line + lines})

    def is_same(self, status: os.stat_result) -> bool:
        """Whether that is this file's status."""
        return (status.st_dev, status.st_ino) == (self.position.device, self.position.inode)

    def is_truncated(self, size: int) -> bool:
        """Whether the file was emptied, or written again from its beginning, since it was read."""
        return size < self.position.offset or _hash(self.beginning(self.position.head)) != self.position.fingerprint


@dataclass
class TailedFile:
    """A path whose file grows, with what a rotation left to read.

    Parameters
    ----------
    path : str
    positions : list of Position
        Where to go on: of the files that were rotated away, and of the last one.
    at_end : bool
        Whether to leave out what a file without a position holds already.

    Attributes
    ----------
    files : list of OpenFile
        What is read, in order; the last one is that at the path, if there is one.
    notes : list of str
        What was lost, for a person.
    missing : str or None
        Why there is nothing at the path.
    has_failed : bool
        Whether a file could not be opened or read.
    """

    path: str
    positions: list[Position] = field(default_factory=list)
    at_end: bool = False
    files: list[OpenFile] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    missing: str | None = None
    has_failed: bool = False
    # what is wrong now with the path (0) or the file of an inode, which is named once
    _problems: dict[int, str] = field(default_factory=dict)

    def fail(self, error: Exception, inode: int = 0, *, action: str = "read") -> None:
        """Note an error, once until another one or none follows."""
        note = f"{self.path} cannot be {action}: {getattr(error, 'strerror', None) or error}"
        self.has_failed = True
        if self._problems.get(inode) != note:
            self._problems[inode] = note
            self.notes.append(note)

    def succeed(self, inode: int = 0) -> None:
        """What was wrong is over."""
        self._problems.pop(inode, None)

    def refresh(self) -> None:
        """Look for rotation and truncation."""
        stored, self.positions = self.positions, []
        for position in stored:
            self._resume(position)
        while len(self.files) > 1 and self.files[0].is_final and not self.files[0].read(1):
            self.files.pop(0).stream.close()
        try:
            status = Path(self.path).stat()
        except OSError as error:
            self._complete_last()
            # between two steps of a rotation the old file is still known
            self.missing = None if self.files else error.strerror or str(error)
            return
        self.missing = None
        last = self.files[-1] if self.files and not self.files[-1].is_complete else None
        if last is not None and last.is_same(status):
            if last.is_truncated(status.st_size):
                self._after_truncation(last)
            return
        self._complete_last()
        if (reason := not_followed(self.path, status)) is not None:
            self.fail(ValueError(reason), action="followed")
            return
        self._open_successors(status)
        self._open_current()

    def _complete_last(self) -> None:
        now = time.monotonic()
        for file in self.files:
            if file.completed_at is None:
                file.completed_at = now

    def _open_current(self) -> None:
        try:
            stream = Path(self.path).open("rb")  # noqa: SIM115 - open as long as the file is followed
        except OSError as error:
            self.fail(error, action="opened")
            return
        self.succeed()
        status = os.fstat(stream.fileno())
        file = OpenFile(stream, Position(path=self.path, device=status.st_dev, inode=status.st_ino))
        if self.at_end:
            skipped = file.read(-1)
            end = skipped.rfind(b"\n") + 1
            file.advance(end, skipped.count(b"\n"))
        self.at_end = False
        self.files.append(file)

    def _after_truncation(self, last: OpenFile) -> None:
        """Read the rest of a file that was copied and emptied from the copy, and the file from its beginning."""
        copy = _find(_siblings(self.path), last.position)
        self.files.pop().stream.close()
        if copy is not None:
            copy.completed_at = time.monotonic()
            self.files.append(copy)
        self._open_current()

    def _open_successors(self, current: os.stat_result) -> None:
        """Open what was written and rotated away after the last file that is known, before the one at the path."""
        if not self.files:
            return
        known = {(file.position.device, file.position.inode) for file in self.files}
        since = max(os.fstat(file.stream.fileno()).st_mtime_ns for file in self.files)
        found = []
        for sibling in _siblings(self.path):
            status = sibling.stat()
            identity = (status.st_dev, status.st_ino)
            if identity in known or identity == (current.st_dev, current.st_ino) or status.st_mtime_ns <= since:
                continue
            if not self._is_copy(sibling):
                found.append((status.st_mtime_ns, sibling, status))
        for _, sibling, status in sorted(found, key=lambda item: item[:2]):
            position = Position(path=self.path, device=status.st_dev, inode=status.st_ino)
            self.files.append(OpenFile(open_unpacked(sibling), position, time.monotonic()))

    def _is_copy(self, sibling: Path) -> bool:
        """Whether a file begins as one that is being read."""
        return any(
            file.position.head and _find([sibling], file.position, by_inode=False) is not None for file in self.files
        )

    def _resume(self, position: Position) -> None:
        """Open the file of a stored position, wherever it is now."""
        file = _find([Path(self.path), *_siblings(self.path)], position)
        if file is None:
            self.notes.append(
                f"{self.path}: the file that was read up to line {position.line - 1:,} is gone; what was added to it "
                "since is not judged"
            )
            return
        self.files.append(file)
        file.completed_at = None if _is_at(self.path, file) else time.monotonic()

    def close(self) -> None:
        """Close all files."""
        while self.files:
            self.files.pop().stream.close()


def _is_at(path: str, file: OpenFile) -> bool:
    try:
        return file.is_same(Path(path).stat())
    except OSError:
        return False


def _siblings(path: str) -> list[Path]:
    """Files that a rotation may have made of a path."""
    folder, name = Path(path).parent, Path(path).name
    stem = Path(path).stem
    try:
        return sorted(
            file
            for file in folder.iterdir()
            if file.name != name and (file.name.startswith(name) or file.name.startswith(f"{stem}-")) and file.is_file()
        )
    except OSError:
        return []


def _find(candidates: Iterable[Path], position: Position, *, by_inode: bool = True) -> OpenFile | None:
    """The file of a position among others: that of its inode, else a copy, else a packed copy."""
    files = list(candidates)
    for same_inode in (True, False) if by_inode else (False,):
        for file in files:
            found = _open_if(file, position, same_inode=same_inode)
            if found is not None:
                return found
    return None


def _open_if(file: Path, position: Position, *, same_inode: bool) -> OpenFile | None:
    try:
        status = file.stat()
        packed = is_packed(file)
        if same_inode and (packed or (status.st_dev, status.st_ino) != (position.device, position.inode)):
            return None
        if not same_inode and not position.head:
            return None
        stream = open_unpacked(file)
        found = OpenFile(stream, position.model_copy(update={"device": status.st_dev, "inode": status.st_ino}))
        size = status.st_size if not packed else position.offset
        if found.is_truncated(size) or (packed and len(found.beginning(position.head)) < position.head):
            stream.close()
            return None
    except READ_ERRORS:
        return None
    return found


def not_followed(path: str, status: os.stat_result) -> str | None:
    """Why what is at a path cannot be followed, as opening a pipe would wait for its writer; None if it can."""
    if stat.S_ISFIFO(status.st_mode) or stat.S_ISSOCK(status.st_mode):
        return f"it is a pipe, which cannot be read again; `precedent watch - < {path}` judges what comes through it"
    return "it is a device" if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode) else None


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest() if data else ""
