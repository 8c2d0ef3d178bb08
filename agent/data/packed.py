"""Packed files as streams of what they hold, which can be read again from the beginning."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, cast

import zstandard

PACKED = re.compile(r".+\.(?:gz|zst|bz2|xz)")
# a packed file that is cut off or broken raises the last ones
READ_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError)
_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


def is_packed(file: Path) -> bool:
    """Whether a file is packed, by its name."""
    return PACKED.fullmatch(file.name) is not None


def open_unpacked(file: Path) -> IO[bytes]:
    """A file, or what a packed one holds, for reading."""
    if file.suffix == ".zst":
        return cast("IO[bytes]", io.BufferedReader(_Zstd(file)))
    opener = _OPENERS.get(file.suffix)
    return cast("IO[bytes]", opener(file, "rb") if opener else file.open("rb"))


class _Zstd(io.RawIOBase):
    """What a zstd file holds; zstandard's reader does not go back, so that it is begun again."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._begin()

    def _begin(self) -> None:
        self._file.seek(0)
        self._reader = zstandard.ZstdDecompressor().stream_reader(self._file, read_across_frames=True, closefd=False)

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is, from the beginning."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Unpack into the buffer."""
        return int(self._reader.readinto(buffer))

    def tell(self) -> int:
        """How much was unpacked."""
        return int(self._reader.tell())

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to an offset from the beginning."""
        if whence == io.SEEK_CUR:
            offset += self.tell()
        elif whence != io.SEEK_SET:
            raise io.UnsupportedOperation("a zstd file does not say how much it holds")
        if offset < self.tell():
            self._begin()
        while self.tell() < offset and self._reader.read(min(1 << 20, offset - self.tell())):
            pass
        return self.tell()

    def fileno(self) -> int:
        """The packed file's."""
        return self._file.fileno()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()
