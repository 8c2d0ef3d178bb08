"""Groups of log lines that share a verdict: the lines of a template, or of one text where the exact words count.

Lines are compared by seeded 64-bit hashes of their skeletons, a whole chunk at a time. Only the first line of each
new skeleton is read as a single record is read, and its group is that of all lines of the skeleton.
"""

from __future__ import annotations

import codecs
import hashlib
import io
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from agent.bulk.chunk_entries import Entry, find_entries
from agent.bulk.chunks import Chunk
from agent.bulk.hash_table import MAX_HASHES, GroupNumbers, Hashes, HashTable
from agent.bulk.output import short_id
from agent.core.records import ANSI_SEQUENCE, Record
from agent.core.requests import JudgeRequest, needs_segments
from agent.data.readers.byte_stream import Stream
from agent.data.readers.entries import EntryRule, LineKind
from agent.data.readers.lines import RawLine
from agent.data.readers.log import parse_entry, read_log
from agent.data.readers.row import ParsedRow, ReadRequest
from retrieval.encoding.representation import Representation
from retrieval.text.template_hash import template_hashes

if TYPE_CHECKING:
    import polars as pl

# number of a line that is no record, of a skeleton whose lines are grouped by their texts, of a line that is joined to
# the one before, of a skeleton that is not grouped yet; from _KINDS down: of skeletons that begin no entry
BLANK, BY_TEXT, JOINED, UNREAD, _KINDS = -1, -2, -3, -4, -100
_FIRST_WORD = r"^\s*\S+\s+"
_MARK, _ANSI = re.compile(b"^" + codecs.BOM_UTF8, re.MULTILINE), re.compile(ANSI_SEQUENCE.encode())


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
        return short_id(self.key)

    @property
    def template_id(self) -> str:
        """Short form of the template's key."""
        return short_id(self.template)


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
    entries : dict of int to Entry
        The entries over several lines by their first line, once they are found.
    """

    chunk: Chunk
    request: ReadRequest
    lines: pl.Series | None
    hashes: Hashes
    is_case: NDArray[np.bool_]
    entries: dict[int, Entry] = field(default_factory=dict)

    def texts(self, indices: NDArray[Any]) -> list[str]:
        """The texts, as records have them, of the lines at ``indices``, shape (k,)."""
        first = self.chunk.first
        if self.lines is None:
            found = {row.record.line: row.record.text for row in _rows(self.chunk, self.request)}
            return [found.get(first + index, "") for index in indices.tolist()]
        texts: list[str] = _as_read(self.lines.gather(indices), self.request).to_list()
        for place, index in enumerate(indices.tolist()):
            if entry := self.entries.get(index):
                row = entry.read(self.lines.__getitem__, self.request, first)
                texts[place] = row.record.text if row else ""
        return texts


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
        self._forget(None)
        self._by_key: dict[str, int] = {}
        self._case_texts = frozenset(self.case_texts)
        self._has_long_cases = any("\n" in text for text in self._case_texts)
        self._cases = HashTable()
        self._cases.put(self._hash(self.case_texts), np.zeros(len(self.case_texts), np.int32))

    def _forget(self, read_as: object) -> None:
        self._read_as = read_as
        self._by_skeleton, self._by_line = HashTable(), HashTable()
        self._by_skeletons: dict[bytes, int] = {}

    def prepare(self, chunk: Chunk, request: ReadRequest) -> PreparedChunk:
        """Do what does not depend on the chunks before; thread-safe."""
        chunk = replace(chunk, data=_without_control_sequences(chunk.data))
        lines = _split(chunk)
        if lines is None:
            return PreparedChunk(chunk, request, None, np.zeros(0, np.uint64), np.zeros(0, np.bool_))
        hashes = template_hashes(chunk.data, lines, self.representation.kept, self._seed)
        is_case = np.zeros(len(lines), np.bool_)
        if self._case_texts:
            _, is_case = self._cases.get(_as_read(lines, request).hash(self._seed).to_numpy())
        return PreparedChunk(chunk, request, lines, hashes, is_case)

    def assign(self, prepared: PreparedChunk) -> GroupNumbers:
        """The group number of each line, shape (n,); below 0 for a line that is no record or joined to one before."""
        chunk, request, lines, hashes = prepared.chunk, prepared.request, prepared.lines, prepared.hashes
        rule = request.entries
        if (read_as := (request.label, rule and rule.key)) != self._read_as:
            self._forget(read_as)
        if lines is None:
            return self._one_by_one(chunk, request)
        numbers, known = self._by_skeleton.get(hashes)
        unread, is_case = ~known, prepared.is_case
        if rule is not None:
            self._find_entries(prepared, numbers, unread, rule)
            unread = numbers == UNREAD
        if prepared.entries:
            for entry in prepared.entries.values():
                numbers[list(entry.indices)] = JOINED
            unread, is_case = unread & (numbers != JOINED), is_case & (numbers != JOINED)
        if (new := np.flatnonzero(unread & ~is_case)).size:
            self._add(
                self._by_skeleton,
                hashes,
                new,
                lambda index: self._of_skeleton(lines[index], request, chunk.first + index),
            )
            numbers[new], _ = self._by_skeleton.get(hashes[new])
        if len(by_text := np.flatnonzero((numbers == BY_TEXT) | is_case)):
            numbers[by_text] = self._of_texts(lines.gather(by_text), request, chunk.first + by_text)
        for index, entry in prepared.entries.items():
            numbers[index] = self._of_entry(entry, prepared)
        return numbers

    def _find_entries(
        self, prepared: PreparedChunk, numbers: GroupNumbers, unread: NDArray[np.bool_], rule: EntryRule
    ) -> None:
        """Find the entries over several lines, and the kinds of lines whose skeletons are new."""
        lines = prepared.lines
        assert lines is not None

        def number_of(index: int) -> int:
            line = lines[index]
            if not line.strip():
                return BLANK
            kind = LineKind.START if rule.by_digits else rule.kind(line)
            return _KINDS - kind if kind else UNREAD

        if (new := np.flatnonzero(unread)).size:
            self._add(self._by_skeleton, prepared.hashes, new, number_of)
            numbers[new], _ = self._by_skeleton.get(prepared.hashes[new])
        if rule.by_digits:
            kinds = np.array([rule.kind(line) if line.strip() else 0 for line in lines.to_list()], np.int32)
        else:
            if not (is_special := numbers <= _KINDS).any():
                return
            kinds = np.where(is_special, _KINDS - numbers, 0)
        if kinds.any():
            at_beginning = prepared.chunk.first == 1
            entries = find_entries(lines.to_list(), kinds, rule, at_beginning=at_beginning)
            prepared.entries.update({entry.indices[0]: entry for entry in entries})

    def _of_entry(self, entry: Entry, prepared: PreparedChunk) -> int:
        """The group number of an entry, which is that of all entries of the same skeletons unless texts count."""
        key = hashlib.blake2b(prepared.hashes[list(entry.indices)].tobytes() + bytes(entry.glued)).digest()
        if key in self._by_skeletons:
            return self._by_skeletons[key]
        assert prepared.lines is not None
        row = entry.read(prepared.lines.__getitem__, prepared.request, prepared.chunk.first)
        if row is None:
            return BLANK
        self.notes += [f"{prepared.request.file}:{row.record.line}: {note}" for note in row.notes]
        number, by_text = self._of_row(row), self._key(row)[0]
        if not by_text and not self._has_long_cases and len(self._by_skeletons) < MAX_HASHES:
            self._by_skeletons[key] = number
        return number

    def _hash(self, texts: Sequence[str]) -> Hashes:
        import polars as pl

        return pl.Series(texts, dtype=pl.String).hash(self._seed).to_numpy()

    @staticmethod
    def _add(table: HashTable, hashes: Hashes, new: NDArray[Any], number_of: Callable[[int], int]) -> None:
        """Put the hashes at indices ``new`` into the table, in the order of their lines, the same in every run."""
        distinct, first = np.unique(hashes[new], return_index=True)
        order = np.argsort(first)
        numbers = [number_of(index) for index in new[first[order]].tolist()]
        table.replace(distinct[order], np.array(numbers, np.int32))

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
        if request.entries is not None:
            numbers[[bool(line.strip()) for line in chunk.data.split(b"\n")[:-1]]] = JOINED
        for row in _rows(chunk, request):
            line = row.record.line or chunk.first
            self.notes += [f"{request.file}:{line}: {note}" for note in row.notes]
            numbers[line - chunk.first] = self._of_row(row)
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


def _rows(chunk: Chunk, request: ReadRequest) -> Iterator[ParsedRow]:
    """The records of a chunk, read one by one."""
    items = read_log(Stream(iter([chunk.data])), request, first_line=chunk.first)
    return (item for item in items if isinstance(item, ParsedRow))


def _read(line: str, request: ReadRequest, number: int) -> ParsedRow | None:
    """A line as a single record is read; None if it is no record."""
    item = parse_entry(RawLine(number, line.encode()), request)
    return item if isinstance(item, ParsedRow) else None


def _without_control_sequences(data: bytes) -> bytes:
    """Lines without byte order marks and what controls a terminal; single records are read without them too."""
    if not data.isascii() and codecs.BOM_UTF8 in data:
        data = _MARK.sub(b"", data)
    return _ANSI.sub(b"", data) if b"\x1b" in data else data
