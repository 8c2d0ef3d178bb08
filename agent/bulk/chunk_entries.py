"""The entries over several lines of a chunk, by the rule by which single records are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.data.readers.entries import EntryRule, LineKind
from agent.data.readers.entry_joining import EntryBuffer, EntryJoiner
from agent.data.readers.lines import RawLine
from agent.data.readers.log import parse_entry
from agent.data.readers.row import ParsedRow, ReadRequest


@dataclass(frozen=True)
class Entry:
    """The lines of one entry.

    Attributes
    ----------
    indices : tuple of int
        Places of its lines in the chunk, ascending; blank lines are left out.
    glued : tuple of bool
        For each, whether it goes on in the middle of the line before.
    """

    indices: tuple[int, ...]
    glued: tuple[bool, ...]

    def read(self, line_at: Callable[[int], str], request: ReadRequest, first: int) -> ParsedRow | None:
        """The entry as a single record is read, in a chunk whose first line has that number; None if it is none."""
        assert request.entries is not None
        buffer = EntryBuffer(request.entries, request.max_chars)
        for previous, index, glued in zip((-1, *self.indices), self.indices, self.glued, strict=False):
            line = RawLine(first + index, line_at(index).encode())
            if previous < 0:
                buffer.begin(line)
                continue
            for _ in range(index - previous - 1):
                buffer.blank()
            buffer.add(line, glued=glued)
        done = buffer.take()
        row = parse_entry(done[0], request, done[1]) if done else None
        return row if isinstance(row, ParsedRow) else None


def find_entries(lines: Sequence[str], kinds: NDArray[np.int32], rule: EntryRule, *, at_beginning: bool) -> list[Entry]:
    """The entries that are of several lines, or begin with a line that by itself would not.

    Parameters
    ----------
    lines : sequence of str
        All lines of the chunk.
    kinds : ndarray of shape (n,)
        The `LineKind` of each.
    rule : EntryRule
    at_beginning : bool
        Whether the chunk is the first of its file.
    """
    joiner, found = EntryJoiner(rule, at_beginning=at_beginning), list[Entry]()
    indices, glued = list[int](), list[bool]()

    def finish() -> None:
        if len(indices) > 1 or (indices and kinds[indices[0]]):
            found.append(Entry(tuple(indices), tuple(glued)))
        indices.clear()
        glued.clear()

    for index, (line, kind) in enumerate(zip(lines, kinds.tolist(), strict=True)):
        if not line.strip():
            joiner.blank()
            continue
        if not joiner.joins(LineKind(kind) if kind else LineKind.START, line):
            finish()
        indices.append(index)
        glued.append(joiner.is_glued)
    finish()
    return found
