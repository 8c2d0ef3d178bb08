"""Text of a stream from which JSON values are decoded one after the other, in bounded memory."""

from __future__ import annotations

import codecs
import json
import re
from typing import Any, Final

from agent.core.records import clean_text
from agent.data.readers.byte_stream import Damaged, Stream
from agent.data.readers.lines import REPLACEMENT, count_replaced, note_replaced

# most characters of one value, and how near to the end of the data an error may only mean that there is more of it
MAX_CHARS, _NEAR_END, _LONGEST_SEQUENCE = 64 << 20, 16, 64
LARGE: Final = object()
_OBJECT = re.compile(r"\{|\[\s*\{")
_DECODER = json.JSONDecoder()


class JsonText:
    """The text that is not decoded yet, and a position in it.

    Attributes
    ----------
    position : int
        Where the next value is, in `rest`.
    text : str
        What was read and not dropped yet.
    last : str
        The text of the value that was decoded last.
    damage : Damaged or None
        Why the stream broke off, if it did and all before is read.
    """

    def __init__(self, stream: Stream) -> None:
        self._chunks = iter(stream)
        self._decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
        self._ended = self._replaced = False
        self._line, self._counted, self._held = 1, 0, ""
        self.text, self.last, self.position = "", "", 0
        self.damage: Damaged | None = None

    def fill(self, size: int) -> bool:
        """Read until there are ``size`` characters from the position on; return whether there are more than before."""
        before = len(self.text) - self.position
        self.line  # noqa: B018 - counts the line ends that are dropped
        parts, length = [self.text[self.position :]], before
        self.position = self._counted = 0
        while length < size and not self._ended:
            try:
                chunk = next(self._chunks, b"")
            except Damaged as damage:
                self.damage, chunk = damage, b""
            self._ended = not chunk
            parts.append(self._cleaned(self._held + self._decode(chunk, self._ended)))
            length += len(parts[-1])
        self.text = "".join(parts)
        return length > before

    def _cleaned(self, text: str) -> str:
        # a control sequence of a terminal may be cut in two
        start = text.rfind("\x1b", -_LONGEST_SEQUENCE)
        is_cut = start >= 0 and not self._ended and clean_text(text[start:]) == text[start:]
        text, self._held = (text[:start], text[start:]) if is_cut else (text, "")
        self._replaced = self._replaced or bool(count_replaced(text))
        return clean_text(text)

    @property
    def line(self) -> int:
        """The number of the line at the position."""
        self._line += self.text.count("\n", self._counted, self.position)
        self._counted = self.position
        return self._line

    @property
    def at_end(self) -> bool:
        """Whether nothing follows."""
        return self.position >= len(self.text) and not self.fill(1)

    @property
    def next(self) -> str:
        """The next character; empty at the end."""
        return "" if self.at_end else self.text[self.position]

    def starts_with_object(self) -> bool:
        """Whether the value at the position is an object, or a list that begins with one."""
        return _OBJECT.match(self.text, self.position) is not None

    def is_near_end(self, error: Exception) -> bool:
        """Whether an error can be that the data broke off there."""
        if not isinstance(error, json.JSONDecodeError):
            return False
        return error.msg.startswith("Unterminated string") or error.pos >= len(self.text) - _NEAR_END

    def skip(self, pattern: re.Pattern[str]) -> None:
        """Go past what the pattern, which may be empty, matches."""
        while True:
            match = pattern.match(self.text, self.position)
            self.position = match.end() if match else self.position
            if self.position < len(self.text) or not self.fill(1):
                return

    def skip_to(self, pattern: re.Pattern[str]) -> None:
        """Go to the end of the pattern's next match, or to the end."""
        while not (match := pattern.search(self.text, self.position)):
            end = len(self.text)
            self.position = max(self.position, self.text.rfind("\n"))
            kept = end - self.position
            if not self.fill(kept + 1):
                self.position = len(self.text)
                return
        self.position = match.end()

    def value(self, small: int | None = None) -> Any:
        """Decode the next value and go past it; `LARGE`, not going past it, if it has more than ``small`` characters.

        Raises
        ------
        ValueError, RecursionError
            There is no value that can be decoded.
        """
        while True:
            error: ValueError | None = None
            try:
                value, end = _DECODER.raw_decode(self.text, self.position)
            except json.JSONDecodeError as wrong:
                error, end = wrong, len(self.text)
                if not self.is_near_end(wrong):
                    raise
            length = len(self.text) - self.position
            if (error is None and end < len(self.text)) or self._ended:
                break
            if small is not None and length >= small:
                return LARGE
            if length > MAX_CHARS:
                raise ValueError(f"one value of more than {MAX_CHARS >> 20} MiB")
            self.fill(min(2 * length, small or MAX_CHARS + 1) + 1)
        if error is not None:
            raise error
        self.last, self.position = self.text[self.position : end], end
        return value

    def notes(self) -> tuple[str, ...]:
        """What was replaced in the value that was decoded last."""
        return note_replaced(self.last.count(REPLACEMENT) if self._replaced else 0, reason="NUL or not UTF-8")

    def describe(self, error: Exception) -> tuple[int, str]:
        """The line of an error, and what is wrong there."""
        if isinstance(error, RecursionError):
            return self.line, "nested too deeply"
        if not isinstance(error, json.JSONDecodeError):
            return self.line, f"not JSON that can be read: {error}"
        column = error.pos - self.text.rfind("\n", 0, error.pos)
        line = self.line + self.text.count("\n", self.position, error.pos)
        return line, f"not JSON: {error.msg} at column {column}"

    def unread(self) -> str:
        """Go to the end; return how much was not read."""
        size, lines = len(self.text[self.position :].encode()), self.text.count("\n", self.position)
        last = self.text[-1:]
        self.position = len(self.text)
        while self.fill(1):
            size, lines, last = size + len(self.text.encode()), lines + self.text.count("\n"), self.text[-1:]
            self.position = len(self.text)
        lines += bool(size) and last != "\n"
        return f"{size:,} byte{'s' * (size != 1)} on {lines:,} line{'s' * (lines != 1)}"
