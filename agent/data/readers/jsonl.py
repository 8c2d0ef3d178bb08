"""JSON: one object a line (a table's row or a session), or one array of them."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import date, time
from typing import Any

from agent.core.errors import InputError
from agent.core.records import BETWEEN_EVENTS
from agent.data.readers.byte_stream import HEAD_BYTES, Stream
from agent.data.readers.columns import default_columns, expand, time_of
from agent.data.readers.json_document import Document, is_document
from agent.data.readers.lines import counted, decode, split_lines
from agent.data.readers.row import ParsedRow, ReadRequest, RowError
from agent.data.readers.values import Cell, shown, storable, typed

EVENTS = "events"
MAX_EVENTS = 10_000

_IDS = ("id", "session_id")
_LONGEST_LINE = 16 << 20
_KINDS = {list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}


def read_objects(stream: Stream, request: ReadRequest) -> Iterator[ParsedRow | RowError]:
    """Each object of the stream, whether it is one a line or all are in one JSON document."""
    if is_document(stream, request.file):
        yield from _read_document(stream, request)
        return
    _require_columns_of_lines(stream, request)
    for raw in split_lines(stream, _LONGEST_LINE):
        if not raw.data.strip():
            continue
        if raw.cut:
            yield request.unreadable(raw.number, f"longer than {_LONGEST_LINE >> 20} MiB")
            continue
        text, notes = decode(raw.data)
        try:
            value = json.loads(text)
        except json.JSONDecodeError as error:
            yield request.unreadable(raw.number, f"not JSON: {error.msg} at column {error.colno}")
        except ValueError as error:
            yield request.unreadable(raw.number, f"not JSON that can be read: {error}")
        except RecursionError:
            yield request.unreadable(raw.number, "nested too deeply")
        else:
            yield object_reading(request, raw.number, value, notes)


def object_reading(
    request: ReadRequest,
    line: int,
    value: Any,
    notes: tuple[str, ...] = (),
    *,
    not_text: Collection[str] = _IDS,
) -> ParsedRow | RowError:
    """What a JSON value, or a row of Parquet, says: a session if it has a list of events, else a table's row.

    Without ``--text``, the columns ``not_text`` are no part of the text.
    """
    if isinstance(value, str):
        text, replaced = storable(value)
        return request.reading(line, text, fields={}, label_cell=None, notes=notes + _replaced(replaced))
    if not isinstance(value, dict):
        return request.unreadable(line, f"not a JSON object but {_KINDS.get(type(value), 'null')}")
    events = value.get(EVENTS)
    if not isinstance(events, list):
        events = None
    try:
        cells, replaced = flat({key: each for key, each in value.items() if key != EVENTS or events is None})
    except RecursionError:
        return request.unreadable(line, "nested too deeply")
    notes += _replaced(replaced)
    request = request.fitting(cells)
    if events is not None:
        return _session(request, line, events, cells, notes)
    columns = expand(request.text, cells) or default_columns(cells, request.label, not_text)
    return request.row(line, cells, columns, time=time_of(cells), notes=notes)


def _session(
    request: ReadRequest, line: int, events: list[Any], cells: Mapping[str, Cell], notes: tuple[str, ...]
) -> ParsedRow | RowError:
    said: list[str] = []
    replaced = 0
    for position, event in enumerate(events[:MAX_EVENTS], start=1):
        if not isinstance(event, str | int | float):
            return request.unreadable(line, f"event {position} of the session is neither a string nor a number")
        text, count = storable(shown(event))
        replaced += count
        said.append(text)
    if not said:
        return request.unreadable(line, "a session without events")
    if len(events) > MAX_EVENTS:
        notes = (*notes, f"the first {MAX_EVENTS} of {len(events)} events are kept")
    asked = [name for name in expand(request.text, cells) if name != EVENTS]
    time_name = time_of(cells)
    return request.reading(
        line,
        BETWEEN_EVENTS.join(said),
        events=tuple(said),
        fields={name: typed(cells.get(name)) for name in asked},
        time=None if time_name is None else shown(cells[time_name]) or None,
        label_cell=None if request.label is None else cells.get(request.label),
        notes=notes + _replaced(replaced),
    )


def _replaced(number: int) -> tuple[str, ...]:
    return (counted(number, "character", "NUL or half of a pair"),) if number else ()


def flat(value: Mapping[str, Any], prefix: str = "") -> tuple[dict[str, Cell], int]:
    """An object as cells: nested names with dots, lists as one string; and how many characters were replaced."""
    cells: dict[str, Cell] = {}
    replaced = 0
    for key, each in value.items():
        name, count = storable(prefix + str(key))
        if isinstance(each, Mapping):
            inner, inner_count = flat(each, f"{name}.")
            cells |= inner
            replaced += count + inner_count
            continue
        if isinstance(each, list):
            each = _joined(each)
        elif isinstance(each, date | time):
            each = each.isoformat()
        elif each is not None and not isinstance(each, str | int | float):
            each = each.decode("utf-8", "replace") if isinstance(each, bytes) else str(each)
        if isinstance(each, str):
            each, text_count = storable(each)
            count += text_count
        replaced += count
        cells[name] = each
    return cells, replaced


def _joined(values: list[Any]) -> str:
    if all(value is None or isinstance(value, str | int | float) for value in values):
        return ", ".join(shown(value) for value in values)
    return json.dumps(values, ensure_ascii=False, default=str)


def _read_document(stream: Stream, request: ReadRequest) -> Iterator[ParsedRow | RowError]:
    document = Document.of(stream, request.file)
    _require_columns(request, [element.value for element in document.elements])
    for element in document.elements:
        yield object_reading(request, element.line, element.value, element.notes)
    if document.problem:
        yield request.unreadable(*document.problem)


def _require_columns_of_lines(stream: Stream, request: ReadRequest) -> None:
    """Look at the first object, which usually has all columns; keys may vary, so else at all that are in view."""
    for enough in (lambda head: b"\n" in head.lstrip(), lambda head: False):
        head = stream.look(enough)
        lines = head.split(b"\n") if stream.complete else head.split(b"\n")[:-1]
        try:
            _require_columns(request, _values(lines))
        except InputError:
            if stream.ended or len(head) >= HEAD_BYTES:
                raise
        else:
            return


def _require_columns(request: ReadRequest, values: Iterable[Any]) -> None:
    """Refuse a file none of whose objects has a column that was asked for."""
    if not request.text and request.label is None:
        return
    known: dict[str, None] = {}
    for value in values:
        if isinstance(value, dict):
            with suppress(RecursionError):
                known |= dict.fromkeys(flat(value)[0])
    if known:
        request.fitting(known).columns(list(known))


def _values(lines: list[bytes]) -> Iterator[Any]:
    for line in lines:
        with suppress(ValueError, RecursionError):
            yield json.loads(line)
