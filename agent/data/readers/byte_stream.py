"""A path or standard input as a stream of unpacked UTF-8 bytes whose beginning can be looked at."""

from __future__ import annotations

import codecs
import select
import signal
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import zstandard

from agent.core.errors import InputError
from agent.data.object_store import is_object, open_object

HEAD_BYTES = 1 << 20
# bytes among which the end of the first line is looked for
_LONG_LINE = 1 << 16
_CHUNK = 1 << 16
# lines that show a format, and how long a pipe is waited for when it has given these
_FEWEST_LINES, _PAUSE = 2, 0.5
# One KiB of zstd can stand for 32 MiB: small pieces bound the memory, and little is lost where a file is damaged.
_PACKED_PIECE = 1 << 10
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE = b"\x2a\x4d\x18"
_OPEN_ERRORS: dict[type[OSError], str] = {
    FileNotFoundError: "no such file: check the path and the folder you are in",
    IsADirectoryError: "is a directory: name the files in it",
    PermissionError: "no permission to read it: run as its owner, or have it made readable (chmod +r)",
}


class Damaged(Exception):
    """The data cannot be read any further; what came before is good. ``line``: the first that is missing."""

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason)
        self.reason, self.line = reason, line


class Stream:
    """Chunks of bytes whose beginning, ``head``, can be looked at before they are read.

    Parameters
    ----------
    chunks
        The data; an empty chunk ends it.
    path
        The regular file that holds exactly these bytes, if there is one.
    is_paused
        Whether no more comes for a while, from a pipe.
    """

    def __init__(
        self, chunks: Iterator[bytes], path: Path | None = None, is_paused: Callable[[], bool] | None = None
    ) -> None:
        self.head = b""
        self.ended = False
        self.path = path
        self._chunks = chunks
        self._is_paused = is_paused
        self._damage: Damaged | None = None

    def look(self, enough: Callable[[bytes], bool]) -> bytes:
        """The beginning: as much as is ``enough``, at most about `HEAD_BYTES`, or all there is.

        Two lines are enough where whoever writes to a pipe pauses after them.
        """
        while not (self.ended or len(self.head) >= HEAD_BYTES or enough(self.head)):
            if self._is_paused is not None and self.head.count(b"\n") >= _FEWEST_LINES and self._is_paused():
                break
            try:
                chunk = next(self._chunks, b"")
            except Damaged as damage:
                self._damage, chunk = damage, b""
            self.head += chunk
            self.ended = not chunk
        return self.head

    def end_lines_with_newlines(self) -> None:
        """Where carriage returns alone end the lines, replace them, in what was looked at as in what comes."""
        head = self.look(lambda head: b"\n" in head or len(head) > _LONG_LINE)
        if b"\n" in head or b"\r" not in head.rstrip(b"\r"):
            return
        self.head, chunks = head.replace(b"\r", b"\n"), self._chunks
        self._chunks = (chunk.replace(b"\r", b"\n") for chunk in chunks)
        # its bytes are others now
        self.path = None

    def starts_with(self, magic: bytes) -> bool:
        """Whether the data begins with ``magic``."""
        return self.look(lambda head: len(head) >= len(magic)).startswith(magic)

    def look_at_lines(self, count: int) -> bytes:
        """The beginning in whole lines: more than ``count`` that are not blank, or as many as the head holds."""
        head = self.look(lambda seen: sum(1 for line in seen.split(b"\n") if line.strip()) > count)
        return head if self.complete else head[: head.rfind(b"\n") + 1]

    def __iter__(self) -> Iterator[bytes]:
        """All bytes, once, from the first; raises `Damaged` where they break off."""
        return self._read(pauses=False)

    def with_pauses(self) -> Iterator[bytes]:
        """As iterating gives them, with an empty chunk where no more comes for a while, from a pipe."""
        return self._read(pauses=self._is_paused is not None)

    def _read(self, *, pauses: bool) -> Iterator[bytes]:
        head, self.head = self.head, b""
        for start in range(0, len(head), _CHUNK):
            yield head[start : start + _CHUNK]
        if self._damage:
            raise self._damage
        while not self.ended:
            if pauses and self._is_paused is not None and self._is_paused():
                yield b""
            chunk = next(self._chunks, b"")
            if not chunk:
                return
            yield chunk

    @property
    def complete(self) -> bool:
        """Whether the head is all there is, and nothing is missing after it."""
        return self.ended and self._damage is None


@contextmanager
def opened(file: str, stdin: BinaryIO | None = None) -> Iterator[Stream]:
    """Open a path, or standard input for ``-``; unpack gzip and zstd, decode UTF-16, drop a byte order mark.

    Raises
    ------
    InputError
        The file cannot be opened, or is empty.
    """
    if file == "-":
        if stdin is None and hasattr(signal, "siginterrupt"):
            # polars, once loaded, makes reads that wait go on after Ctrl-C
            signal.siginterrupt(signal.SIGINT, True)
        yield _prepared(stdin or sys.stdin.buffer, file, None)
        return
    if is_object(file):
        with open_object(file) as remote:
            yield _prepared(remote, file, None)
        return
    try:
        raw = Path(file).open("rb")  # noqa: SIM115 - closed below; here only opening may fail
    except OSError as error:
        reason = _OPEN_ERRORS.get(type(error), f"cannot be opened: {error.strerror or error}")
        raise InputError(reason, file) from error
    except ValueError as error:
        raise InputError(f"is not a valid file name: {error}", repr(file)) from error
    with raw:
        yield _prepared(raw, file, Path(file) if Path(file).is_file() else None)


def _prepared(raw: BinaryIO, file: str, path: Path | None) -> Stream:
    stream = Stream(_chunks_of(raw), path, partial(_has_paused, raw))
    magic = stream.look(lambda head: len(head) >= 4)
    if stream.complete and not stream.head:
        raise InputError("is empty", file)
    if magic.startswith(_GZIP):
        stream = Stream(_unpacked(stream, "gzip", lambda: zlib.decompressobj(wbits=31)))
    elif magic.startswith(_ZSTD) or (magic[1:4] == _ZSTD_SKIPPABLE and magic[0] >> 4 == 5):
        stream = Stream(_unpacked(stream, "zstd", lambda: zstandard.ZstdDecompressor().decompressobj()))
    mark = stream.look(lambda head: len(head) >= 3)
    if stream.complete and not stream.head:
        raise InputError("is empty (once unpacked)", file)
    if mark.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return Stream(_from_utf16(stream))
    if mark.startswith(codecs.BOM_UTF8):
        stream.head, stream.path = stream.head.removeprefix(codecs.BOM_UTF8), None
    return stream


def _chunks_of(raw: BinaryIO) -> Iterator[bytes]:
    """What a file or pipe has at hand, chunk by chunk; a read error is damage, not the end."""
    pull = getattr(raw, "read1", raw.read)
    try:
        while chunk := pull(_CHUNK):
            yield chunk
    except OSError as error:
        raise Damaged(f"cannot be read any further: {error.strerror or error}") from error


def _has_paused(raw: BinaryIO) -> bool:
    """Whether a pipe has had nothing to read for a while; a file always has."""
    try:
        return not select.select([raw], [], [], _PAUSE)[0]
    except (OSError, ValueError, TypeError):
        # bytes in memory have no descriptor, and Windows selects sockets only
        return False


def _unpacked(stream: Stream, name: str, decompressor: Callable[[], Any]) -> Iterator[bytes]:
    """Unpack, one member or frame after the other, whatever part of the data is whole."""
    current = None
    for chunk in stream:
        for start in range(0, len(chunk), _PACKED_PIECE):
            piece = chunk[start : start + _PACKED_PIECE]
            while piece:
                if current is None:
                    piece = piece.lstrip(b"\0")  # tape blocks and some writers pad a member with zeros
                    if not piece:
                        break
                    current = decompressor()
                try:
                    data = current.decompress(piece)
                except (zlib.error, zstandard.ZstdError) as error:
                    unread = len(piece) + len(chunk[start + _PACKED_PIECE :]) + sum(map(len, stream))
                    reason = f"the {name} data is damaged from here on ({error}); {unread:,} packed bytes are not read"
                    raise Damaged(reason) from error
                piece = b""
                if current.eof:
                    piece, current = current.unused_data, None
                for at in range(0, len(data), _CHUNK):
                    yield data[at : at + _CHUNK]
    if current is not None:
        raise Damaged(f"the {name} data is cut short: the rest of it is missing")


def _from_utf16(stream: Stream) -> Iterator[bytes]:
    """UTF-16 as UTF-8; what is broken becomes bytes that are not UTF-8, so that it is counted with the rest."""
    decoder = codecs.getincrementaldecoder("utf-16")("surrogatepass")
    for chunk in stream:
        if data := decoder.decode(chunk).encode("utf-8", "surrogatepass"):
            yield data
    if left := decoder.getstate()[0]:
        yield b"\xff" * len(left)
