"""Groups of log lines that share a verdict: the lines of a template, or of one text where the exact words count.

Lines are compared by seeded 64-bit hashes (`agent.bulk.line_hashes`), a whole chunk at a time. Only the first line of
each new hash is read as a single record is read, and its group is that of all lines with the hash.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from agent.bulk.chunk_entries import Entry, find_entries
from agent.bulk.hash_table import MAX_HASHES, GroupNumbers, Hashes, HashTable
from agent.bulk.line_hashes import line_hashes
from agent.bulk.output import short_id
from agent.bulk.prepared_chunk import (
    PreparedChunk,
    read_line,
    rows_of,
    split_chunk,
    texts_of,
    without_control_sequences,
)
from agent.core.records import Record
from agent.core.requests import LONG, JudgeRequest, needs_segments
from agent.data.chunks import Chunk
from agent.data.readers.entries import EntryRule, LineKind
from agent.data.readers.row import ParsedRow, ReadRequest
from agent.data.redacted_columns import redacted_lines
from retrieval.encoding.representation import Representation
from retrieval.text.masked_forms import masked_forms, shortest_of
from retrieval.text.prompt_injection import find_injections

if TYPE_CHECKING:
    import polars as pl

# number of a line that is no record, of a skeleton whose lines are grouped by their texts, of a line that is joined to
# the one before, of a skeleton that is not grouped yet; from _KINDS down: of skeletons that begin no entry
BLANK, BY_TEXT, JOINED, UNREAD, _KINDS = -1, -2, -3, -4, -100


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
    of_row : bool
        Whether it is of rows of a table, which are named by their template.
    """

    key: str
    template: str
    first: Record
    count: int = 0
    of_row: bool = False

    @property
    def name(self) -> str:
        """What lines of the output call it."""
        return self.template_id if self.of_row else self.id

    @property
    def id(self) -> str:
        """Short form of the key."""
        return short_id(self.key)

    @property
    def template_id(self) -> str:
        """Short form of the template's key."""
        return short_id(self.template)


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
        self._of_table = False
        self._forget(None)
        self._by_key: dict[str, int] = {}
        self._case_texts = frozenset(self.case_texts)
        self._has_long_cases = any("\n" in text for text in self._case_texts)
        self._cases = HashTable()
        self._cases.put(self._hash(self.case_texts), np.zeros(len(self.case_texts), np.int32))

    def forget(self) -> None:
        """Forget all groups: the next one is the first again."""
        self.groups.clear()
        self._by_key.clear()
        self._forget(None)

    def _forget(self, read_as: object) -> None:
        self._read_as = read_as
        self._by_skeleton, self._by_line = HashTable(), HashTable()
        self._by_skeletons: dict[bytes, int] = {}

    def prepare(self, chunk: Chunk, request: ReadRequest) -> PreparedChunk:
        """Do what does not depend on the chunks before; thread-safe."""
        chunk = replace(chunk, data=without_control_sequences(chunk.data))
        lines = split_chunk(chunk)
        if lines is None:
            return PreparedChunk(chunk, request, None, np.zeros(0, np.uint64), np.zeros(0, np.bool_))
        unredacted, lines = lines, redacted_lines(lines, request)
        texts = lines if request.label is None else texts_of(lines, request)
        hashes = line_hashes(lines, texts, self.representation.kept, self._seed, request.entries)
        is_case = self._is_case(texts_of(lines, request))
        return PreparedChunk(chunk, request, lines, hashes, is_case, unredacted=unredacted)

    def prepare_texts(self, texts: pl.Series, lines: NDArray[np.int64], request: ReadRequest) -> PreparedChunk:
        """As `prepare`, of n texts of one line each, which are the cells of a table's rows."""
        request = replace(request, text=(), label=None, entries=None)
        hashes = line_hashes(texts, texts, self.representation.kept, self._seed)
        chunk = Chunk(b"", len(texts), int(lines[0]), 0)
        return PreparedChunk(chunk, request, texts, hashes, self._is_case(texts), numbers=lines)

    def _is_case(self, texts: pl.Series) -> NDArray[np.bool_]:
        """Which texts a case has."""
        if not self._case_texts:
            return np.zeros(len(texts), np.bool_)
        return self._cases.get(texts.hash(self._seed).to_numpy())[1]

    def assign(self, prepared: PreparedChunk) -> GroupNumbers:
        """The group number of each line, shape (n,); below 0 for a line that is no record or joined to one before."""
        chunk, request, lines, hashes = prepared.chunk, prepared.request, prepared.lines, prepared.hashes
        rule = request.entries
        self._of_table = prepared.numbers is not None
        if (read_as := (self._of_table, request.label, rule and rule.key)) != self._read_as:
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
            self._add(self._by_skeleton, hashes, new, lambda indices: self._of_skeletons(indices, prepared))
            numbers[new], _ = self._by_skeleton.get(hashes[new])
        if len(by_text := np.flatnonzero((numbers == BY_TEXT) | is_case)):
            numbers[by_text] = self._of_texts(lines.gather(by_text), request, prepared.line_numbers(by_text))
        for index, entry in prepared.entries.items():
            numbers[index] = self._of_entry(entry, prepared)
        if prepared.numbers is None:
            self._note_shortened(prepared, np.flatnonzero((prepared.sizes > request.max_chars) & (numbers != JOINED)))
        return numbers

    def _note_shortened(self, prepared: PreparedChunk, indices: NDArray[Any]) -> None:
        """Note that lines are shortened, which are longer than a record may be."""
        assert prepared.lines is not None
        for index in indices.tolist():
            if index not in prepared.entries:
                self._note(
                    prepared.request, read_line(prepared.lines[index], prepared.request, prepared.chunk.first + index)
                )

    def _note(self, request: ReadRequest, row: ParsedRow | None) -> None:
        if row is not None:
            self.notes += [f"{request.file}:{row.record.line}: {note}" for note in row.notes]

    def _find_entries(
        self, prepared: PreparedChunk, numbers: GroupNumbers, unread: NDArray[np.bool_], rule: EntryRule
    ) -> None:
        """Find the entries over several lines, and the kinds of lines whose skeletons are new."""
        lines = prepared.joined_lines

        def numbers_of(indices: NDArray[Any]) -> list[int]:
            return list(map(number_of, lines.gather(indices).to_list()))

        def number_of(line: str) -> int:
            if not line.strip():
                return BLANK
            kind = LineKind.START if rule.by_digits else rule.kind(line)
            return _KINDS - kind if kind else UNREAD

        if (new := np.flatnonzero(unread)).size:
            self._add(self._by_skeleton, prepared.hashes, new, numbers_of)
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
        indices = list(entry.indices)
        # the length of a long entry matters
        size = int(prepared.sizes[indices].sum())
        key = prepared.hashes[indices].tobytes() + bytes(entry.glued) + (b"%d" % size if size > LONG else b"")
        key = hashlib.blake2b(key).digest()
        if key in self._by_skeletons and size <= prepared.request.max_chars:
            return self._by_skeletons[key]
        row = entry.read(prepared.joined_lines.__getitem__, prepared.request, prepared.chunk.first)
        if row is None:
            return BLANK
        self._note(prepared.request, row)
        number, by_text = self._of_row(row), self._key(row)[0]
        if not by_text and not self._has_long_cases and len(self._by_skeletons) < MAX_HASHES:
            self._by_skeletons[key] = number
        return number

    def _hash(self, texts: Sequence[str]) -> Hashes:
        import polars as pl

        return pl.Series(texts, dtype=pl.String).hash(self._seed).to_numpy()

    @staticmethod
    def _add(
        table: HashTable, hashes: Hashes, new: NDArray[Any], numbers_of: Callable[[NDArray[Any]], list[int]]
    ) -> None:
        """Put the hashes at indices ``new`` into the table, in the order of their lines, the same in every run."""
        distinct, first = np.unique(hashes[new], return_index=True)
        order = np.argsort(first)
        numbers = numbers_of(new[first[order]])
        table.replace(distinct[order], np.array(numbers, np.int32))

    def _of_skeletons(self, indices: NDArray[Any], prepared: PreparedChunk) -> list[int]:
        """The group numbers of lines of which each stands for all with its hash."""
        assert prepared.lines is not None
        lines: list[str] = prepared.lines.gather(indices).to_list()
        forms = masked_forms(texts_of(prepared.lines.gather(indices), prepared.request), longest=LONG)
        numbers = list[int]()
        places = prepared.line_numbers(indices).tolist()
        for number, line, form in zip(places, lines, forms.to_list(), strict=True):
            row = read_line(line, prepared.request, number)
            if row is None:
                numbers.append(BLANK)
                continue
            by_text, key = self._key(row)
            # patterns look ahead a number of characters: what the shortest text does not hold, no other does
            by_text = by_text or bool(find_injections(shortest_of(form)))
            numbers.append(BY_TEXT if by_text else self._number(key, key, row.record))
        return numbers

    def _of_texts(self, lines: pl.Series, request: ReadRequest, line_numbers: NDArray[Any]) -> GroupNumbers:
        def numbers_of(indices: NDArray[Any]) -> list[int]:
            found = zip(lines.gather(indices).to_list(), line_numbers[indices].tolist(), strict=True)
            return [self._of_row(read_line(line, request, number)) for line, number in found]

        hashes = lines.hash(self._seed).to_numpy()
        numbers, known = self._by_line.get(hashes)
        if (new := np.flatnonzero(~known)).size:
            self._add(self._by_line, hashes, new, numbers_of)
            numbers[new], _ = self._by_line.get(hashes[new])
        return numbers

    def _one_by_one(self, chunk: Chunk, request: ReadRequest) -> GroupNumbers:
        """The group numbers of a chunk that is not plain text, with notes on what the reader changed."""
        numbers = np.full(chunk.lines, BLANK, np.int32)
        if request.entries is not None:
            numbers[[bool(line.strip()) for line in chunk.data.split(b"\n")[:-1]]] = JOINED
        for row in rows_of(chunk, request):
            line = row.record.line or chunk.first
            self._note(request, row)
            numbers[line - chunk.first] = self._of_row(row)
        return numbers

    def number_of_row(self, row: ParsedRow) -> int:
        """The group number of a row of a table that was read one by one."""
        self._of_table = True
        return self._of_row(row)

    def _of_row(self, row: ParsedRow | None) -> int:
        if row is None:
            return BLANK
        by_text, key = self._key(row)
        if not by_text and row.record.text not in self._case_texts:
            return self._number(key, key, row.record)
        # beside a text, what else a record has may be named in its verdict
        has_more = row.record.fields or row.record.events
        content = row.record.content_hash if has_more else row.record.text
        text_key = hashlib.sha256(b"text\0" + content.encode()).hexdigest()
        if self._of_table:
            key = self.representation.key(row.record, row.record.content_hash)
        return self._number(text_key, key or text_key, row.record)

    def _key(self, row: ParsedRow) -> tuple[bool, str]:
        """Whether texts of the row's skeleton are groups of their own, and the key of its template, if it has one."""
        record = row.record
        if record.fields or record.events or needs_segments(JudgeRequest(text=record.text)):
            return True, ""
        key = self.representation.key(record, "")
        return self.is_by_text(key), key

    def _number(self, key: str, template: str, record: Record) -> int:
        if key not in self._by_key:
            self._by_key[key] = len(self.groups)
            self.groups.append(TemplateGroup(key, template, record, of_row=self._of_table))
        return self._by_key[key]
