"""What comes from files that grow, or from standard input, in pieces of whole entries."""

from __future__ import annotations

import codecs
import io
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from agent.core.errors import InputError
from agent.data.chunks import Chunk
from agent.data.follow import Follower
from agent.data.packed import READ_ERRORS
from agent.data.read_options import ReadOptions
from agent.data.readers import Kind, ReadRequest
from agent.data.readers.byte_stream import Stream
from agent.data.readers.entry_joining import last_entry
from agent.data.readers.format_detection import detect
from agent.data.readers.jsonl import note_on_log_objects
from agent.data.tail import OpenFile, Position, TailedFile

# bytes of a piece, at least and at most; bytes that show the format
_PIECE, _MOST, _HEAD = 4 << 20, 64 << 20, 1 << 18
# seconds without more of it after which an entry is complete
IDLE_SECONDS = 2.0


@dataclass(frozen=True)
class Piece:
    """Whole entries of one file.

    Attributes
    ----------
    kind : {"log", "csv", "jsonl", "parquet"}
    request : ReadRequest
    header : bytes
        The line with the names of columns, which is before the data in a table's file.
    """

    chunk: Chunk
    kind: Kind
    request: ReadRequest
    header: bytes = b""


@dataclass
class _Reading:
    """How one file is read, found out from its beginning; and since when its end is the same."""

    kind: Kind
    request: ReadRequest
    header: bytes = b""
    pending: int = 0
    since: float = 0.0


def read_as(options: ReadOptions, path: str, head: bytes, max_chars: int) -> tuple[Kind, ReadRequest, bytes]:
    """How a file that begins with ``head`` is read: its format, its columns, and its header.

    Raises
    ------
    InputError
        It cannot be read, or not while it grows.
    """
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise InputError("is UTF-16, which is not followed while it grows: judge it, or write it as UTF-8", path)
    kind = detect(Stream(iter([head])), path, options.format)
    if kind == "parquet":
        raise InputError("Parquet files do not grow: judge them", path)
    options = options if kind == "log" else options.model_copy(update={"format": kind})
    with options.open("-", max_chars, lenient=True, stdin=io.BytesIO(head)) as (_, kind, request):
        header = head[: head.find(b"\n") + 1] if kind == "csv" else b""
        return kind, replace(request, file=path), header


def _note_on_reading(reading: _Reading, head: bytes) -> str | None:
    return note_on_log_objects(head, reading.request) if reading.kind == "jsonl" else None


@dataclass
class FileFeed:
    """Pieces of all files that are followed.

    Attributes
    ----------
    found : bool
        Whether there was any file.
    has_failed : bool
        Whether a file could not be read.
    """

    follower: Follower
    options: ReadOptions
    max_chars: int
    readings: dict[tuple[str, int, int], _Reading] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    ended: bool = False
    found: bool = False
    has_failed: bool = False
    _missing: dict[str, str] = field(default_factory=dict)

    def refresh(self) -> None:
        """Look for the files."""
        self.follower.refresh()

    def poll(self, *, flush: bool = False) -> Iterator[Piece]:
        """The pieces that are there now; with ``flush``, what is incomplete as well."""
        self.follower.refresh()
        self.notes += self.follower.take_notes()
        for tail in list(self.follower.tails.values()):
            self._name_missing(tail, wait=not flush)
            for file in list(tail.files):
                self.found = True
                try:
                    yield from self._pieces(tail, file, flush=flush)
                except READ_ERRORS as error:
                    tail.fail(error, file.position.inode)
            self.has_failed |= tail.has_failed
        if not self.follower.tails and not self._missing:
            self._missing[""] = names = ", ".join(self.follower.names)
            self.notes.append(f"no file in {names}" if flush else f"waits for files in {names}")
        # errors of what was read just now
        self.notes += self.follower.take_notes()

    def _name_missing(self, tail: TailedFile, *, wait: bool) -> None:
        """Note once that a file is not there."""
        if tail.missing is None:
            self._missing.pop(tail.path, None)
        elif self._missing.get(tail.path) != tail.missing:
            self._missing[tail.path] = tail.missing
            self.notes.append(f"waits for {tail.path}: {tail.missing}" if wait else f"{tail.path}: {tail.missing}")

    def _pieces(self, tail: TailedFile, file: OpenFile, *, flush: bool) -> Iterator[Piece]:
        limit, path = _PIECE, tail.path
        while path not in self.refused:
            data = file.read(limit)
            tail.succeed(file.position.inode)
            if not data:
                return
            reading = self._reading(path, file)
            if reading is None:
                return
            cut = self._cut(file, reading, data, at_end=len(data) < limit, flush=flush)
            if not cut and len(data) == limit < _MOST:
                limit *= 2
                continue
            if not cut and len(data) < limit:
                return
            cut = cut or len(data)
            lines = data[:cut] if data[cut - 1 : cut] == b"\n" else data[:cut] + b"\n"
            position, count = file.position, lines.count(b"\n")
            file.advance(cut, count)
            skip = reading.header and not position.offset
            if skip:
                lines, count = lines[len(reading.header) :], count - 1
            if count:
                chunk = Chunk(lines, count, position.line + bool(skip), position.offset + cut)
                yield Piece(chunk, reading.kind, reading.request, reading.header)
            limit = _PIECE

    def _cut(self, file: OpenFile, reading: _Reading, data: bytes, *, at_end: bool, flush: bool) -> int:
        """How much of some data is whole entries; all of it where no more is expected."""
        whole, end = data.rfind(b"\n") + 1, file.position.offset + len(data)
        # of a line that is being written the rest comes soon
        is_idle = time.time() - os.fstat(file.stream.fileno()).st_mtime >= IDLE_SECONDS
        if at_end and (file.is_final or (flush and is_idle)):
            return len(data)
        if flush or reading.request.entries is None or reading.kind != "log":
            return whole
        now = time.monotonic()
        if reading.pending != end:
            reading.pending, reading.since = end, now
        if at_end and now - reading.since >= IDLE_SECONDS:
            return whole
        return last_entry(data[:whole], reading.request.entries)

    def _reading(self, path: str, file: OpenFile) -> _Reading | None:
        key = path, file.position.device, file.position.inode
        if (reading := self.readings.get(key)) is None:
            head = file.beginning(_HEAD)
            head = head[: head.rfind(b"\n") + 1] or head
            try:
                reading = _Reading(*read_as(self.options, path, head, self.max_chars))
            except InputError as error:
                self.notes.append(f"not followed: {error}")
                self.refused.add(path)
                self.has_failed = True
                return None
            if note := _note_on_reading(reading, head):
                self.notes.append(f"{path}: {note}")
            self.readings[key] = reading
        return reading

    def state(self) -> list[Position]:
        """How far all files were read."""
        return self.follower.state()

    def close(self) -> None:
        """Close all files."""
        self.follower.close()


class StdinFeed:
    """Pieces of what comes on standard input, which has no position to go on from."""

    found, has_failed = True, False

    def __init__(self, options: ReadOptions, max_chars: int, descriptor: int = 0) -> None:
        self._options, self._max_chars = options, max_chars
        self._data, self._lock = bytearray(), threading.Lock()
        self._at_end = False
        self._reading: _Reading | None = None
        self._line, self._changed = 1, time.monotonic()
        self.notes: list[str] = []
        # daemonic: a read that waits cannot be ended
        threading.Thread(target=self._read, args=(descriptor,), name="stdin", daemon=True).start()

    def _read(self, descriptor: int) -> None:
        while data := os.read(descriptor, 1 << 16):
            while len(self._data) > _MOST:
                time.sleep(0.05)
            with self._lock:
                self._data += data
                self._changed = time.monotonic()
        self._at_end = True

    @property
    def ended(self) -> bool:
        """Whether nothing more comes."""
        return self._at_end and not self._data

    def refresh(self) -> None:
        """Nothing to look for."""

    def poll(self, *, flush: bool = False) -> Iterator[Piece]:
        """The piece that is there now."""
        with self._lock:
            data, idle = bytes(self._data), time.monotonic() - self._changed >= IDLE_SECONDS
        flush = flush or self._at_end
        whole = len(data) if flush else data.rfind(b"\n") + 1
        if not whole:
            return
        if self._reading is None:
            self._reading = _Reading(*read_as(self._options, "-", data[:_HEAD], self._max_chars))
            if note := _note_on_reading(self._reading, data[:_HEAD]):
                self.notes.append(f"standard input: {note}")
        reading = self._reading
        if reading.kind == "log" and reading.request.entries is not None and not (flush or idle):
            whole = last_entry(data[:whole], reading.request.entries)
        lines = data[:whole] if data[:whole].endswith(b"\n") else data[:whole] + b"\n"
        with self._lock:
            del self._data[:whole]
        if not whole:
            return
        first, count = self._line, lines.count(b"\n")
        self._line += count
        if reading.header and first == 1:
            lines, first, count = lines[len(reading.header) :], 2, count - 1
        if count:
            yield Piece(Chunk(lines, count, first, 0), reading.kind, reading.request, reading.header)

    def state(self) -> list[Position]:
        """Nothing: what was read cannot be read again."""
        return []

    def close(self) -> None:
        """Nothing to close."""
