"""A stream of bytes as blocks of whole lines."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TypeVar

from agent.data.readers.byte_stream import Damaged, Stream

SIZE = 8 << 20


@dataclass(frozen=True)
class Chunk:
    """``lines`` whole lines with their ends. ``first``: the first one's number; ``end``: where they end, in bytes."""

    data: bytes
    lines: int
    first: int
    end: int


def read_chunks(stream: Stream, *, start: int = 0, line: int = 1, size: int = SIZE) -> Iterator[Chunk]:
    """Blocks of at least ``size`` bytes, but for the last; from byte ``start`` on, where line number ``line`` begins.

    A last line that damage cut off is not given.

    Raises:
        Damaged: as the stream; what came before was given.
    """
    held, kept, skipped = list[bytes](), 0, 0
    damage: Damaged | None = None
    chunks = iter(stream)
    while True:
        try:
            chunk = next(chunks, b"")
        except Damaged as broken:
            damage, chunk = broken, b""
        ended = not chunk
        if skipped < start:
            skipped += len(chunk)
            chunk = chunk[len(chunk) - (skipped - start) :] if skipped > start else b""
        held.append(chunk)
        kept += len(chunk)
        if not ended and (kept < size or b"\n" not in chunk):
            continue
        data = b"".join(held)
        cut = len(data) if ended and not damage else data.rfind(b"\n") + 1
        whole, rest = data[:cut], data[cut:]
        if whole:
            start += len(whole)
            skipped = max(skipped, start)
            whole = whole if whole.endswith(b"\n") else whole + b"\n"
            count = whole.count(b"\n")
            yield Chunk(whole, count, line, start)
            line += count
        if ended:
            if damage:
                raise Damaged(damage.reason, line) from damage
            return
        held, kept = [rest], len(rest)


T = TypeVar("T")
# a reader that waits for a pipe to say more is not waited for; waiting without end would not end by a signal
_LEAVING_SECONDS, _SIGNAL_SECONDS = 1.0, 0.2


def prefetch(items: Iterator[T], count: int) -> Generator[T, None, None]:
    """The items, in order, made in a thread; at most ``count`` are there at a time, the one in use among them.

    Raises:
        Exception: what making one raised, after those before it.
    """
    room, made, left = (
        threading.Semaphore(count),
        SimpleQueue[tuple[bool, T | BaseException | None]](),
        threading.Event(),
    )

    def make() -> None:
        try:
            while room.acquire() and not left.is_set():
                made.put((True, next(items)))
        except StopIteration:
            made.put((False, None))
        except BaseException as error:
            made.put((False, error))

    maker = threading.Thread(target=make, name="ahead", daemon=True)
    maker.start()
    try:
        while True:
            try:
                there, item = made.get(timeout=_SIGNAL_SECONDS)
            except Empty:
                continue
            if not there:
                if isinstance(item, BaseException):
                    raise item
                return
            yield item  # type: ignore[misc]
            room.release()
    finally:
        left.set()
        room.release()
        maker.join(_LEAVING_SECONDS)
