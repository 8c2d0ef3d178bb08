"""Which verdict a line shares: that of its template, or, where its very words count, that of its text.

Lines are compared by seeded 64-bit hashes, a whole block at a time; one line of each new skeleton is read as the
one-by-one way reads it, and what it is there, all lines of the skeleton are.
"""

from __future__ import annotations

import hashlib
import io
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from agent.bulk.chunks import Chunk
from agent.core.records import Record
from agent.core.requests import JudgeRequest, needs_segments
from agent.data.readers.byte_stream import Stream
from agent.data.readers.log import read_log
from agent.data.readers.row import ParsedRow, ReadRequest, RowError
from retrieval.encoding.representation import Representation
from retrieval.text.template_hash import template_skeletons

if TYPE_CHECKING:
    import polars as pl

# a line that is no record; one of a skeleton whose lines are told apart by their texts
BLANK, BY_TEXT = -1, -2
# hashes kept of lines and of skeletons, each
_MOST_KEPT = 2_000_000
_FIRST_WORD = r"^\s*\S+\s+"
GroupNumbers = NDArray[np.int32]
Hashes = NDArray[np.uint64]


@dataclass
class TemplateGroup:
    """Records that share one verdict: those of a template, or of one text of it. Keys: 64 hex digits.

    ``first``: the first of them; ``count``: how many were met, where somebody counts.
    """

    key: str
    template: str
    first: Record
    count: int = 0

    @property
    def id(self) -> str:
        return short_id(self.key)

    @property
    def group(self) -> str:
        return short_id(self.template)


class _Table:
    """Hashes and the numbers they stand for; forgotten all at once when they are too many."""

    def __init__(self) -> None:
        self._hashes, self._numbers = np.zeros(0, np.uint64), np.zeros(0, np.int32)

    def get(self, hashes: Hashes) -> tuple[GroupNumbers, NDArray[np.bool_]]:
        """The numbers, and whether each hash is there."""
        if not len(self._hashes):
            return np.full(len(hashes), BLANK, np.int32), np.zeros(len(hashes), np.bool_)
        at = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
        return self._numbers[at], self._hashes[at] == hashes

    def put(self, hashes: Hashes, numbers: GroupNumbers) -> None:
        if len(self._hashes) + len(hashes) > _MOST_KEPT:
            self._hashes, self._numbers = np.zeros(0, np.uint64), np.zeros(0, np.int32)
        every = np.concatenate([self._hashes, hashes])
        order = np.argsort(every)
        self._hashes, self._numbers = every[order], np.concatenate([self._numbers, numbers])[order]


@dataclass(frozen=True)
class PreparedChunk:
    """A block whose lines are yet to be sorted. ``lines``: None where they must be read one by one.

    ``hashes``: of their skeletons; ``held``: whether a case has their text.
    """

    block: Chunk
    request: ReadRequest
    lines: pl.Series | None
    hashes: Hashes
    held: NDArray[np.bool_]

    def texts(self, places: NDArray[Any]) -> list[str]:
        """The texts, as records have them, of the lines at ``places``."""
        if self.lines is not None:
            return _as_read(self.lines.gather(places), self.request).to_list()
        found = {
            item.record.line: item.record.text
            for item in read_log(Stream(iter([self.block.data])), self.request)
            if isinstance(item, ParsedRow)
        }
        return [found.get(place + 1, "") for place in places.tolist()]


@dataclass
class TemplateGrouper:
    """Sorts the lines of a source's logs into ``slots``, which grow.

    ``held``: the texts that a case has (their verdicts are their own); ``texts_apart``: of templates' keys, those where
    a text has a verdict of its own.
    """

    space: Representation
    held: Sequence[str]
    texts_apart: Callable[[str], bool]
    slots: list[TemplateGroup] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._seed = secrets.randbits(63)
        self._by_skeleton, self._by_line = _Table(), _Table()
        self._by_key: dict[str, int] = {}
        self._held_texts = frozenset(self.held)
        self._held = _Table()
        self._held.put(self._hashed(self.held), np.zeros(len(self.held), np.int32))

    def prepare(self, block: Chunk, request: ReadRequest) -> PreparedChunk:
        """What can be done before the blocks in front of it are sorted, by any thread."""
        lines = _lines(block)
        if lines is None:
            return PreparedChunk(block, request, None, np.zeros(0, np.uint64), np.zeros(0, np.bool_))
        hashes = template_skeletons(block.data).hash(self._seed).to_numpy()
        held = np.zeros(len(lines), np.bool_)
        if self._held_texts:
            _, held = self._held.get(_as_read(lines, request).hash(self._seed).to_numpy())
        return PreparedChunk(block, request, lines, hashes, held)

    def sort(self, prepared: PreparedChunk) -> GroupNumbers:
        """The slot of each line, `BLANK` for none."""
        block, request, lines, hashes = prepared.block, prepared.request, prepared.lines, prepared.hashes
        if lines is None:
            return self._one_by_one(block, request)
        out, there = self._by_skeleton.get(hashes)
        if (unmet := np.flatnonzero(~there & ~prepared.held)).size:
            self._meet(lines, hashes, unmet, request, block.first)
            # what was there may have been forgotten for the new ones
            out[unmet], _ = self._by_skeleton.get(hashes[unmet])
        own = np.flatnonzero((out == BY_TEXT) | prepared.held)
        if len(own):
            out[own] = self._of_texts(lines.gather(own), request, block.first + own)
        return out

    def _hashed(self, texts: Sequence[str]) -> Hashes:
        import polars as pl

        return pl.Series(texts, dtype=pl.String).hash(self._seed).to_numpy()

    def _meet(self, lines: pl.Series, hashes: Hashes, new: NDArray[Any], request: ReadRequest, first: int) -> None:
        """Put skeletons that were not met before into the table; ``new``: the places of their lines."""
        unmet, which = np.unique(hashes[new], return_index=True)
        # in the order of the lines, so that what is first met is the same in every run
        order = np.argsort(which)
        numbers = [self._number(lines, place, request, first) for place in new[which[order]].tolist()]
        self._by_skeleton.put(unmet[order], np.array(numbers, np.int32))

    def _number(self, lines: pl.Series, place: int, request: ReadRequest, first: int) -> int:
        reading = _read(lines[place], request, first + place)
        if reading is None:
            return BLANK
        apart, key = self._told(reading)
        if apart:
            return BY_TEXT
        return self._slot(key, key, reading.record)

    def _of_texts(self, lines: pl.Series, request: ReadRequest, numbers: NDArray[Any]) -> GroupNumbers:
        hashes = lines.hash(self._seed).to_numpy()
        out, there = self._by_line.get(hashes)
        if not there.all():
            new = np.flatnonzero(~there)
            unmet, which = np.unique(hashes[new], return_index=True)
            order = np.argsort(which)
            found = [
                self._of_reading(_read(lines[place], request, int(numbers[place])))
                for place in new[which[order]].tolist()
            ]
            self._by_line.put(unmet[order], np.array(found, np.int32))
            out[new], _ = self._by_line.get(hashes[new])
        return out

    def _one_by_one(self, block: Chunk, request: ReadRequest) -> GroupNumbers:
        """The slots of a block that is no plain text: what was changed in reading it is noted."""
        out = np.full(block.lines, BLANK, np.int32)
        for item in read_log(Stream(iter([block.data])), request):
            if isinstance(item, ParsedRow) and item.record.line:
                line = block.first + item.record.line - 1
                reading = _at(item, line)
                self.notes += [f"{request.file}:{line}: {note}" for note in item.notes]
                out[item.record.line - 1] = self._of_reading(reading)
        return out

    def _of_reading(self, reading: ParsedRow | None) -> int:
        if reading is None:
            return BLANK
        apart, key = self._told(reading)
        if not apart and reading.record.text not in self._held_texts:
            return self._slot(key, key, reading.record)
        own = _key_of_text(reading.record.text)
        return self._slot(own, key or own, reading.record)

    def _told(self, reading: ParsedRow) -> tuple[bool, str]:
        """Whether texts of its skeleton have verdicts of their own, and the key of its template."""
        record = reading.record
        if record.fields or needs_segments(JudgeRequest(text=record.text)):
            return True, ""
        key = self.space.key(record, "")
        return self.texts_apart(key), key

    def _slot(self, key: str, template: str, record: Record) -> int:
        if key not in self._by_key:
            self._by_key[key] = len(self.slots)
            self.slots.append(TemplateGroup(key, template, record))
        return self._by_key[key]


def short_id(key: str) -> str:
    """A key as people and files are given it."""
    return "t" + key[:15]


def _as_read(lines: pl.Series, request: ReadRequest) -> pl.Series:
    texts = lines.str.strip_chars_end("\r")
    return texts.str.replace(_FIRST_WORD, "") if request.label is not None else texts


def _lines(block: Chunk) -> pl.Series | None:
    """The lines of a block; None if it is no plain text, whose lines must be read one by one."""
    import polars as pl

    data = block.data
    if b"\0" in data:
        return None
    if not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError:
            return None
    lines = pl.read_lines(io.BytesIO(data)).to_series()
    return lines if len(lines) == block.lines else None


def _read(line: str, request: ReadRequest, number: int) -> ParsedRow | None:
    """A line as the one-by-one way reads it; None if it is no record."""
    readings: Iterator[ParsedRow | RowError] = read_log(Stream(iter([line.encode() + b"\n"])), request)
    found = next(readings, None)
    return _at(found, number) if isinstance(found, ParsedRow) else None


def _at(reading: ParsedRow, line: int) -> ParsedRow:
    record = reading.record.model_copy(update={"line": line})
    return ParsedRow(record, reading.label, reading.label_value, reading.notes)


def _key_of_text(text: str) -> str:
    return hashlib.sha256(b"text\0" + text.encode()).hexdigest()
