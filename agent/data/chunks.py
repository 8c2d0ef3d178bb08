"""Chunks of whole lines, or of whole entries, from a stream of bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from agent.data.readers.byte_stream import Damaged, Stream
from agent.data.readers.entries import EntryRule
from agent.data.readers.entry_joining import last_entry

SIZE = 8 << 20


@dataclass(frozen=True)
class Chunk:
    """Whole lines with their line ends.

    Attributes
    ----------
    data : bytes
    lines : int
        Number of lines.
    first : int
        Number of the first line in the stream.
    end : int
        Offset of the chunk's end in the stream, in bytes.
    """

    data: bytes
    lines: int
    first: int
    end: int


def read_chunks(
    stream: Stream,
    *,
    start: int = 0,
    line: int = 1,
    size: int = SIZE,
    rule: EntryRule | None = None,
) -> Iterator[Chunk]:
    """Split a stream into chunks of whole lines, or of whole entries.

    Parameters
    ----------
    stream : Stream
        Any iterable of bytes.
    start : int
        Offset of the first chunk, in bytes.
    line : int
        Number of the line that begins there.
    size : int
        Bytes of a chunk, at least; the last one may be shorter.
    rule : EntryRule or None
        What begins an entry; None: each line does. The last entry of a chunk may go on, so it is in the next one.

    Raises
    ------
    Damaged
        The stream is damaged. The whole lines before the damage are yielded first, the line that it cuts off is not.
    """
    pending, pending_size, skipped, enough = list[bytes](), 0, 0, size
    damage: Damaged | None = None
    pieces = iter(stream)
    while True:
        try:
            piece = next(pieces, b"")
        except Damaged as error:
            damage, piece = error, b""
        at_end = not piece
        if skipped < start:
            skipped += len(piece)
            piece = piece[len(piece) - (skipped - start) :] if skipped > start else b""
        pending.append(piece)
        pending_size += len(piece)
        if not at_end and (pending_size < enough or b"\n" not in piece):
            continue
        data = b"".join(pending)
        cut = (len(data) if not damage else _end_of_whole(data, None)) if at_end else _end_of_whole(data, rule)
        lines, rest = data[:cut], data[cut:]
        # an entry that is longer than a chunk is not searched for its end again and again
        enough = size if lines else 2 * len(data)
        if lines:
            start += len(lines)
            skipped = max(skipped, start)
            lines = lines if lines.endswith(b"\n") else lines + b"\n"
            count = lines.count(b"\n")
            yield Chunk(lines, count, line, start)
            line += count
        if at_end:
            if damage:
                raise Damaged(damage.reason, line) from damage
            return
        pending, pending_size = [rest], len(rest)


def _end_of_whole(data: bytes, rule: EntryRule | None) -> int:
    """How many bytes at the beginning of some data are whole lines, or whole entries."""
    return data.rfind(b"\n") + 1 if rule is None else last_entry(data, rule)
