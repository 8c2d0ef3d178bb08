"""JSON: each object is a table's row or a session."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import date, time
from itertools import chain
from typing import Any

from agent.core.errors import InputError
from agent.core.records import BETWEEN_EVENTS, clean_text
from agent.data.readers.byte_stream import Stream
from agent.data.readers.columns import default_columns, expand, time_column
from agent.data.readers.json_document import (
    Element,
    is_value_a_line,
    joined_parts,
    read_values,
    records,
    values_of,
)
from agent.data.readers.lines import RawLine, count_replaced, decode, note_replaced, split_lines, without_mark
from agent.data.readers.log_objects import LogObject, is_of_journal, log_object, time_of
from agent.data.readers.row import ParsedRow, ReadRequest, RowError
from agent.data.readers.values import Cell, to_text

EVENTS = "events"
MAX_EVENTS = 10_000

IDS = ("id", "session_id")
_LONGEST_LINE = 16 << 20
# objects of which one must have the columns that are named
CHECKED = 1_000
_MESSAGE = "MESSAGE"
# the time of a line of a log, which may be named otherwise in the object
_TIME = "time"
_KINDS = {list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}


def read_jsonl(stream: Stream, request: ReadRequest) -> Iterator[ParsedRow | RowError]:
    """Each record of the stream: one value a line, or as `agent.data.readers.json_document` finds them."""
    elements, request = read_elements(stream, request)
    yield from request.noting(rows_of_elements(elements, request))


def read_elements(stream: Stream, request: ReadRequest) -> tuple[Iterator[Element], ReadRequest]:
    """The elements of `read_jsonl`, and the request for a file with these."""
    columns = columns_of_records(request)
    found = lines_to_elements(stream, columns) if is_value_a_line(stream) else read_values(stream, columns)
    elements, request = checked(found, request)
    if (first := next(elements, None)) is None:
        return elements, request
    if (of_log := as_log_object(first.value, request)) is not None:
        request = replace(request, notes=(*request.notes, of_log.note))
    return chain([first], elements), request


def note_on_log_objects(head: bytes, request: ReadRequest) -> str | None:
    """How lines of a log that a stream holds as JSON are read, in words; None where it holds something else."""
    try:
        found = log_object(json.loads(head.partition(b"\n")[0]))
    except (ValueError, RecursionError):
        return None
    return found.note if found and _is_read_so(found, request) else None


def columns_of_records(request: ReadRequest) -> frozenset[str]:
    """Names that show that an object is a record, and no wrapper of several."""
    return frozenset(name for name in (request.label, *request.text) if name)


def rows_of_elements(
    elements: Iterator[Element], request: ReadRequest, named: set[str] | None = None
) -> Iterator[ParsedRow | RowError]:
    """The rows of elements; ``named``: names of what is not read beside events, which notes before these have."""
    named = set() if named is None else named
    for element in joined_parts(elements):
        if element.problem is not None:
            yield request.row_error(element.line, element.problem, stops=element.stops)
            continue
        notes = (*element.notes, *note_beside_events(element.value, request, named))
        yield parse_object(request, element.line, element.value, notes)


def note_beside_events(value: Any, request: ReadRequest, named: set[str]) -> tuple[str, ...]:
    """The note on what a session has beside its events that makes no part of the record, but its label, time, ids.

    ``named``: names that are noted already, to which these are added.
    """
    if not isinstance(value, dict) or not isinstance(value.get(EVENTS), list):
        return ()
    names = default_columns(value, request.label, request.table.excluded((*IDS, EVENTS)))
    unread = set(map(clean_text, names)) - set(expand(request.text, tuple(value))) - named
    named |= unread
    listed = ", ".join(sorted(map(repr, unread)))
    verb = "is" if len(unread) == 1 else "are"
    return (f"beside the events of a session {listed} {verb} not read",) if unread else ()


def lines_to_elements(stream: Stream, columns: Collection[str], number: int = 1) -> Iterator[Element]:
    """The elements of lines that each hold a value, of which the first has that number."""
    for line in split_lines(stream, _LONGEST_LINE, number=number):
        if line.data.strip():
            yield from _of_line(line, columns)


def _of_line(line: RawLine, columns: Collection[str]) -> Iterator[Element]:
    if line.cut:
        yield Element(line.number, None, problem=f"longer than {_LONGEST_LINE >> 20} MiB")
        return
    text, notes = decode(without_mark(line.data))
    try:
        values = [json.loads(text)]
    except json.JSONDecodeError as error:
        values = values_of(text)
        if not values:
            yield Element(
                line.number, None, problem=f"not JSON: {error.msg.removesuffix(' at')} at column {error.colno}"
            )
    except ValueError as error:
        yield Element(line.number, None, problem=f"not JSON that can be read: {error}")
        return
    except RecursionError:
        yield Element(line.number, None, problem="nested too deeply")
        return
    for value in values:
        for item in records(value, columns):
            yield Element(line.number, item, notes)


def parse_object(
    request: ReadRequest, line: int, value: Any, notes: tuple[str, ...] = (), *, ids: Collection[str] = IDS
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
    cells = request.with_learned_names(cells)
    request = request.restricted_to(cells)
    if events is not None:
        return _parse_session(request, line, events, cells, notes)
    columns = request.columns_of(tuple(cells), request.table.excluded(ids))
    of_log = as_log_object(value, request)
    if of_log is not None and not request.has_learned(columns):
        cells = {**cells, of_log.text: to_text(cells[of_log.text]).rstrip("\r\n"), _TIME: time_of(of_log, cells)}
        row = request.parse_cells(line, cells, [of_log.text], time=_TIME, notes=notes)
        # as of the log itself, whose text is no column
        return row if isinstance(row, RowError) else replace(row, text_column=None, beside=())
    text = request.table.text_column
    if text is not None and text not in columns and len(columns) > 1:
        return request.row_error(line, f"has no {text!r}, which holds the text")
    return request.parse_cells(line, cells, columns, time=time_column(cells), notes=notes)


def as_log_object(value: Any, request: ReadRequest) -> LogObject | None:
    """What is known of an object that is a line of a log whose text is to be read."""
    found = log_object(value)
    return found if found is not None and _is_read_so(found, request.restricted_to(value)) else None


def _is_read_so(found: LogObject, request: ReadRequest) -> bool:
    return not request.text and request.label != found.text


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
    fields = {name: request.typed(name, cells.get(name)) for name in expand(request.text, cells) if name != EVENTS}
    text = BETWEEN_EVENTS.join(texts)
    return request.parse_text(line, text, fields, cells, events=texts, time=time_column(cells), notes=notes)


def _note_texts(values: Iterable[Any]) -> tuple[str, ...]:
    replaced = sum(count_replaced(value) for value in values if isinstance(value, str))
    return note_replaced(replaced, reason="NUL or half of a pair")


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Cell]:
    """An object as cells: nested names joined with dots, lists as one string."""
    cells: dict[str, Cell] = {}
    is_journal = is_of_journal(value)
    for key, item in value.items():
        if isinstance(item, Mapping):
            cells |= flatten(item, f"{prefix}{key}.")
        elif isinstance(item, list) and (is_journal or key == _MESSAGE) and _are_bytes(item):
            cells[f"{prefix}{key}"] = bytes(item).decode("utf-8", "replace")
        else:
            cells[f"{prefix}{key}"] = to_cell(item)
    return cells


def _are_bytes(items: list[Any]) -> bool:
    """Whether a list is a text that systemd's journal has written as the values of its bytes."""
    return bool(items) and all(type(item) is int and 0 <= item <= 255 for item in items)


def to_cell(value: Any) -> Cell:
    """A value of JSON or Parquet as a cell."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, list):
        if all(item is None or isinstance(item, str | int | float) for item in value):
            return ", ".join(map(to_text, value))
        return json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value.isoformat() if isinstance(value, date | time) else str(value)


def checked(elements: Iterator[Element], request: ReadRequest) -> tuple[Iterator[Element], ReadRequest]:
    """The elements, and the request for a file with these, see `ReadRequest.matched`.

    Raises
    ------
    InputError
        None of the first objects has a column that was named.
    """
    if not request.text and request.label is None and not request.table.columns:
        return elements, request
    first, known = list[Element](), dict[str, None]()
    for element in elements:
        first.append(element)
        if isinstance(element.value, dict):
            with suppress(RecursionError):
                known |= dict.fromkeys(map(clean_text, flatten(element.value)))
        # a log's lines have no columns to match
        of_log = as_log_object(element.value, request)
        is_log = of_log is not None and of_log.text not in request.table.names
        try:
            return chain(first, elements), _check_columns(request, list(known), match=not is_log)
        except InputError:
            if len(first) == CHECKED:
                raise
    return chain(first, elements), _check_columns(request, list(known))


def _check_columns(request: ReadRequest, known: list[str], *, match: bool = True) -> ReadRequest:
    if known:
        matched = request.matched(known, ids=IDS) if match else request
        names = list(matched.with_learned_names(dict.fromkeys(known)))
        matched.restricted_to(names).check_columns(names)
        return matched
    return request
