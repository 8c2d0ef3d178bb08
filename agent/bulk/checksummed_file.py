"""A file whose writer knows the checksum of all that it wrote, so that who continues it finds what has changed."""

from __future__ import annotations

import zlib
from pathlib import Path
from types import TracebackType
from typing import Self

from agent.core.errors import UsageError

_BLOCK = 1 << 20


class ChecksummedFile:
    """A file that is written from its beginning, or continued after what was `flushed`.

    Parameters
    ----------
    path : Path
    flushed : sequence of int, optional
        What `flushed` said: the file is cut to that. By default it is emptied.

    Raises
    ------
    OSError
        It cannot be opened.
    UsageError
        It does not begin with what was flushed.
    """

    def __init__(self, path: Path, flushed: tuple[int, int] | None = None) -> None:
        self._size, self._checksum = 0, 0
        self._stream = path.open("wb" if flushed is None else "r+b")
        if flushed is None:
            return
        self._read(flushed[0])
        if (self._size, self._checksum) != tuple(flushed):
            self._stream.close()
            raise UsageError(f"{path} is not as the run left it that was stopped: without --resume it is written again")
        self._stream.truncate(self._size)
        self._stream.seek(self._size)

    def _read(self, size: int) -> None:
        while block := self._stream.read(min(_BLOCK, size - self._size)):
            self._checksum = zlib.crc32(block, self._checksum)
            self._size += len(block)

    def write(self, content: bytes) -> None:
        """Append bytes."""
        self._stream.write(content)
        self._checksum = zlib.crc32(content, self._checksum)
        self._size += len(content)

    def flush(self) -> None:
        """Hand over to the system what was written."""
        self._stream.flush()

    def flushed(self) -> tuple[int, int]:
        """Flush the file: its size and the CRC-32 of its bytes."""
        self.flush()
        return self._size, self._checksum

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
