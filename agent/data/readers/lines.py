"""Lines of a stream, of bounded length in memory, and their decoding."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from agent.core.records import clean_text
from agent.data.readers.byte_stream import Damaged

GAP = " […] "
REPLACEMENT = "\ufffd"
_CONTINUATION = bytes(range(0x80, 0xC0))


@dataclass(frozen=True, slots=True)
class RawLine:
    r"""A line without its ``\n``, its number from 1.

    Of a line that is too long (``cut``), ``data`` is the beginning and ``tail`` the end; ``omitted`` characters between
    them are missing.
    """

    number: int
    data: bytes
    cut: bool = False
    tail: bytes = b""
    omitted: int = 0


# in place of a line, where a pipe pauses
PAUSE = RawLine(0, b"")


def split_lines(stream: Iterable[bytes], head: int, tail: int = 0, *, number: int = 1) -> Iterator[RawLine]:
    """Lines of a stream, the first with that number; one of more than ``head + tail`` bytes loses its middle.

    An empty chunk of the stream gives `PAUSE`.

    Raises
    ------
    Damaged
        As the stream does. The line that the damage cut off is not returned.
    """
    buffer = LineBuffer(head, tail)
    try:
        for chunk in stream:
            if not chunk:
                yield PAUSE
                continue
            *whole, rest = chunk.split(b"\n")
            for piece in whole:
                buffer.add(piece)
                yield buffer.take(number)
                number += 1
            buffer.add(rest)
    except Damaged as damage:
        raise Damaged(damage.reason, number) from damage
    if buffer.data:
        yield buffer.take(number)


class LineBuffer:
    """The line, or the entry over several lines, that is being put together.

    Parameters
    ----------
    head, tail
        Bytes that are kept of its beginning and its end.
    """

    def __init__(self, head: int, tail: int) -> None:
        self.data = bytearray()
        self._head, self._tail = head, tail
        self._omitted, self._cut = 0, False

    def add_line(self, line: RawLine) -> None:
        """Add a line without its line end."""
        self.add(line.data if line.cut else line.data.rstrip(b"\r"))
        if line.cut:
            self._cut, self._omitted = True, self._omitted + line.omitted
            self.add(line.tail.rstrip(b"\r"))

    def add(self, piece: bytes) -> None:
        """Add bytes."""
        self.data += piece
        excess = len(self.data) - self._head - self._tail
        if excess > 0:
            middle = slice(self._head, self._head + excess)
            self._omitted += _count_characters(self.data[middle])
            self._cut = True
            del self.data[middle]

    def take(self, number: int) -> RawLine:
        """What was added, as a line with that number; the buffer is empty then."""
        end = self._head if self._cut else len(self.data)
        line = RawLine(number, bytes(self.data[:end]), self._cut, bytes(self.data[end:]), self._omitted)
        self.data.clear()
        self._omitted, self._cut = 0, False
        return line


def decode_line(line: RawLine, max_chars: int) -> tuple[str, tuple[str, ...]]:
    """A line as text of at most ``max_chars`` characters without its line end, and notes on what was changed."""
    head, tail, omitted = without_mark(line.data).rstrip(b"\r"), b"", 0
    if line.cut:
        # The cuts may have gone through characters: drop the pieces, which are no bytes that are not UTF-8.
        decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        decoder.decode(line.data)
        head = line.data[: len(line.data) - len(decoder.getstate()[0])]
        tail = line.tail[:3].lstrip(_CONTINUATION) + line.tail[3:].rstrip(b"\r")
        omitted = _count_characters(line.data[len(head) :]) + line.omitted
    head_text, notes = decode(head)
    tail_text, tail_notes = decode(tail)
    text, shortened = shorten(head_text, max_chars, tail_text, omitted)
    return text, (*notes, *tail_notes, *shortened)


def without_mark(data: bytes) -> bytes:
    """A line without a byte order mark, which files that were joined to one have inside."""
    return data.removeprefix(codecs.BOM_UTF8)


def decode(data: bytes) -> tuple[str, tuple[str, ...]]:
    """UTF-8 as text: bytes that are not UTF-8, and NUL, become U+FFFD, and notes say how many; colours are removed."""
    text = data.decode("utf-8", "surrogateescape")
    if not (replaced := count_replaced(text)):
        return clean_text(text), ()
    nul = text.count("\0")
    return clean_text(text), note_replaced(replaced - nul, "byte", "not UTF-8") + note_replaced(nul)


def count_replaced(text: str) -> int:
    """How many characters `clean_text` replaces."""
    cleaned = clean_text(text)
    return 0 if cleaned == text else max(0, cleaned.count(REPLACEMENT) - text.count(REPLACEMENT))


def note_replaced(count: int, unit: str = "character", reason: str = "NUL") -> tuple[str, ...]:
    """The note that ``count`` units were ``reason`` and are replaced; none if there are none."""
    plural, were = ("", "was") if count == 1 else ("s", "were")
    return (f"{count} {unit}{plural} {were} {reason} and {were} replaced",) if count else ()


def shorten(text: str, max_chars: int, tail: str = "", omitted: int = 0) -> tuple[str, tuple[str, ...]]:
    """Keep the beginning and the end of a long text, and note it.

    Parameters
    ----------
    text, tail
        The text; of one too long to be held its beginning and its end.
    max_chars
        The most characters that are kept.
    omitted
        Characters that are missing between ``text`` and ``tail``.

    Returns
    -------
    text : str
    notes : tuple of str
        One note if the text was shortened, else none.
    """
    total = len(text) + omitted + len(tail)
    if total <= max_chars:
        return text + tail, ()
    ends = max_chars - len(GAP)
    tail_length = ends // 4
    kept = text[: ends - tail_length] + GAP + (text[-tail_length:] + tail)[-tail_length:]
    return kept, (f"shortened from {total} to {max_chars} characters",)


def _count_characters(data: bytes | bytearray) -> int:
    return len(data.translate(None, _CONTINUATION))
