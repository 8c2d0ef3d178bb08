"""Groups of log lines that share a verdict: the lines of a template, or of one text where the exact words count.

Lines are compared by seeded 64-bit hashes of their skeletons, a whole chunk at a time. Only the first line of each
new skeleton is read as a single record is read, and its group is that of all lines of the skeleton.
"""

from __future__ import annotations

import hashlib
import io
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from agent.bulk.chunks import Chunk
from agent.core.records import Record
from agent.core.requests import JudgeRequest, needs_segments
from agent.data.readers.byte_stream import Stream
from agent.data.readers.log import read_log
from agent.data.readers.row import ParsedRow, ReadRequest
from retrieval.encoding.representation import Representation
from retrieval.text.template_hash import template_skeletons

if TYPE_CHECKING:
    import polars as pl

# number of a line that is no record; of a skeleton whose lines are grouped by their texts
BLANK, BY_TEXT = -1, -2
# size of the tables of skeletons and of lines
_MAX_HASHES = 2_000_000
_FIRST_WORD = r"^\s*\S+\s+"
GroupNumbers = NDArray[np.int32]
Hashes = NDArray[np.uint64]


@dataclass
class TemplateGroup:
    """Records that share one verdict: those of a template, or of one of its texts.

    Attributes
    ----------
    key : str
        Identifies the group; 64 hex digits.
    template : str
        Key of the template, which several groups may share.
    first : Record
        The first record.
    count : int
        Number of records, if the input was surveyed before.
    """

    key: str
    template: str
    first: Record
    count: int = 0

    @property
    def id(self) -> str:
        """Short form of the key."""
        return _short_id(self.key)

    @property
    def template_id(self) -> str:
        """Short form of the template's key."""
        return _short_id(self.template)


class _Table:
    """A map of hashes to group numbers, which is emptied when it is full."""

    def __init__(self) -> None:
        self._hashes, self._numbers = np.zeros(0, np.uint64), np.zeros(0, np.int32)

    def get(self, hashes: Hashes) -> tuple[GroupNumbers, NDArray[np.bool_]]:
        """The numbers of n hashes, and whether each is in the table: shapes (n,)."""
        if not len(self._hashes):
            return np.full(len(hashes), BLANK, np.int32), np.zeros(len(hashes), np.bool_)
        at = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
        return self._numbers[at], self._hashes[at] == hashes

    def put(self, hashes: Hashes, numbers: GroupNumbers) -> None:
        """Add n hashes with their group numbers, shapes (n,)."""
        if len(self._hashes) + len(hashes) > _MAX_HASHES:
            self._hashes, self._numbers = np.zeros(0, np.uint64), np.zeros(0, np.int32)
        merged = np.concatenate([self._hashes, hashes])
        order = np.argsort(merged)
        self._hashes, self._numbers = merged[order], np.concatenate([self._numbers, numbers])[order]


@dataclass(frozen=True)
class PreparedChunk:
    """A chunk whose lines are not grouped yet.

    Attributes
    ----------
    chunk : Chunk
    request : ReadRequest
    lines : polars.Series or None
        None if the lines must be read one by one.
    hashes : ndarray of uint64, shape (n,)
        Hashes of the lines' skeletons.
    is_case : ndarray of bool, shape (n,)
        Whether a case has the line's text.
    """

    chunk: Chunk
    request: ReadRequest
    lines: pl.Series | None
    hashes: Hashes
    is_case: NDArray[np.bool_]

    def texts(self, indices: NDArray[Any]) -> list[str]:
        """The texts, as records have them, of the lines at ``indices``, shape (k,)."""
        if self.lines is not None:
            return _as_read(self.lines.gather(indices), self.request).to_list()
        texts = {
            item.record.line: item.record.text
            for item in read_log(Stream(iter([self.chunk.data])), self.request)
            if isinstance(item, ParsedRow)
        }
        return [texts.get(index + 1, "") for index in indices.tolist()]


@dataclass
class TemplateGrouper:
    """Assigns the lines of a source's logs to groups.

    Parameters
    ----------
    representation : Representation
        The source's.
    case_texts : sequence of str
        Texts of the cases; each is a group of its own.
    is_by_text : callable
        Whether each text of a template, given by its key, is a group of its own.

    Attributes
    ----------
    groups : list of TemplateGroup
        All groups met so far, by their numbers.
    notes : list of str
        What the reader changed in the lines.
    """

    representation: Representation
    case_texts: Sequence[str]
    is_by_text: Callable[[str], bool]
    groups: list[TemplateGroup] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._seed = secrets.randbits(63)
        self._by_skeleton, self._by_line = _Table(), _Table()
        self._by_key: dict[str, int] = {}
        self._case_texts = frozenset(self.case_texts)
        self._cases = _Table()
        self._cases.put(self._hash(self.case_texts), np.zeros(len(self.case_texts), np.int32))

    def prepare(self, chunk: Chunk, request: ReadRequest) -> PreparedChunk:
        """Do what does not depend on the chunks before; thread-safe."""
        lines = _split(chunk)
        if lines is None:
            return PreparedChunk(chunk, request, None, np.zeros(0, np.uint64), np.zeros(0, np.bool_))
        hashes = template_skeletons(chunk.data).hash(self._seed).to_numpy()
        is_case = np.zeros(len(lines), np.bool_)
        if self._case_texts:
            _, is_case = self._cases.get(_as_read(lines, request).hash(self._seed).to_numpy())
        return PreparedChunk(chunk, request, lines, hashes, is_case)

    def assign(self, prepared: PreparedChunk) -> GroupNumbers:
        """The group number of each line, shape (n,); `BLANK` for a line that is no record."""
        chunk, request, lines, hashes = prepared.chunk, prepared.request, prepared.lines, prepared.hashes
        if lines is None:
            return self._one_by_one(chunk, request)
        numbers, known = self._by_skeleton.get(hashes)
        if (new := np.flatnonzero(~known & ~prepared.is_case)).size:
            self._add(
                self._by_skeleton,
                hashes,
                new,
                lambda index: self._of_skeleton(lines[index], request, chunk.first + index),
            )
            numbers[new], _ = self._by_skeleton.get(hashes[new])
        by_text = np.flatnonzero((numbers == BY_TEXT) | prepared.is_case)
        if len(by_text):
            numbers[by_text] = self._of_texts(lines.gather(by_text), request, chunk.first + by_text)
        return numbers

    def _hash(self, texts: Sequence[str]) -> Hashes:
        import polars as pl

        return pl.Series(texts, dtype=pl.String).hash(self._seed).to_numpy()

    @staticmethod
    def _add(table: _Table, hashes: Hashes, new: NDArray[Any], number_of: Callable[[int], int]) -> None:
        """Put the hashes at indices ``new`` into the table, in the order of their lines, the same in every run."""
        distinct, first = np.unique(hashes[new], return_index=True)
        order = np.argsort(first)
        numbers = [number_of(index) for index in new[first[order]].tolist()]
        table.put(distinct[order], np.array(numbers, np.int32))

    def _of_skeleton(self, line: str, request: ReadRequest, number: int) -> int:
        row = _read(line, request, number)
        if row is None:
            return BLANK
        by_text, key = self._key(row)
        return BY_TEXT if by_text else self._number(key, key, row.record)

    def _of_texts(self, lines: pl.Series, request: ReadRequest, line_numbers: NDArray[Any]) -> GroupNumbers:
        hashes = lines.hash(self._seed).to_numpy()
        numbers, known = self._by_line.get(hashes)
        if (new := np.flatnonzero(~known)).size:
            self._add(
                self._by_line,
                hashes,
                new,
                lambda index: self._of_row(_read(lines[index], request, int(line_numbers[index]))),
            )
            numbers[new], _ = self._by_line.get(hashes[new])
        return numbers

    def _one_by_one(self, chunk: Chunk, request: ReadRequest) -> GroupNumbers:
        """The group numbers of a chunk that is not plain text, with notes on what the reader changed."""
        numbers = np.full(chunk.lines, BLANK, np.int32)
        for item in read_log(Stream(iter([chunk.data])), request):
            if isinstance(item, ParsedRow) and item.record.line:
                line = chunk.first + item.record.line - 1
                self.notes += [f"{request.file}:{line}: {note}" for note in item.notes]
                numbers[item.record.line - 1] = self._of_row(_at(item, line))
        return numbers

    def _of_row(self, row: ParsedRow | None) -> int:
        if row is None:
            return BLANK
        by_text, key = self._key(row)
        if not by_text and row.record.text not in self._case_texts:
            return self._number(key, key, row.record)
        text_key = hashlib.sha256(b"text\0" + row.record.text.encode()).hexdigest()
        return self._number(text_key, key or text_key, row.record)

    def _key(self, row: ParsedRow) -> tuple[bool, str]:
        """Whether texts of the row's skeleton are groups of their own, and the key of its template, if it has one."""
        record = row.record
        if record.fields or needs_segments(JudgeRequest(text=record.text)):
            return True, ""
        key = self.representation.key(record, "")
        return self.is_by_text(key), key

    def _number(self, key: str, template: str, record: Record) -> int:
        if key not in self._by_key:
            self._by_key[key] = len(self.groups)
            self.groups.append(TemplateGroup(key, template, record))
        return self._by_key[key]


def _short_id(key: str) -> str:
    return "t" + key[:15]


def _as_read(lines: pl.Series, request: ReadRequest) -> pl.Series:
    texts = lines.str.strip_chars_end("\r")
    return texts.str.replace(_FIRST_WORD, "") if request.label is not None else texts


def _split(chunk: Chunk) -> pl.Series | None:
    """The lines of a chunk; None if it is not plain text, whose lines must be read one by one."""
    import polars as pl

    if b"\0" in chunk.data:
        return None
    if not chunk.data.isascii():
        try:
            chunk.data.decode()
        except UnicodeDecodeError:
            return None
    lines = pl.read_lines(io.BytesIO(chunk.data)).to_series()
    return lines if len(lines) == chunk.lines else None


def _read(line: str, request: ReadRequest, number: int) -> ParsedRow | None:
    """A line as a single record is read; None if it is no record."""
    item = next(iter(read_log(Stream(iter([line.encode() + b"\n"])), request)), None)
    return _at(item, number) if isinstance(item, ParsedRow) else None


def _at(row: ParsedRow, line: int) -> ParsedRow:
    return replace(row, record=row.record.model_copy(update={"line": line}))
