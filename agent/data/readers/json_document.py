"""JSON that is not one value a line: arrays, envelopes, values back to back or over several lines, in bounded memory.

An envelope is an object that wraps records: CloudTrail's ``Records``, ``items`` of kubectl, ``hits.hits`` of
Elasticsearch, ``events`` and ``logEvents`` of CloudWatch, or, where it is all of its file, an object whose only large
member is a list of objects. Its elements are the records, each with the line where it begins.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from agent.data.readers.byte_stream import Damaged, Stream
from agent.data.readers.json_text import LARGE, JsonText
from agent.data.readers.lines import without_mark

# most characters of a value that is decoded as a whole where it may be an envelope
_SMALL = 1 << 20
_ALWAYS = ("Records", "logEvents")
_NAMES = (*_ALWAYS, "items", "events")
_HITS, _HIT = "hits", "_source"
# what Docker writes for each line
_DOCKER_KEYS, CONTAINER_TEXT, _STREAM = frozenset({"log", "stream", "time", "attrs"}), "log", "stream"
# an object with one of these is a record that has a list, as a session has its events
_IDS = frozenset({"id", "session_id"})
_LEAST_SHARE = 0.5
_DECODER = json.JSONDecoder()
_BETWEEN = re.compile(r"[ \t\r\n,\x1e\ufeff]*")
_SPACE = re.compile(r"[ \t\r\n]*")
_NEXT_VALUE = re.compile(r"\n[ \t\x1e\ufeff]*(?=\{|\[\s*[\[{\]])")
_NUMBER = r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?"
_WORDS = rf"(?:{_NUMBER}|true|false|null)"
# text that may stand before or between values begins otherwise
_VALUE = re.compile(rf'[{{"]|\[\s*(?:[\[{{"\]]|{_WORDS}\s*[,\]])|{_WORDS}[ \t]*(?:[\r\n,]|\Z)')


@dataclass(frozen=True, slots=True)
class Element:
    """A record's value with the line where it begins; ``problem`` says why it has none, ``stops`` that none follows."""

    line: int
    value: Any
    notes: tuple[str, ...] = ()
    problem: str | None = None
    stops: bool = False


class _Broken(Exception):
    """An array or an object goes on in a form that is not JSON."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line, self.reason = line, reason


def is_value_a_line(stream: Stream) -> bool:
    """Whether the first line, of several, is a JSON value."""
    head = stream.look(lambda head: head.lstrip().partition(b"\n")[2].strip() != b"").lstrip()
    first, _, rest = head.partition(b"\n")
    if not rest.strip():
        return False
    try:
        return not isinstance(json.loads(without_mark(first)), list)
    except (ValueError, RecursionError):
        return False


def envelope(value: Any, columns: Collection[str], *, alone: bool) -> tuple[str, list[Any]] | None:
    """The name and the list of the records that an object wraps; ``None`` if it is a record itself.

    Parameters
    ----------
    value
    columns
        Columns of records, such as the label's: an object that has one is a record.
    alone
        Whether it is all of its file.
    """
    if not isinstance(value, dict) or any(name in value for name in columns):
        return None
    hits = value.get(_HITS)
    if isinstance(hits, dict) and _are_objects(hits.get(_HITS)):
        return _HITS, hits[_HITS]
    lists = {name: item for name, item in value.items() if _are_objects(item)}
    for name in _NAMES:
        if name in lists and _wraps(value, name, alone=alone):
            return name, lists[name]
    if not alone or _IDS & value.keys():
        return None
    for name, item in value.items():
        if (item and name in lists) or isinstance(item, dict):
            found = (name, lists[name]) if name in lists else envelope(item, columns, alone=True)
            if found and _size(found[1]) >= _LEAST_SHARE * _size(value):
                return found
    return None


def _are_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _size(value: Any) -> int:
    return len(json.dumps(value))


def _wraps(value: dict[str, Any], name: str, *, alone: bool) -> bool:
    """Whether the list of objects with that name is what the object is for, and not a part of a record."""
    is_kubectl = "kind" in value and "apiVersion" in value
    if not value[name]:
        others = any(item for key, item in value.items() if key != name)
        return (name == "items" and is_kubectl) or ((alone or name in _ALWAYS) and not others)
    if name == "items":
        return len(value) == 1 or is_kubectl
    return name != "events" or not _IDS & value.keys()


def records(value: Any, columns: Collection[str]) -> list[Any]:
    """The records in a value that is not all of its file."""
    found = envelope(value, columns, alone=False)
    return [value] if found is None else [_unwrapped(found[0], item) for item in found[1]]


def values_of(line: str) -> list[Any]:
    """The values that stand one after the other on a line; none if anything else is there as well."""
    values, at = list[Any](), 0
    while at < len(line):
        between = _BETWEEN.match(line, at)
        at = between.end() if between else at
        if at < len(line):
            try:
                value, at = _DECODER.raw_decode(line, at)
            except (ValueError, RecursionError):
                return []
            values.append(value)
    return values


def joined_parts(elements: Iterable[Element]) -> Iterator[Element]:
    """The elements; the parts into which Docker cuts a long line of a container's log are one."""
    parts, size = list[Element](), 0
    for element in elements:
        is_part = is_container_line(element.value)
        is_rest = is_part and bool(parts) and element.value.get(_STREAM) == parts[0].value.get(_STREAM)
        if parts and not is_rest:
            yield _as_one(parts)
            parts, size = [], 0
        if not is_part:
            yield element
            continue
        parts.append(element)
        size += len(element.value[CONTAINER_TEXT])
        if element.value[CONTAINER_TEXT].endswith("\n") or size > _SMALL:
            yield _as_one(parts)
            parts, size = [], 0
    if parts:
        yield _as_one(parts)


def is_container_line(value: Any) -> bool:
    """Whether a value is a line of a container's log, as Docker's driver ``json-file`` writes it."""
    return isinstance(value, Mapping) and value.keys() <= _DOCKER_KEYS and isinstance(value.get(CONTAINER_TEXT), str)


def _as_one(parts: list[Element]) -> Element:
    if len(parts) == 1:
        return parts[0]
    text = "".join(part.value[CONTAINER_TEXT] for part in parts)
    notes = tuple(dict.fromkeys(note for part in parts for note in part.notes))
    return replace(parts[0], value={**parts[0].value, CONTAINER_TEXT: text}, notes=notes)


def _unwrapped(name: str, item: Any) -> Any:
    """The record in an element of the list with that name."""
    source = item.get(_HIT) if name == _HITS and isinstance(item, dict) else None
    return source if isinstance(source, dict) else item


def read_values(stream: Stream, columns: Collection[str]) -> Iterator[Element]:
    """The values of a stream, those in arrays and envelopes one by one.

    What is not JSON between two values is skipped and is a `problem`, unless it comes before the first; where an array
    or an envelope is broken, reading stops, and the last `problem` says how much is not read.

    Raises
    ------
    Damaged
        The stream is damaged: after what could be read before.
    """
    text = JsonText(stream)
    banner: tuple[str, ...] = ()
    text.skip(_BETWEEN)
    first, is_first = text.line, True
    while not text.at_end:
        line = text.line
        try:
            if not _VALUE.match(text.text, text.position):
                raise json.JSONDecodeError("Extra data", text.text, text.position)
            for element in _values(text, columns, is_first=is_first):
                yield replace(element, notes=banner + element.notes) if banner else element
                banner = ()
            is_first = False
        except _Broken as broken:
            if text.damage is None:
                problem = f"{broken.reason}; what follows is not read: {text.unread()}"
                yield Element(broken.line, None, problem=problem, stops=True)
            break
        except (ValueError, RecursionError) as error:
            if text.damage is not None and text.is_near_end(error):
                break
            place, reason = text.describe(error)
            is_banner = line == first and text.next not in "{["
            text.skip_to(_NEXT_VALUE)
            if not is_banner or text.at_end:
                yield Element(place, None, problem=reason)
            elif not banner:
                banner = (f"what stands before the first JSON value is not read ({text.line - line} lines)",)
        text.skip(_BETWEEN)
    if text.damage is not None:
        raise Damaged(text.damage.reason, text.line)


def _values(text: JsonText, columns: Collection[str], *, is_first: bool) -> Iterator[Element]:
    """The next value, or the elements of the next array or envelope."""
    line = text.line
    if text.next == "[":
        yield from _array(text, columns, "")
        return
    value = text.value(_SMALL if text.next == "{" else None)
    if value is LARGE:
        yield from _members(text, columns, line)
        return
    notes, source = text.notes(), text.last
    if any(isinstance(item, list | dict) for item in value.values()) if isinstance(value, dict) else False:
        text.skip(_BETWEEN)
        if found := envelope(value, columns, alone=is_first and text.at_end):
            yield from _elements(*found, line, source, notes)
            return
    yield Element(line, value, notes)


def _elements(name: str, items: list[Any], line: int, source: str, notes: tuple[str, ...]) -> Iterator[Element]:
    """The elements of a list with that name in ``source``, which begins on that line."""
    for offset, item in zip(_lines(source, name, items), items, strict=True):
        for record in records(_unwrapped(name, item), ()):
            yield Element(line + offset, record, notes)


def _lines(source: str, name: str, items: list[Any]) -> list[int]:
    """How many lines after the beginning of an object each element of its list begins."""
    for start in re.finditer(rf"{re.escape(json.dumps(name))}\s*:\s*\[\s*", source):
        at, counted, line, lines = start.end(), 0, 0, list[int]()
        for item in items:
            try:
                found, end = _DECODER.raw_decode(source, at)
            except ValueError:
                break
            if found != item:
                break
            line, counted = line + source.count("\n", counted, at), at
            lines.append(line)
            between = _BETWEEN.match(source, end)
            at = between.end() if between else end
        if len(lines) == len(items):
            return lines
    return [0] * len(items)


def _array(text: JsonText, columns: Collection[str], name: str) -> Iterator[Element]:
    """The elements of the array at the position, the envelopes among them opened."""
    text.position += 1
    text.skip(_SPACE)
    while text.next != "]":
        line = text.line
        value = _decoded(text)
        notes = text.notes()
        for item in records(_unwrapped(name, value), columns):
            yield Element(line, item, notes)
        _skip_separator(text, "]")
    text.position += 1


def _members(text: JsonText, columns: Collection[str], line: int) -> Iterator[Element]:
    """The elements of the large lists of the object at the position, or the object if it has none."""
    members: dict[str, Any] = {}
    sources: dict[str, tuple[int, str]] = {}
    is_envelope = False
    for name in _names(text):
        start = text.line
        is_record = any(column in members for column in columns)
        value = LARGE if is_record else _decoded(text, _SMALL)
        if value is LARGE and not is_record and text.starts_with_object():
            is_envelope = True
            yield from _array(text, columns, name) if text.next == "[" else _members(text, columns, text.line)
            continue
        members[name] = _decoded(text) if value is LARGE else value
        sources[name] = start, f"{json.dumps(name)}:{text.last}"
    if is_envelope:
        return
    if found := envelope(members, columns, alone=line == 1):
        inner = (source for source in sources.values() if json.dumps(found[0]) in source[1])
        yield from _elements(*found, *sources.get(found[0], next(inner, (line, ""))), text.notes())
    else:
        yield Element(line, members, text.notes())


def _names(text: JsonText) -> Iterator[str]:
    """The names of the members of the object at the position, each with the text at its value."""
    text.position += 1
    text.skip(_SPACE)
    while text.next != "}":
        if text.next != '"':
            raise _Broken(text.line, f"not JSON: Expecting a name or '}}'{_column(text)}")
        name = _decoded(text)
        text.skip(_SPACE)
        if text.next != ":":
            raise _Broken(text.line, f"not JSON: Expecting ':'{_column(text)}")
        text.position += 1
        text.skip(_SPACE)
        yield name
        _skip_separator(text, "}")
    text.position += 1


def _skip_separator(text: JsonText, end: str) -> None:
    """Skip the comma after an element or a member, if ``end`` does not follow it."""
    text.skip(_SPACE)
    if text.next == ",":
        text.position += 1
        text.skip(_SPACE)
    elif text.next != end:
        raise _Broken(text.line, f"not JSON: Expecting ',' or '{end}'{_column(text)}")


def _decoded(text: JsonText, small: int | None = None) -> Any:
    try:
        return text.value(small)
    except (ValueError, RecursionError) as error:
        raise _Broken(*text.describe(error)) from error


def _column(text: JsonText) -> str:
    return f" at column {text.position - text.text.rfind(chr(10), 0, text.position)}"
