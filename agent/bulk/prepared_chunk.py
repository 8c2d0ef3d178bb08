"""A chunk of a log whose lines are hashed and not grouped yet, and its lines as records are read."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from agent.bulk.chunk_entries import Entry
from agent.bulk.hash_table import Hashes
from agent.core.records import ANSI_SEQUENCE
from agent.data.chunks import Chunk
from agent.data.readers.byte_stream import Stream
from agent.data.readers.lines import RawLine
from agent.data.readers.log import parse_entry, read_log
from agent.data.readers.row import ParsedRow, ReadRequest

if TYPE_CHECKING:
    import polars as pl

_FIRST_WORD = r"^\s*\S+\s+"
_MARK, _ANSI = re.compile(b"^" + codecs.BOM_UTF8, re.MULTILINE), re.compile(ANSI_SEQUENCE.encode())


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
        Hashes of the lines (`agent.bulk.line_hashes`).
    is_case : ndarray of bool, shape (n,)
        Whether a case has the line's text.
    entries : dict of int to Entry
        The entries over several lines by their first line, once they are found.
    numbers : ndarray of int64, shape (n,), or None
        The lines of a table whose texts these are; None for a log, whose lines follow each other.
    unredacted : polars.Series or None
        The lines before they were redacted, which are joined to entries; None if nothing was redacted.
    """

    chunk: Chunk
    request: ReadRequest
    lines: pl.Series | None
    hashes: Hashes
    is_case: NDArray[np.bool_]
    entries: dict[int, Entry] = field(default_factory=dict)
    numbers: NDArray[np.int64] | None = None
    unredacted: pl.Series | None = None

    @property
    def joined_lines(self) -> pl.Series:
        """The lines that entries consist of: what goes on in the next line is found in the whole entry."""
        lines = self.lines if self.unredacted is None else self.unredacted
        assert lines is not None
        return lines

    def line_numbers(self, indices: NDArray[Any]) -> NDArray[np.int64]:
        """The numbers in the file of the lines at ``indices``, shape (k,)."""
        return self.chunk.first + indices if self.numbers is None else self.numbers[indices]

    @cached_property
    def sizes(self) -> NDArray[np.uint32]:
        """Bytes of each line, shape (n,)."""
        assert self.lines is not None
        return self.lines.str.len_bytes().to_numpy()

    def texts(self, indices: NDArray[Any]) -> list[str]:
        """The texts, as records have them, of the lines at ``indices``, shape (k,)."""
        first = self.chunk.first
        if self.lines is None:
            found = {row.record.line: row.record.text for row in rows_of(self.chunk, self.request)}
            return [found.get(first + index, "") for index in indices.tolist()]
        texts: list[str] = texts_of(self.lines.gather(indices), self.request).to_list()
        for place, index in enumerate(indices.tolist()):
            if entry := self.entries.get(index):
                row = entry.read(self.joined_lines.__getitem__, self.request, first)
                texts[place] = row.record.text if row else ""
        return texts


def texts_of(lines: pl.Series, request: ReadRequest) -> pl.Series:
    """The texts that records have of some lines."""
    texts = lines.str.strip_chars_end("\r")
    return texts.str.replace(_FIRST_WORD, "") if request.label is not None else texts


def split_chunk(chunk: Chunk) -> pl.Series | None:
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


def rows_of(chunk: Chunk, request: ReadRequest) -> Iterator[ParsedRow]:
    """The records of a chunk, read one by one."""
    items = read_log(Stream(iter([chunk.data])), request, first_line=chunk.first)
    return (item for item in items if isinstance(item, ParsedRow))


def read_line(line: str, request: ReadRequest, number: int) -> ParsedRow | None:
    """A line as a single record is read; None if it is no record."""
    item = parse_entry(RawLine(number, line.encode()), request)
    return item if isinstance(item, ParsedRow) else None


def without_control_sequences(data: bytes) -> bytes:
    """Lines without byte order marks and what controls a terminal; single records are read without them too."""
    if not data.isascii() and codecs.BOM_UTF8 in data:
        data = _MARK.sub(b"", data)
    return _ANSI.sub(b"", data) if b"\x1b" in data else data
