"""One JSON value over a whole file: an array of objects, or a single object written over many lines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from agent.core.errors import InputError
from agent.data.readers.byte_stream import Damaged, Stream
from agent.data.readers.format_detection import extension
from agent.data.readers.lines import REPLACEMENT, decode, note_replaced

_LARGEST = 64 << 20
_REST = "what follows is not read"
_SPACE = re.compile(r"[ \t\r\n]*")


@dataclass(frozen=True, slots=True)
class Element:
    """An element of the array, or the only value, with the line where it begins."""

    line: int
    value: Any
    notes: tuple[str, ...]


def is_document(stream: Stream, file: str) -> bool:
    """Whether a stream is one JSON value, and not a value a line."""
    first = stream.look(lambda head: b"\n" in head.lstrip()).lstrip().partition(b"\n")[0].strip()
    if first == b"{":
        return True
    if not first.startswith(b"["):
        return False
    try:
        value = json.loads(first)
    except (ValueError, RecursionError):
        return True
    return extension(file) == ".json" or (bool(value) and isinstance(value[0], dict))


def read_document(stream: Stream, file: str) -> tuple[list[Element], Damaged | None]:
    """Read a document; unlike lines it is held in memory as a whole, so its size is limited.

    Returns
    -------
    elements
        Those that could be read.
    damage
        Where and why reading had to stop, if it had to.
    """
    data = bytearray()
    damage = None
    try:
        for chunk in stream:
            data += chunk
            if len(data) > _LARGEST:
                size = f"{_LARGEST >> 20} MiB"
                raise InputError(f"is one JSON value of more than {size}: write one object a line (jq -c '.[]')", file)
    except Damaged as broken:
        damage = Damaged(broken.reason, data.count(b"\n") + 1)
    text, replaced = decode(bytes(data))
    elements: list[Element] = []
    try:
        for element in _elements(text, noted=bool(replaced)):
            elements.append(element)
    except json.JSONDecodeError as error:
        damage = damage or Damaged(f"not JSON: {error.msg} at column {error.colno}; {_REST}", error.lineno)
    except (ValueError, RecursionError) as error:
        last = elements[-1].line if elements else 1
        damage = damage or Damaged(f"not JSON that can be read, from here on: {error}; {_REST}", last)
    return elements, damage


def _elements(text: str, *, noted: bool) -> Iterator[Element]:
    decoder = json.JSONDecoder()
    at, line, counted_to = _skip_space(text, 0), 1, 0
    in_array = text.startswith("[", at)
    if in_array:
        at = _skip_space(text, at + 1)
    more = not (in_array and text.startswith("]", at))
    while more:
        value, end = decoder.raw_decode(text, at)
        line, counted_to = line + text.count("\n", counted_to, at), at
        replaced = text.count(REPLACEMENT, at, end) if noted else 0
        yield Element(line, value, note_replaced(replaced, what="NUL or not UTF-8"))
        at = _skip_space(text, end)
        more = in_array and text.startswith(",", at)
        if more:
            at = _skip_space(text, at + 1)
    if in_array and not text.startswith("]", at):
        raise json.JSONDecodeError("Expecting ',' or ']'", text, at)
    rest = _skip_space(text, at + in_array)
    if rest < len(text):
        raise json.JSONDecodeError("Extra data", text, rest)


def _skip_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at
