"""Which files are followed: those of names, folders and patterns, with the new ones that come."""

from __future__ import annotations

import glob
import os
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from agent.data.inputs import is_hidden
from agent.data.packed import READ_ERRORS, is_packed
from agent.data.tail import Position, TailedFile

# seconds between two searches for new files, which take long in large folders
SCAN_SECONDS = 1.0
# names that a rotation gives
_ROTATED = re.compile(r"(?P<base>.+?)(?:[.-]\d[\d.T_-]*|\.(?:old|bak|prev))?(?:\.(?:gz|zst|bz2|xz))?")


def find_files(names: Iterable[str]) -> Iterator[str]:
    """The files of names, folders and patterns that are to be followed; those of a name need not exist.

    Of a folder and of a pattern, hidden and packed files, and those that a rotation made of another one, are left out.
    """
    for name in names:
        path = Path(name)
        # os.path: a path that cannot be looked at is none, here
        if os.path.isdir(path):  # noqa: PTH112
            found = [file for file in sorted(path.rglob("*")) if not is_hidden(file, path)]
        elif glob.has_magic(name) and not os.path.exists(path):  # noqa: PTH110
            found = [Path(match) for match in sorted(glob.glob(name, recursive=True))]  # noqa: PTH207
        else:
            yield name
            continue
        files = [file for file in found if os.path.isfile(file)]  # noqa: PTH113
        known = set(files)
        for file in files:
            match = _ROTATED.fullmatch(file.name)
            base = file.with_name(match["base"]) if match else file
            if not is_packed(file) and (base == file or base not in known):
                yield str(file)


@dataclass
class Follower:
    """All files that are followed; new ones are found as they come.

    Parameters
    ----------
    names : tuple of str
        See `find_files`.
    positions : list of Position
        Where an earlier run ended.
    at_end : bool
        Whether to leave out what the files hold already.
    """

    names: tuple[str, ...]
    positions: list[Position] = field(default_factory=list)
    at_end: bool = False
    tails: dict[str, TailedFile] = field(default_factory=dict)
    _scanned: float | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        by_path: dict[str, list[Position]] = {}
        for position in self.positions:
            by_path.setdefault(position.path, []).append(position)
        self.tails = {path: TailedFile(path, positions) for path, positions in by_path.items()}

    def refresh(self) -> None:
        """Look for new files, rotation and truncation."""
        now = time.monotonic()
        if self._scanned is None or now - self._scanned >= SCAN_SECONDS:
            self._scanned = now
            for path in find_files(self.names):
                if path not in self.tails:
                    self.tails[path] = TailedFile(path, at_end=self.at_end)
            self.at_end = False
        for tail in self.tails.values():
            try:
                tail.refresh()
            except READ_ERRORS as error:
                tail.fail(error)

    def state(self) -> list[Position]:
        """How far all files were read."""
        return [file.position for tail in self.tails.values() for file in tail.files] + [
            position for tail in self.tails.values() for position in tail.positions
        ]

    def take_notes(self) -> list[str]:
        """What was lost since the last call."""
        notes = [note for tail in self.tails.values() for note in tail.notes]
        for tail in self.tails.values():
            tail.notes.clear()
        return notes

    def close(self) -> None:
        """Close all files."""
        for tail in self.tails.values():
            tail.close()
