"""JSON lines by the block: objects of the same keys with plain values; others as `agent.data.readers.jsonl` does."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic_core import from_json

from agent.core.errors import InputError
from agent.data.chunks import read_chunks
from agent.data.readers.byte_stream import Damaged, Stream
from agent.data.readers.columns import time_column
from agent.data.readers.json_document import Element, is_value_a_line
from agent.data.readers.jsonl import (
    EVENTS,
    IDS,
    as_log_object,
    checked,
    columns_of_records,
    lines_to_elements,
    note_beside_events,
    read_elements,
    read_jsonl,
    rows_of_elements,
)
from agent.data.readers.row import ReadRequest
from agent.data.record_parts import Items, RecordPart, in_lists, mixed, noted
from agent.data.session_rows import SessionRows, is_session, session_rows
from agent.data.table_block import TableBlock
from retrieval.text.template_hash import joined

# bytes of a block
_SIZE = 4 << 20
# beside NUL what is removed from texts, white space that only Python knows, and marks of byte order
_CHANGED = re.compile(rb"[\0\r\x1b-\x1f]|\xef\xbb\xbf")
# the same as JSON spells them; lines that may be parts of one
_IRREGULAR = re.compile(rb"\\u(?:00(?:00|1[b-f])|d[89a-f]|feff)", re.IGNORECASE)
_PART, _LOG = b'"log"', "log"
# elements of a document that are read together, as many as are judged together
_ELEMENTS = 8_192
# as `_CHANGED`, and halves of pairs, in texts
_CHANGED_TEXT = re.compile(r"[\0\r\x1b-\x1f\ufeff\ud800-\udfff]")
# a name whose value may tell that an object is a line of a log
_KIND = "kind"
_DTYPES: dict[type, Any] = {str: pl.String, int: pl.Int64, float: pl.Float64, bool: pl.Boolean}
# types that one column may have; a time is written as it is in the file
_FAMILIES: tuple[frozenset[type], ...] = (frozenset({str}), frozenset({int, float}), frozenset({bool}))
_OF_TIMES: tuple[frozenset[type], ...] = tuple(frozenset({each}) for each in _DTYPES)
_LEAST, _MOST = -(2**63), 2**63 - 1
# white space within a line, a text without escapes, an array of them, and a plain value, in JSON
_GAP, _TEXT = r"[ \t]*", r'"[^"\\\x00-\x1f\x{feff}]*"'
_TEXTS = rf"(\[{_GAP}{_TEXT}{_GAP}(?:,{_GAP}{_TEXT}{_GAP})*\])"
_PLAIN_VALUE = rf"(?:{_TEXT}|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null)"
# values of columns by their types, with what polars makes of them, which holds them exactly
_INTEGER = r"-?(?:0|[1-9][0-9]{0,17}|[1-8][0-9]{18})"
_REAL = (r"-?(?:0|[1-9][0-9]{0,14})(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,2})?|", pl.Float64)
_FORMS: dict[frozenset[type], tuple[str, Any]] = {
    frozenset(): ("", pl.String),
    frozenset({str}): (f"{_TEXT}|", pl.String),
    frozenset({bool}): ("true|false|", pl.Boolean),
    frozenset({int}): (f"{_INTEGER}|", pl.Int64),
    frozenset({float}): _REAL,
    frozenset({int, float}): _REAL,
}
# lines that may show the form of the others; names of a form
_LOOKED_AT, _MOST_NAMES = 64, 1_000
# share of the values of a chunk beyond which all are read one by one; what stands for a value that cannot be read so
_MOST_ODD = 0.5
_ODD: Any = object()


def read_jsonl_parts(stream: Stream, request: ReadRequest) -> Iterator[RecordPart | Items]:
    """The records of `agent.data.readers.jsonl.read_jsonl` in order, by the block where they are regular."""
    if not is_value_a_line(stream):
        elements, request = read_elements(stream, request)
        yield from noted(_of_document(elements, request), request)
        return
    chunks = (chunk.data for chunk in read_chunks(stream, size=_SIZE))
    if (first := next(chunks, None)) is None:
        return
    elements = lines_to_elements(Stream(iter([first])), columns_of_records(request))
    try:
        elements, matched = checked(elements, request)
        element = next(elements, None)
        is_table = element is not None and as_log_object(element.value, matched) is None
    except InputError:
        is_table = False
    data = chain([first], chunks)
    if is_table:
        yield from noted(_in_order(data, matched), matched)
    else:
        yield from in_lists(read_jsonl(Stream(data), request))


def _of_document(elements: Iterator[Element], request: ReadRequest) -> Iterator[RecordPart | Items]:
    """The records of the elements of a document, by the block where many that follow each other are regular."""
    named, damage = set[str](), None
    while damage is None and (first := next(elements, None)) is not None:
        batch = [first]
        try:
            batch += islice(elements, _ELEMENTS - 1)
        except Damaged as error:
            damage = error
        if any(isinstance(element.value, dict) and _LOG in element.value for element in batch):
            # what comes after the first part of a line of a log may be its rest
            yield from in_lists(rows_of_elements(chain(batch, elements), request, named))
        elif (block := _block_of(batch, request)) is not None:
            notes = note_beside_events(block.value(0), request, named) if isinstance(block, SessionRows) else ()
            yield replace(block, notes=[(int(block.lines[0]), note) for note in notes])
        else:
            yield list(rows_of_elements(iter(batch), request, named))
    if damage is not None:
        raise damage


def _block_of(elements: Sequence[Element], request: ReadRequest) -> TableBlock | SessionRows | None:
    """The block of elements that are all regular rows of one table, or sessions; else None."""
    values, lines = [element.value for element in elements], np.array([element.line for element in elements])
    if any(element.problem or element.notes for element in elements) or not all(isinstance(v, dict) for v in values):
        return None
    texts = (value for row in values for value in row.values() if isinstance(value, str))
    lists = (value for row in values if isinstance(value := row.get(EVENTS), list))
    events = (event for events in lists for event in events if isinstance(event, str))
    if _CHANGED_TEXT.search(" ".join(chain(texts, events, *values))):
        return None
    block, odd = table_of(values, request, lines, ids=IDS)
    if block is None or odd.any():
        return None
    # of rows on one line the order would be lost
    is_ordered = isinstance(block, SessionRows) or bool((np.diff(lines) > 0).all()) or not block.odd().any()
    return block if is_ordered else None


def _in_order(chunks: Iterator[bytes], request: ReadRequest) -> Iterator[RecordPart | Items]:
    number, columns, named = 1, columns_of_records(request), set[str]()
    try:
        for chunk in chunks:
            data = chunk.replace(b"\r\n", b"\n")
            lines = data.removesuffix(b"\n").split(b"\n")
            numbers = np.arange(number, number + len(lines))
            block, odd = _regular(data, lines, request, numbers)
            if block is None:
                block, odd = table_of(_decoded(data, lines), request, numbers, ids=IDS)
            if block is not None and not (_PART in chunk and odd.any()):
                yield _with_odd_lines(block, lines, np.flatnonzero(odd).tolist(), request, number, named)
            else:
                # what comes after the first part of a line may be its rest
                rest = chain([chunk], chunks) if _PART in chunk else [chunk]
                elements = lines_to_elements(Stream(iter(rest)), columns, number)
                yield from in_lists(rows_of_elements(elements, request, named))
            number += chunk.count(b"\n")
    except Damaged as damage:
        raise Damaged(damage.reason, damage.line or number) from damage


def _with_odd_lines(
    block: TableBlock | SessionRows,
    lines: list[bytes],
    odd: list[int],
    request: ReadRequest,
    first: int,
    named: set[str],
) -> RecordPart | Items:
    """A block of some of the ``lines``, and those at ``odd``, read one by one; ``named``: see `rows_of_elements`."""
    columns, start = columns_of_records(request), int(block.lines[0])

    def rows(places: list[int]) -> Items:
        elements = (lines_to_elements(Stream(iter([lines[i] + b"\n"])), columns, first + i) for i in places)
        return list(rows_of_elements(chain.from_iterable(elements), request, named))

    # what is not read is noted where it comes first
    before = rows([i for i in odd if first + i < start])
    notes = note_beside_events(block.value(0), request, named) if isinstance(block, SessionRows) else ()
    after = rows([i for i in odd if first + i > start])
    return mixed(block, before + after, [(start, note) for note in notes])


def _regular(
    data: bytes, lines: list[bytes], request: ReadRequest, numbers: NDArray[np.int64]
) -> tuple[TableBlock | SessionRows | None, NDArray[np.bool_]]:
    """The block of those of n lines of some data that have the form of the first ones, found by a pattern.

    As `table_of`, without decoding their JSON; None as well where few lines have that form.
    """
    odd, form = np.ones(len(lines), bool), _form_of(lines[:_LOOKED_AT])
    if form is None or b"\\" in data or _PART in data:
        return None, odd
    members = (f'"{pl.escape_regex(name)}"{_GAP}:{_GAP}{value}{_GAP}' for name, (value, _) in form.items())
    pattern = rf"^{_GAP}\{{{_GAP}{f',{_GAP}'.join(members)}\}}{_GAP}$"
    try:
        texts = pl.Series(lines, dtype=pl.Binary).cast(pl.String)
    except pl.exceptions.ComputeError:
        # some line is no UTF-8
        return None, odd
    arrays = texts.str.extract(pattern) if EVENTS in form else None
    fits = texts.str.contains(pattern) if arrays is None else arrays.is_not_null()
    places = np.flatnonzero(fits)
    if len(places) < (1 - _MOST_ODD) * len(lines):
        return None, odd
    block: TableBlock | SessionRows | None
    if arrays is not None:
        events = arrays.gather(places).str.json_decode(pl.List(pl.String))
        block, kept = session_rows(
            events, lambda index: from_json(lines[places[index]]), request, numbers[places], ids=IDS
        )
        odd[places[kept]] = False
    else:
        schema = {name: dtype for name, (_, dtype) in form.items()}
        cells = pl.read_ndjson(io.BytesIO(joined(texts.gather(places))), schema=schema)
        block = table_block(cells, request, numbers[places], ids=IDS)
        odd[places] = False
    return block, odd


def _form_of(lines: list[bytes]) -> dict[str, tuple[str, Any]] | None:
    """What the values of objects look like in JSON, as a pattern, and their type, by name.

    None if they have not the same names, have values of several types, or have nested ones but their events.
    """
    values = [value for value in map(_value, lines) if value is not _ODD]
    if not values or not all(isinstance(value, dict) and 0 < len(value) <= _MOST_NAMES for value in values):
        return None
    names = tuple(values[0])
    values = [value for value in values if tuple(value) == names]
    if EVENTS in names:
        return {name: (_TEXTS if name == EVENTS else _PLAIN_VALUE, None) for name in names}
    form = dict[str, tuple[str, Any]]()
    for name in names:
        types = frozenset(type(value[name]) for value in values) - {type(None)}
        of_type = _FORMS.get(types)
        if of_type is None or (time_column([name]) and float in types):
            return None
        form[name] = rf"(?:{of_type[0]}null)", of_type[1]
    return form


def _decoded(data: bytes, lines: list[bytes]) -> list[Any]:
    """The value of each line of some data; `_ODD` for one that is not regular JSON."""
    if not (_CHANGED.search(data) or (b"\\u" in data and _IRREGULAR.search(data))):
        try:
            # in a third of the time of `json.loads`; what it refuses (deep nesting) is read by that
            return [from_json(line) for line in lines]
        except ValueError:
            pass
    return list(map(_value, lines))


def _value(line: bytes) -> Any:
    if _CHANGED.search(line) or _IRREGULAR.search(line):
        return _ODD
    try:
        return json.loads(line.decode())
    except (ValueError, RecursionError):
        return _ODD


def table_of(
    values: Sequence[Any], request: ReadRequest, lines: NDArray[np.int64], *, ids: Sequence[str]
) -> tuple[TableBlock | SessionRows | None, NDArray[np.bool_]]:
    """The block of those of n objects, on ``lines``, that have the names and the types of most.

    Parameters
    ----------
    ids
        As of `agent.data.readers.jsonl.parse_object`.

    Returns
    -------
    TableBlock or SessionRows or None
        None if they are no rows of one table, and no sessions.
    shape (n,)
        Which values are not in it.
    """
    names_of = [tuple(value) if isinstance(value, dict) else None for value in values]
    names, _ = Counter(names for names in names_of if names).most_common(1)[0] if any(names_of) else ((), 0)
    odd = np.array([each != names for each in names_of], bool)
    if not names or odd.mean() > _MOST_ODD:
        return None, odd
    chosen = np.flatnonzero(~odd)
    rows = [values[i] for i in chosen.tolist()]
    if EVENTS in names:
        plain = np.array(list(map(is_session, rows)), bool)
        odd[chosen[~plain]] = True
        rows = [row for row, is_plain in zip(rows, plain.tolist(), strict=True) if is_plain]
        events = pl.Series([row[EVENTS] for row in rows], dtype=pl.List(pl.String))
        block, kept = session_rows(events, rows.__getitem__, request, lines[~odd], ids=ids)
        odd[chosen[plain][~kept]] = True
        return block, odd
    columns = {name: _series(name, [row[name] for row in rows]) for name in names}
    unlike = np.logical_or.reduce([unlike for _, unlike in columns.values()])
    odd[chosen[unlike]] = True
    if odd.all() or odd.mean() > _MOST_ODD:
        return None, odd
    cells = pl.DataFrame([series for series, _ in columns.values()])
    cells = cells.filter(pl.Series(~unlike)) if unlike.any() else cells
    return table_block(cells, request, lines[~odd], ids=ids), odd


def table_block(
    cells: pl.DataFrame, request: ReadRequest, lines: NDArray[np.int64], *, ids: Sequence[str]
) -> TableBlock | None:
    """The block of rows on these lines, shape (n,); None if they are no records of several fields."""
    if _KIND in cells.columns or not len(cells):
        return None
    learned = request.with_learned_names(dict.fromkeys(cells.columns))
    request = request.restricted_to(learned)
    columns = request.columns_of(tuple(learned), request.table.excluded(ids))
    is_table = len(columns) > 1 and request.table.text_column is None and request.lenient and not request.raw
    if not is_table or len(learned) < cells.width or as_log_object(cells.row(0, named=True), request) is not None:
        return None
    cells = cells.rename(dict(zip(cells.columns, learned, strict=True)))
    return TableBlock.of(request, cells, columns, time_column(learned), lines)


def _series(name: str, values: list[Any]) -> tuple[pl.Series, NDArray[np.bool_]]:
    """The values of a column that have the type of most, null for the others; and which are others, shape (n,)."""
    types = Counter(map(type, values))
    del types[type(None)]
    families = _OF_TIMES if time_column([name]) else _FAMILIES
    family = max(families, key=lambda family: sum(types[each] for each in family))
    kept = family | {type(None)}
    dtype = next((_DTYPES[each] for each in (float, int, str, bool) if each in family and types[each]), pl.String)
    unlike = np.zeros(len(values), bool)
    if not types.keys() <= family:
        unlike = np.array([type(value) not in kept for value in values], bool)
        values = [None if is_unlike else value for value, is_unlike in zip(values, unlike.tolist(), strict=True)]
    try:
        return pl.Series(name, values, dtype), unlike
    except (OverflowError, TypeError, pl.exceptions.PolarsError):
        is_large = np.array([type(value) is int and not _LEAST <= value <= _MOST for value in values], bool)
        rest = [None if large else value for value, large in zip(values, is_large.tolist(), strict=True)]
        return pl.Series(name, rest, dtype), unlike | is_large
