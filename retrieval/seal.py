"""Seals: sizes and checksums of files that were closed, by which a later opening finds what was changed since.

SQLite and HNSW keep no checksums of what they store: without a seal, a flipped bit is read as if it had been written.
A seal is written when the files are closed, and removed when they are opened, so that none is left of files that a
process may have changed before it was killed.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

_BLOCK = 1 << 20
# a file's size, CRC-32 and time of modification in nanoseconds
_State = tuple[int, int, int]


class Seal:
    """The seal of some files, kept in ``file``."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._last: dict[str, _State] = {}

    def write(self, files: Mapping[str, Path]) -> None:
        """Seal files by their names; where nothing can be written there is no seal."""
        self._last = {name: self._state(name, path) for name, path in files.items()}
        draft = self.file.with_name(f"{self.file.name}.{os.getpid()}")
        with suppress(OSError):
            try:
                text = json.dumps({name: state[:2] for name, state in self._last.items()})
                draft.write_text(f"{zlib.crc32(text.encode())} {text}", encoding="utf-8")
                draft.replace(self.file)
            finally:
                draft.unlink(missing_ok=True)

    def remove(self) -> None:
        """Say that the files may change from now on."""
        with suppress(OSError):
            self.file.unlink(missing_ok=True)

    def read(self) -> dict[str, tuple[int, ...]] | None:
        """Size and CRC-32 by file; None if there is no seal, or one that is damaged: that proves nothing."""
        try:
            checksum, _, text = self.file.read_text(encoding="utf-8").partition(" ")
            if checksum != str(zlib.crc32(text.encode())):
                return None
        except (OSError, UnicodeDecodeError):
            return None
        return {name: tuple(sealed) for name, sealed in json.loads(text).items()}

    def broken(self, files: Mapping[str, Path]) -> str | None:
        """The name of a file that is not as it was sealed; None if all are, or if there is no seal."""
        expected = self.read()
        if expected is None:
            return None
        for name in sorted({*expected, *files}):
            if name not in files or name not in expected or not files[name].is_file():
                return name
            self._last[name] = self._state(name, files[name])
            if self._last[name][:2] != expected[name]:
                return name
        return None

    def _state(self, name: str, path: Path) -> _State:
        """Read again only if the file's size or time has changed since this process last read it."""
        stat = path.stat()
        last = self._last.get(name)
        if last is not None and (last[0], last[2]) == (stat.st_size, stat.st_mtime_ns):
            return last
        checksum = 0
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                checksum = zlib.crc32(block, checksum)
        return stat.st_size, checksum, stat.st_mtime_ns
