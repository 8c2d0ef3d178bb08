"""JSON: one object a line (a table's row or a session), or one array of them."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import date, time
from typing import Any

from agent.core.errors import InputError
from agent.core.records import BETWEEN_EVENTS, clean_text
from agent.data.readers.byte_stream import HEAD_BYTES, Stream
from agent.data.readers.columns import default_columns, expand, time_column
from agent.data.readers.json_document import is_document, read_document
from agent.data.readers.lines import RawLine, count_replaced, decode, note_replaced, split_lines
from agent.data.readers.row import ParsedRow, ReadRequest, RowError
from agent.data.readers.values import Cell, to_text, typed

EVENTS = "events"
MAX_EVENTS = 10_000

_IDS = ("id", "session_id")
_LONGEST_LINE = 16 << 20
_KINDS = {list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}


def read_jsonl(stream: Stream, request: ReadRequest) -> Iterator[ParsedRow | RowError]:
    """Each object of the stream, whether there is one a line or all are in one JSON document."""
    if is_document(stream, request.file):
        elements, damage = read_document(stream, request.file)
        _check_columns(request, [element.value for element in elements])
        for element in elements:
            yield parse_object(request, element.line, element.value, element.notes)
        if damage:
            raise damage
        return
    _check_columns_of_lines(stream, request)
    for line in split_lines(stream, _LONGEST_LINE):
        if line.data.strip():
            yield _parse_line(request, line)


def _parse_line(request: ReadRequest, line: RawLine) -> ParsedRow | RowError:
    if line.cut:
        return request.row_error(line.number, f"longer than {_LONGEST_LINE >> 20} MiB")
    text, notes = decode(line.data)
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        return request.row_error(line.number, f"not JSON: {error.msg} at column {error.colno}")
    except ValueError as error:
        return request.row_error(line.number, f"not JSON that can be read: {error}")
    except RecursionError:
        return request.row_error(line.number, "nested too deeply")
    return parse_object(request, line.number, value, notes)


def parse_object(
    request: ReadRequest, line: int, value: Any, notes: tuple[str, ...] = (), *, ids: Collection[str] = _IDS
) -> ParsedRow | RowError:
    """Make a record of a JSON value, or a row of Parquet: a session if it has a list of events, else a table's row.

    Columns named in ``ids`` are part of the text only where ``--text`` names them.
    """
    if isinstance(value, str):
        return request.parse_text(line, value, {}, {}, notes=notes + _note_texts([value]))
    if not isinstance(value, dict):
        return request.row_error(line, f"not a JSON object but {_KINDS.get(type(value), 'null')}")
    events = value.get(EVENTS) if isinstance(value.get(EVENTS), list) else None
    try:
        cells = flatten(value if events is None else {key: item for key, item in value.items() if key != EVENTS})
    except RecursionError:
        return request.row_error(line, "nested too deeply")
    if replaced := _note_texts([*cells, *cells.values(), *(events or ())]):
        notes += replaced
        cells = {clean_text(name): cell for name, cell in cells.items()}
    request = request.restricted_to(cells)
    if events is not None:
        return _parse_session(request, line, events, cells, notes)
    columns = expand(request.text, cells) or default_columns(cells, request.label, ids)
    return request.parse_cells(line, cells, columns, time=time_column(cells), notes=notes)


def _parse_session(
    request: ReadRequest, line: int, events: list[Any], cells: Mapping[str, Cell], notes: tuple[str, ...]
) -> ParsedRow | RowError:
    if not events:
        return request.row_error(line, "a session without events")
    if len(events) > MAX_EVENTS:
        notes = (*notes, f"the first {MAX_EVENTS} of {len(events)} events are kept")
    events = events[:MAX_EVENTS]
    for position, event in enumerate(events, start=1):
        if not isinstance(event, str | int | float):
            return request.row_error(line, f"event {position} of the session is neither a string nor a number")
    texts = tuple(map(to_text, events))
    fields = {name: typed(cells.get(name)) for name in expand(request.text, cells) if name != EVENTS}
    text = BETWEEN_EVENTS.join(texts)
    return request.parse_text(line, text, fields, cells, events=texts, time=time_column(cells), notes=notes)


def _note_texts(values: Iterable[Any]) -> tuple[str, ...]:
    replaced = sum(count_replaced(value) for value in values if isinstance(value, str))
    return note_replaced(replaced, what="NUL or half of a pair")


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Cell]:
    """An object as cells: nested names joined with dots, lists as one string."""
    cells: dict[str, Cell] = {}
    for key, item in value.items():
        if isinstance(item, Mapping):
            cells |= flatten(item, f"{prefix}{key}.")
        else:
            cells[f"{prefix}{key}"] = _to_cell(item)
    return cells


def _to_cell(value: Any) -> Cell:
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, list):
        if all(item is None or isinstance(item, str | int | float) for item in value):
            return ", ".join(map(to_text, value))
        return json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value.isoformat() if isinstance(value, date | time) else str(value)


def _check_columns_of_lines(stream: Stream, request: ReadRequest) -> None:
    """Check the first object, which usually has all columns; keys may vary, so else all that are in view."""
    for enough in (lambda head: b"\n" in head.lstrip(), lambda head: False):
        head = stream.look(enough)
        lines = head.split(b"\n") if stream.complete else head.split(b"\n")[:-1]
        try:
            _check_columns(request, _values(lines))
            return
        except InputError:
            if stream.ended or len(head) >= HEAD_BYTES:
                raise


def _check_columns(request: ReadRequest, values: Iterable[Any]) -> None:
    """Refuse a file none of whose objects has a column that was named."""
    if not request.text and request.label is None:
        return
    known: dict[str, None] = {}
    for value in values:
        if isinstance(value, dict):
            with suppress(RecursionError):
                known |= dict.fromkeys(map(clean_text, flatten(value)))
    if known:
        request.restricted_to(known).text_columns(list(known))


def _values(lines: list[bytes]) -> Iterator[Any]:
    for line in lines:
        with suppress(ValueError, RecursionError):
            yield json.loads(line)
