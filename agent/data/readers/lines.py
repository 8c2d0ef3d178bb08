"""Lines of a stream, never holding more of one than asked, decoded once."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from agent.data.readers.byte_stream import Damaged
from agent.data.readers.row import shorten

_CONTINUATION = bytes(range(0x80, 0xC0))
_ESCAPED = re.compile("[\udc80-\udcff]")
REPLACEMENT = "\ufffd"


@dataclass(frozen=True, slots=True)
class RawLine:
    """A line without its ``\\n``; of an over-long one only ``data``, its beginning, and ``tail``, its end."""

    number: int
    data: bytes
    cut: bool = False
    tail: bytes = b""
    between: int = 0
    """How many characters are missing between ``data`` and ``tail``."""


@dataclass(frozen=True, slots=True)
class Line:
    """A decoded line, and notes on what was replaced or left out of it."""

    number: int
    text: str
    notes: tuple[str, ...]


def split_lines(stream: Iterable[bytes], head: int, tail: int = 0) -> Iterator[RawLine]:
    """The lines of a stream; one of more than ``head + tail`` bytes loses its middle.

    A last line that damage cut off is not given: nobody knows what it said.
    """
    number = 1
    held = _Held(head, tail)
    try:
        for chunk in stream:
            *whole, rest = chunk.split(b"\n")
            for piece in whole:
                held.add(piece)
                yield held.take(number)
                number += 1
            held.add(rest)
    except Damaged as damage:
        raise Damaged(damage.reason, number) from damage
    if held.data:
        yield held.take(number)


class _Held:
    """The line that is being put together."""

    def __init__(self, head: int, tail: int) -> None:
        self._head, self._tail = head, tail
        self._between = 0
        self._cut = False
        self.data = bytearray()

    def add(self, piece: bytes) -> None:
        self.data += piece
        excess = len(self.data) - self._head - self._tail
        if excess > 0:
            gone = self.data[self._head : self._head + excess]
            del self.data[self._head : self._head + excess]
            self._between += _characters(gone)
            self._cut = True

    def take(self, number: int) -> RawLine:
        end = self._head if self._cut else len(self.data)
        line = RawLine(number, bytes(self.data[:end]), self._cut, bytes(self.data[end:]), self._between)
        self.data.clear()
        self._between, self._cut = 0, False
        return line


def shortened(raw: RawLine, max_chars: int) -> Line:
    """A line as text of at most ``max_chars`` characters, without its line end."""
    head, tail, between = raw.data.rstrip(b"\r"), b"", 0
    if raw.cut:
        # The cuts may have gone through characters: their pieces are left out, they are not bytes that are no UTF-8.
        head = _up_to_whole_character(raw.data)
        tail = raw.tail[:3].lstrip(_CONTINUATION) + raw.tail[3:].rstrip(b"\r")
        between = _characters(raw.data[len(head) :]) + raw.between
    head_text, notes = decode(head)
    tail_text, tail_notes = decode(tail)
    text, gap = shorten(head_text, max_chars, tail_text, between)
    return Line(raw.number, text, (*notes, *tail_notes, *gap))


def decode(data: bytes) -> tuple[str, tuple[str, ...]]:
    """UTF-8 as text, in one go: what is no UTF-8, and NUL, become U+FFFD, and a note says how many."""
    notes: tuple[str, ...] = ()
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text, replaced = _ESCAPED.subn(REPLACEMENT, data.decode("utf-8", "surrogateescape"))
        notes = (counted(replaced, "byte", "not UTF-8"),)
    if nul := text.count("\0"):
        text = text.replace("\0", REPLACEMENT)
        notes = (*notes, counted(nul, "character", "NUL"))
    return text, notes


def counted(number: int, unit: str, what: str) -> str:
    """The note on ``number`` units that were ``what`` and are replaced."""
    plural, were = ("", "was") if number == 1 else ("s", "were")
    return f"{number} {unit}{plural} {were} {what} and {were} replaced"


def _up_to_whole_character(data: bytes) -> bytes:
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    decoder.decode(data)
    return data[: len(data) - len(decoder.getstate()[0])]


def _characters(data: bytes | bytearray) -> int:
    return len(data.translate(None, _CONTINUATION))
