"""Whether SQLite's log of changes (the file ``-wal``) is damaged.

SQLite takes a damaged frame for the end of the log: changes after it, though committed, are left out in silence. What a
machine without power left half written looks the same, but nothing comes after it.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_HEADER, _FRAME_HEADER = 32, 24
_LITTLE, _BIG = 0x377F0682, 0x377F0683
_MASK = 0xFFFFFFFF
Words = NDArray[np.uint32]


def damage_of_log(log: Path) -> tuple[str, bool] | None:
    """What is damaged in a log, and whether committed changes come after it; None if nothing is, or without a log."""
    try:
        content = log.read_bytes()
    except FileNotFoundError:
        return None
    if len(content) < _HEADER:
        return ("it is cut off", False) if content else None
    magic, _, page_size, _, salt, other_salt, first, second = struct.unpack(">8I", content[:_HEADER])
    frame_size = page_size + _FRAME_HEADER
    order = {_LITTLE: "<u4", _BIG: ">u4"}.get(magic)
    if order is None or not 512 <= page_size <= 65_536 or _sum(content[:24], order, (0, 0)) != (first, second):
        return "its header", len(content) > _HEADER
    count = (len(content) - _HEADER) // frame_size
    frames = np.frombuffer(content, np.uint8, count * frame_size, _HEADER).reshape(count, frame_size)
    headers = np.ascontiguousarray(frames[:, :_FRAME_HEADER]).view(">u4").astype(np.int64)
    current = (headers[:, 2] == salt) & (headers[:, 3] == other_salt)
    summed = np.ascontiguousarray(np.hstack([frames[:, :8], frames[:, _FRAME_HEADER:]])).view(order).astype(np.uint32)
    power, shares = _shares(summed)
    state = (first, second)
    for place in range(count):
        state = _advance(power, state, shares[place])
        if not current[place] or state != (headers[place, 4], headers[place, 5]):
            # frames of an earlier round of the log follow the last one, and have other salts
            later = current[place + 1 :] & (headers[place + 1 :, 1] != 0)
            if not current[place] and not current[place + 1 :].any():
                return None
            return f"frame {place + 1} of {count}", bool(later.any())
    return ("its last frame is cut off", False) if (len(content) - _HEADER) % frame_size else None


def _sum(content: bytes, order: str, start: tuple[int, int]) -> tuple[int, int]:
    first, second = start
    words = np.frombuffer(content, order).tolist()
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & _MASK
        second = (second + odd + first) & _MASK
    return first, second


def _shares(words: Words) -> tuple[list[int], list[tuple[int, int]]]:
    """The matrix by which a frame's words advance a checksum, and what each frame, shape (n, words), adds to it.

    A pair of words (a, b) makes of (x, y) the sums (x + y + a, x + 2y + a + b), modulo 2**32.
    """
    pairs = words.shape[1] // 2
    # the powers of that matrix, from the first pair, which is multiplied most often, to the last
    powers = np.zeros((pairs, 4), np.uint32)
    a, b, c, d = 1, 0, 0, 1
    for place in range(pairs - 1, -1, -1):
        powers[place] = a, b, c, d
        a, b, c, d = (a + b) & _MASK, (a + 2 * b) & _MASK, (c + d) & _MASK, (c + 2 * d) & _MASK
    even, both = words[:, ::2], words[:, ::2] + words[:, 1::2]
    first = (even * powers[:, 0] + both * powers[:, 1]).sum(axis=1, dtype=np.uint32)
    second = (even * powers[:, 2] + both * powers[:, 3]).sum(axis=1, dtype=np.uint32)
    return [a, b, c, d], list(zip(first.tolist(), second.tolist(), strict=True))


def _advance(power: list[int], state: tuple[int, int], share: tuple[int, int]) -> tuple[int, int]:
    (a, b, c, d), (x, y) = power, state
    return (a * x + b * y + share[0]) & _MASK, (c * x + d * y + share[1]) & _MASK
