"""Lines to entries, by the rule of `agent.data.readers.entries`; bulk runs join by the same classes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from agent.core.records import clean_text
from agent.data.readers.byte_stream import Damaged
from agent.data.readers.entries import CONTAINER, DECIDING_CHARS, EntryRule, LineKind
from agent.data.readers.lines import PAUSE, LineBuffer, RawLine, without_mark

# most lines of an entry; most of them that neither have what begins an entry nor are indented
MAX_LINES, MAX_PLAIN_LINES = 4_000_000, 1_000
_UTF8_LONGEST = 4
_CONTAINER_BYTES = re.compile(CONTAINER.pattern.encode())


class EntryJoiner:
    """Decides, line by line, which lines join the one before.

    Parameters
    ----------
    rule
    at_beginning
        Whether the first line is the first of its file: lines before the first that begins an entry are then one
        entry, whose beginning is in another file.

    Attributes
    ----------
    is_glued : bool
        Whether the last line goes on in the middle of the one before.
    """

    def __init__(self, rule: EntryRule, *, at_beginning: bool) -> None:
        self._by_indentation = rule.begins is None
        self._rule = rule
        self._lines = self._plain = 0
        self.is_glued = False
        self._may_join, self._at_beginning = False, at_beginning
        self._previous = LineKind.START
        self._stream: str | None = None
        self._after_blank = False

    def blank(self) -> None:
        """Count a blank line."""
        self._after_blank = True

    def joins(self, kind: LineKind, line: str) -> bool:
        """Whether the next line, of that kind, belongs to the entry before."""
        self.is_glued = self._is_rest(line)
        bare = kind & ~LineKind.PARTIAL
        joined = self.is_glued or (bool(bare) and self._may_join and self._is_continuation(bare))
        if joined:
            self._lines += 1
            self._plain += bare == LineKind.CONTINUATION
            joined = self._lines <= MAX_LINES and self._plain <= MAX_PLAIN_LINES
            self._may_join = joined
        elif not bare or self._at_beginning or self._by_indentation:
            self._may_join, self._lines, self._plain = True, 1, 0
        self._stream = _stream(line) if kind & LineKind.PARTIAL else None
        self._previous, self._after_blank, self._at_beginning = bare, False, False
        return joined

    @property
    def is_cut(self) -> bool:
        """Whether the last line goes on in the middle of it, in one that is still to come."""
        return self._stream is not None

    def _is_rest(self, line: str) -> bool:
        return self._stream is not None and not self._after_blank and _stream(line) == self._stream

    def _is_continuation(self, kind: LineKind) -> bool:
        if not self._by_indentation or kind & LineKind.CONTINUATION:
            return True
        if self._after_blank:
            return False
        if kind & LineKind.INDENTED:
            return True
        return bool(self._previous & ~LineKind.START) and not self._previous & LineKind.FRAME


class EntryBuffer:
    """The entry that is being put together, in bounded memory.

    Parameters
    ----------
    rule
    max_chars
        The most characters of a text.
    """

    def __init__(self, rule: EntryRule, max_chars: int) -> None:
        self._container = rule.container
        self._buffer = LineBuffer(_UTF8_LONGEST * max_chars, max_chars)
        self._first: RawLine | None = None
        self._count = self._blank = 0

    def blank(self) -> None:
        """Add a blank line, which counts if another one follows."""
        self._blank += 1

    def begin(self, line: RawLine) -> tuple[RawLine, int] | None:
        """Begin an entry; return the one before, if there is one, and of how many lines it is."""
        done = self.take()
        self._first, self._count, self._blank = line, 1, 0
        return done

    def add(self, line: RawLine, *, glued: bool) -> None:
        """Add a line to the entry, ``glued`` without a line end between."""
        if self._first is not None and self._count == 1:
            self._buffer.add_line(self._whole(self._first))
        if not glued:
            self._buffer.add(b"\n" * (1 + self._blank))
        self._buffer.add_line(self._message(line))
        self._count, self._blank = self._count + 1, 0

    @property
    def is_empty(self) -> bool:
        """Whether no entry is begun."""
        return self._first is None

    def take(self) -> tuple[RawLine, int] | None:
        """Return the entry, if there is one, and of how many lines it is."""
        first, count = self._first, self._count
        self._first, self._count = None, 0
        if first is None:
            return None
        return (first if count == 1 else self._buffer.take(first.number)), count

    def _message(self, line: RawLine) -> RawLine:
        """What a line adds to the entry before it: without a mark and the container's header."""
        data = without_mark(line.data)
        header = _CONTAINER_BYTES.match(data) if self._container else None
        return replace(line, data=data[header.end() :] if header else data)

    def _whole(self, line: RawLine) -> RawLine:
        """The first line of an entry, as if the container's runtime had not cut it."""
        data = without_mark(line.data)
        return replace(line, data=_CONTAINER_BYTES.sub(rb"\1F ", data, count=1) if self._container else data)


def decoded_start(line: RawLine) -> str:
    """The beginning of a line, as far as it decides what kind of line it is."""
    data = line.data[: 2 * _UTF8_LONGEST * DECIDING_CHARS]
    return clean_text(without_mark(data).decode("utf-8", "replace"))


def join_lines(
    lines: Iterable[RawLine], rule: EntryRule, max_chars: int, *, at_beginning: bool
) -> Iterator[tuple[RawLine, int]]:
    """The entries of lines, and of how many lines each is; blank lines are left out.

    An entry ends at a `PAUSE`, unless it is in the middle of a line: of a pipe the last one does not wait for the next.

    Raises
    ------
    Damaged
        As ``lines`` do, after the entry that is cut off there.
    """
    joiner, buffer = EntryJoiner(rule, at_beginning=at_beginning), EntryBuffer(rule, max_chars)
    damage: Damaged | None = None
    try:
        for line in lines:
            if line is PAUSE:
                if not joiner.is_cut and (done := buffer.take()):
                    yield done
                continue
            start = decoded_start(line)
            if not start.strip() and not line.data.strip():
                joiner.blank()
                buffer.blank()
            elif joiner.joins(rule.kind(start), start) and not buffer.is_empty:
                buffer.add(line, glued=joiner.is_glued)
            elif done := buffer.begin(line):
                yield done
    except Damaged as broken:
        damage = broken
    if done := buffer.take():
        yield done
    if damage:
        raise damage


def last_entry(data: bytes, rule: EntryRule) -> int:
    """Where the last entry of these lines begins, which may go on after them; 0 if that cannot be seen."""
    end, lines = data.rfind(b"\n") + 1, 0
    while lines < MAX_LINES:
        if not end:
            return 0
        start = data.rfind(b"\n", 0, end - 1) + 1
        line = decoded_start(RawLine(0, data[start : end - 1]))
        if line.strip() and not rule.kind(line) & ~LineKind.PARTIAL and not _is_cut(data, start, rule):
            return start
        end, lines = start, lines + bool(line.strip())
    return data.rfind(b"\n") + 1


def _is_cut(data: bytes, start: int, rule: EntryRule) -> bool:
    """Whether the line before ``start`` goes on after it."""
    before = data[data.rfind(b"\n", 0, max(start - 1, 0)) + 1 : start]
    return (
        rule.container
        and bool(before.strip())
        and bool(rule.kind(decoded_start(RawLine(0, before))) & LineKind.PARTIAL)
    )


def _stream(line: str) -> str | None:
    header = CONTAINER.match(line[:DECIDING_CHARS])
    return header[2] if header else None
