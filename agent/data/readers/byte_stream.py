"""Opening: a path or standard input as UTF-8 bytes, unpacked, with the beginning in view."""

from __future__ import annotations

import codecs
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

import zstandard

from agent.core.errors import InputError

HEAD_BYTES = 1 << 20
_CHUNK = 1 << 16
# One KiB of zstd can stand for 32 MiB: small pieces bound the memory, and little is lost where a file is damaged.
_PACKED_PIECE = 1 << 10
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE = b"\x2a\x4d\x18"


class Damaged(Exception):
    """The data cannot be read any further; what came before is good."""

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason)
        self.reason, self.line = reason, line


class Stream:
    """Chunks of bytes whose beginning, ``head``, can be looked at before they are read."""

    def __init__(self, chunks: Iterator[bytes], path: Path | None = None) -> None:
        self.head = b""
        self.ended = False
        self.path = path
        """The regular file that holds exactly these bytes, if there is one."""
        self._chunks = chunks
        self._damage: Damaged | None = None

    def look(self, enough: Callable[[bytes], bool]) -> bytes:
        """The beginning: as much as is ``enough``, at most about ``HEAD_BYTES``, or all there is."""
        while not (self.ended or len(self.head) >= HEAD_BYTES or enough(self.head)):
            try:
                chunk = next(self._chunks, b"")
            except Damaged as damage:
                self._damage, chunk = damage, b""
            self.head += chunk
            self.ended = not chunk
        return self.head

    def __iter__(self) -> Iterator[bytes]:
        """All bytes, once, from the first; raises :class:`Damaged` where they break off."""
        head, self.head = self.head, b""
        for start in range(0, len(head), _CHUNK):
            yield head[start : start + _CHUNK]
        if self._damage:
            raise self._damage
        if not self.ended:
            yield from self._chunks

    @property
    def complete(self) -> bool:
        """Whether the head is all there is, and nothing is missing after it."""
        return self.ended and self._damage is None


@contextmanager
def opened(file: str, stdin: BinaryIO | None) -> Iterator[Stream]:
    """Open a path, or standard input for ``-``, and see to its packing and encoding."""
    if file == "-":
        yield _prepared(stdin or sys.stdin.buffer, file, None)
        return
    try:
        raw = Path(file).open("rb")  # noqa: SIM115 - closed below; here only opening may fail
    except OSError as error:
        raise InputError(_why_closed(error), file) from error
    except ValueError as error:
        raise InputError(f"is no file name: {error}", repr(file)) from error
    with raw:
        yield _prepared(raw, file, Path(file) if Path(file).is_file() else None)


def _why_closed(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file: check the path and the folder you are in"
    if isinstance(error, IsADirectoryError):
        return "is a directory: name the files in it"
    if isinstance(error, PermissionError):
        return "no permission to read it: run as its owner, or have it made readable (chmod +r)"
    return f"cannot be opened: {error.strerror or error}"


def _prepared(raw: BinaryIO, file: str, path: Path | None) -> Stream:
    packed = Stream(_pulled(raw), path)
    magic = packed.look(lambda head: len(head) >= 4)
    if packed.complete and not packed.head:
        raise InputError("is empty", file)
    if magic.startswith(_GZIP):
        packed = Stream(_unpacked(packed, "gzip", lambda: zlib.decompressobj(wbits=31)))
    elif magic.startswith(_ZSTD) or (magic[1:4] == _ZSTD_SKIPPABLE and magic[0] >> 4 == 5):
        packed = Stream(_unpacked(packed, "zstd", lambda: zstandard.ZstdDecompressor().decompressobj()))
    mark = packed.look(lambda head: len(head) >= 3)
    if packed.complete and not packed.head:
        raise InputError("is empty (once unpacked)", file)
    if mark.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return Stream(_from_utf16(packed))
    if mark.startswith(codecs.BOM_UTF8):
        return Stream(_without_mark(packed))
    return packed


def _pulled(raw: BinaryIO) -> Iterator[bytes]:
    """What a file or pipe has at hand, chunk by chunk; a read error is damage, not the end."""
    pull = getattr(raw, "read1", raw.read)
    try:
        while chunk := pull(_CHUNK):
            yield chunk
    except OSError as error:
        raise Damaged(f"cannot be read any further: {error.strerror or error}") from error


class _Unpacker(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, /) -> bytes: ...


def _unpacked(stream: Stream, name: str, unpacker: Callable[[], _Unpacker]) -> Iterator[bytes]:
    """Unpack, one member or frame after the other, whatever part of the data is whole."""
    current: _Unpacker | None = None
    for chunk in stream:
        for start in range(0, len(chunk), _PACKED_PIECE):
            piece = chunk[start : start + _PACKED_PIECE]
            while piece:
                if current is None:
                    piece = piece.lstrip(b"\0")  # tape blocks and some writers pad a member with zeros
                    if not piece:
                        break
                    current = unpacker()
                try:
                    data = current.decompress(piece)
                except (zlib.error, zstandard.ZstdError) as error:
                    raise Damaged(f"the {name} data is damaged from here on ({error})") from error
                piece = b""
                if current.eof:
                    piece, current = current.unused_data, None
                for at in range(0, len(data), _CHUNK):
                    yield data[at : at + _CHUNK]
    if current is not None:
        raise Damaged(f"the {name} data is cut short: the rest of it is missing")


def _from_utf16(stream: Stream) -> Iterator[bytes]:
    """UTF-16 as UTF-8; what is broken comes out as bytes that are no UTF-8, so it is counted with the rest."""
    decoder = codecs.getincrementaldecoder("utf-16")("surrogatepass")
    for chunk in stream:
        if data := decoder.decode(chunk).encode("utf-8", "surrogatepass"):
            yield data
    if left := decoder.getstate()[0]:
        yield b"\xff" * len(left)


def _without_mark(stream: Stream) -> Iterator[bytes]:
    chunks = iter(stream)
    first = next(chunks).removeprefix(codecs.BOM_UTF8)
    if first:
        yield first
    yield from chunks
