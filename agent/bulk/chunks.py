"""Chunks of whole lines from a stream of bytes, and items produced in a thread ahead of their use."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TypeVar

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


T = TypeVar("T")
# seconds for which the thread is waited for at the end: it may block on a pipe for ever
_JOIN_SECONDS = 1.0
# seconds between two looks at signals, which a queue's `get` without a timeout would not see
_SIGNAL_SECONDS = 0.2


def prefetch(items: Iterator[T], count: int) -> Generator[T, None, None]:
    """Yield the items in order, while a thread produces the next ones.

    Parameters
    ----------
    items : iterator
        What to yield; an exception that it raises is raised here, after the items before it.
    count : int
        Items that exist at a time, the one in use included.
    """
    for batch in prefetch_batches(items, 1, count):
        yield from batch


def prefetch_batches(
    items: Iterator[T], size: int, count: int, pause: float | None = None
) -> Generator[list[T], None, None]:
    """Yield the items in order in lists, while a thread produces the next ones.

    Parameters
    ----------
    items : iterator
        As in `prefetch`.
    size : int
        Items of a list; the last one may be shorter.
    count : int
        Items that exist at a time, those in use included.
    pause : float, optional
        Seconds after which a shorter list is yielded when no further item is produced.
    """
    free, stopped = threading.Semaphore(count), threading.Event()
    produced = SimpleQueue[tuple[bool, T | BaseException | None]]()

    def produce() -> None:
        try:
            while free.acquire() and not stopped.is_set():
                produced.put((True, next(items)))
        except StopIteration:
            produced.put((False, None))
        except BaseException as error:
            produced.put((False, error))

    producer = threading.Thread(target=produce, name="prefetch", daemon=True)
    producer.start()
    batch = list[T]()
    last = time.monotonic()
    try:
        while True:
            try:
                is_item, item = produced.get(timeout=_SIGNAL_SECONDS)
            except Empty:
                if not (batch and pause is not None and time.monotonic() - last > pause):
                    continue
            else:
                last = time.monotonic()
                if is_item:
                    batch.append(item)  # type: ignore[arg-type]
                if is_item and len(batch) < size:
                    continue
                if not is_item:
                    if batch:
                        yield batch
                    if isinstance(item, BaseException):
                        raise item
                    return
            yield batch
            free.release(len(batch))
            batch = []
    finally:
        stopped.set()
        free.release()
        producer.join(_JOIN_SECONDS)
