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
from agent.data.readers.lines import REPLACEMENT, counted, decode

_LARGEST = 64 << 20
_REST = "what follows is not read"
_SPACE = re.compile(r"[ \t\r\n]*")


@dataclass(frozen=True, slots=True)
class Element:
    line: int
    value: Any
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """The elements that could be read, and the line and the reason where reading had to stop."""

    elements: list[Element]
    problem: tuple[int, str] | None

    @classmethod
    def of(cls, stream: Stream, file: str) -> Document:
        """Read a document; unlike lines it is held in memory as a whole, so its size is limited."""
        data = bytearray()
        problem: tuple[int, str] | None = None
        try:
            for chunk in stream:
                data += chunk
                if len(data) > _LARGEST:
                    raise InputError(
                        f"is one JSON value of more than {_LARGEST >> 20} MiB: write one object a line (jq -c '.[]')",
                        file,
                    )
        except Damaged as damage:
            problem = data.count(b"\n") + 1, damage.reason
        text, replaced = decode(bytes(data))
        elements: list[Element] = []
        try:
            for element in _elements(text, noted=bool(replaced)):
                elements.append(element)
        except json.JSONDecodeError as error:
            problem = problem or (error.lineno, f"not JSON: {error.msg} at column {error.colno}; {_REST}")
        except (ValueError, RecursionError) as error:
            after = elements[-1].line if elements else 1
            problem = problem or (after, f"not JSON that can be read, from here on: {error}; {_REST}")
        return cls(elements, problem)


def is_document(stream: Stream, file: str) -> bool:
    """Whether a stream is one JSON value, and not a value a line."""
    head = stream.look(lambda seen: b"\n" in seen.lstrip()).lstrip()
    first = head.partition(b"\n")[0].strip()
    if first == b"{":
        return True
    if not first.startswith(b"["):
        return False
    try:
        value = json.loads(first)
    except (ValueError, RecursionError):
        return True
    return extension(file) == ".json" or (bool(value) and isinstance(value[0], dict))


def _elements(text: str, *, noted: bool) -> Iterator[Element]:
    """The elements of an array, or the one value that is the document, each with the line where it begins."""
    decoder = json.JSONDecoder()
    at, line, counted_to = _after_space(text, 0), 1, 0
    in_array = text.startswith("[", at)
    if in_array:
        at = _after_space(text, at + 1)
    more = not (in_array and text.startswith("]", at))
    while more:
        value, end = decoder.raw_decode(text, at)
        line, counted_to = line + text.count("\n", counted_to, at), at
        replaced = text.count(REPLACEMENT, at, end) if noted else 0
        yield Element(line, value, (counted(replaced, "character", "NUL or not UTF-8"),) if replaced else ())
        at = _after_space(text, end)
        more = in_array and text.startswith(",", at)
        if more:
            at = _after_space(text, at + 1)
    if in_array and not text.startswith("]", at):
        raise json.JSONDecodeError("Expecting ',' or ']'", text, at)
    rest = _after_space(text, at + in_array)
    if rest < len(text):
        raise json.JSONDecodeError("Extra data", text, rest)


def _after_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at
