"""JSON lines in blocks, where one string of each object is the text: that and the time are read by array.

A line is read so if the name of the text stands in it once, before a string, and nothing in it makes the object a
session, an envelope or another kind of log line; all other lines are read one by one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, islice
from typing import NamedTuple

import numpy as np
import polars as pl

from agent.core.errors import InputError
from agent.data.blocks import TEXT, TIME, Block, BlockTable, noting, split_lines_by_array
from agent.data.chunks import SIZE, read_chunks
from agent.data.readers.byte_stream import Stream
from agent.data.readers.columns import TIME_NAMES, time_column
from agent.data.readers.json_document import is_value_a_line
from agent.data.readers.jsonl import CHECKED, IDS, as_log_object, checked, flatten, lines_to_elements, rows_of_elements
from agent.data.readers.log_objects import JOURNAL, LogObject, time_of
from agent.data.readers.row import ParsedRow, ReadRequest, RowError
from agent.data.readers.values import to_text
from retrieval.arrays import Bools, Ints
from retrieval.text.template_hash import joined

_ROWS = 2_048
# what only an object that is more than a record has, or one whose text is that of a log
_OTHER = r'"(?:events|Records|logEvents|items|hits)"'
_OF_LOG = r'"(?:log|kubernetes|involvedObject|regarding|' + "|".join(sorted(JOURNAL)) + r')"\s*:'
# what Docker writes, of whole lines
_DOCKER = (
    r'^\{"log":"(?:[^"\\]|\\.)*\\n","stream":"[a-z]+"(?:,"attrs":\{(?:"[^"\\]*":"[^"\\]*",?)*\})?,"time":"[^"\\]*"\}$'
)
# control characters, halves of pairs, and escapes by which a name may stand there twice
_STRANGE = r"[\x00-\x1f\ufeff]|\\u(?:00(?:[014-7]|2[dDeE]|3[0-9])|[dD][89a-fA-F])"
_CONTROL, _SPACE, _MARK = r"[\x00-\x1f]", ord(" "), "\ufeff".encode()
_IN_TEXT = r"[\x00-\x08\x0a-\x1f\ufeff]"
# bytes of Docker's lines that go on
_MOST_OPEN = 1 << 20
# brackets of a line that is surely not nested too deeply for any reader
_MOST_NESTED = 64


class _Form(NamedTuple):
    """Where the text and the time are, and what a line must hold and not hold to be read by array."""

    text: str
    time: str | None
    needed: tuple[str, ...]
    excluded: tuple[str, ...]
    is_docker: bool = False
    is_flat: bool = True
    of_log: LogObject | None = None


def open_jsonl_blocks(stream: Stream, request: ReadRequest, size: int = SIZE) -> BlockTable | None:
    """JSON lines in blocks of ``size`` bytes; None if their records are not the text of one string each."""
    if not is_value_a_line(stream):
        return None
    columns = frozenset(name for name in (request.label, *request.text) if name)
    head = stream.look_at_lines(CHECKED)
    try:
        elements, request = checked(lines_to_elements(Stream(iter([head])), columns), request)
    except InputError:
        # reading one by one says what is wrong
        return None
    first = next(elements, None)
    if first is None or not isinstance(first.value, dict):
        return None
    found = as_log_object(first.value, request)
    form = _log_form(found) if found else _column_form(first.value, request)
    if form is None:
        return None
    if found is not None:
        request = replace(request, notes=(*request.notes, found.note))
    blocks = noting(request, _JsonBlocks(form, request, columns, stream, size).read())
    table = BlockTable(request, [TEXT], TIME, is_text=True, blocks=blocks)
    if found is None:
        return table
    return replace(table, time_of=lambda cell: to_text(time_of(found, {found.time or "": cell})).strip() or None)


def _log_form(found: LogObject) -> _Form | None:
    if found.written_by == "Docker":
        return _Form(found.text, found.time, (_DOCKER,), (), is_docker=True, of_log=found)
    journal = r'"(?:' + "|".join(sorted(JOURNAL)) + r')"\s*:'
    if found.written_by == "journald":
        return _Form(found.text, found.time, (journal,), (_OTHER,), of_log=found)
    if "Kubernetes" in found.written_by:
        other = (r'"log"\s*:',) if found.text != "log" else ()
        return _Form(found.text, found.time, (r'"kubernetes"\s*:\s*\{',), (_OTHER, journal, *other), of_log=found)
    return None


def _column_form(value: dict[str, object], request: ReadRequest) -> _Form | None:
    """The form of objects of which one column is the text, whatever other columns they have."""
    cells = flatten(value)
    learned = request.with_learned_names(cells)
    request = request.restricted_to(learned)
    columns = request.columns_of(tuple(learned), request.table.excluded(IDS))
    if len(columns) != 1 or columns[0] in request.table.notations:
        return None
    is_named = columns[0] in (request.table.text_column, *request.text)
    if is_named and request.table.text_column not in (None, columns[0]):
        return None
    names = [name for name in cells if request.table.renamed.get(name, name) == columns[0]]
    if len(names) != 1 or "'" in names[0] or "\\" in names[0]:
        return None
    time = time_column(learned)
    # nested times, and those of other names, are read one by one
    if time is not None and (time not in value or time not in cells):
        return None
    excluded = (_OTHER,) if request.text else (_OTHER, _OF_LOG.replace("log|", "") if names[0] == "log" else _OF_LOG)
    # where no column is known as the text, any other member would be a part of the record too
    needed = () if is_named else (_members_only(value),)
    return _Form(names[0], time, needed, excluded, is_flat=names[0] in value)


def _members_only(value: dict[str, object]) -> str:
    """The pattern of an object that has no other members than this one, each a scalar."""
    names = "|".join(re.escape(json.dumps(name, ensure_ascii=False)) for name in value)
    member = rf'(?:{names})\s*:\s*(?:"(?:[^"\\]|\\.)*"|[-+.\w]+)'
    return rf"^\s*\{{\s*{member}(?:\s*,\s*{member})*\s*\}}\s*$"


class _JsonBlocks:
    def __init__(self, form: _Form, request: ReadRequest, columns: frozenset[str], stream: Stream, size: int) -> None:
        self._form, self._request, self._columns = form, request, columns
        self._chunks = read_chunks(stream, size=size)
        self._named = set[str]()
        parts = [form.text] if form.is_flat else form.text.split(".")
        self._keys = [_key(part) for part in parts]
        self._path = "$" + "".join(f"['{part}']" for part in parts)
        # the same name by way of nested objects, or of none
        other = form.text.rpartition(".")[2] if form.is_flat else form.text
        self._other = _key(other) if "." in form.text else None

    def read(self) -> Iterator[Block]:
        data, first = b"", 1
        for chunk in self._chunks:
            data += chunk.data
            count = data.count(b"\n")
            lines = split_lines_by_array(data, count)
            certain, frame = np.zeros(count, np.bool_), pl.DataFrame()
            if lines is not None:
                certain, frame = self._certain(lines, data)
            starts, of_frame, in_all = np.arange(count), np.flatnonzero(certain), count
            if self._form.is_docker:
                # a line goes on in the next: they are read together
                whole = np.zeros(0, np.int64) if lines is None else self._whole(lines)
                count = int(whole[-1]) + 1 if len(whole) else 0
                starts = np.append(0, whole[:-1] + 1)[: len(whole)]
            rest = self._rest(data, first, starts, count, certain)
            certain[count:] = False
            yield Block(frame.filter(pl.Series(certain[of_frame])), first + np.flatnonzero(certain), rest)
            data = b"" if count == in_all else b"".join(line + b"\n" for line in data.split(b"\n")[count:-1])
            first += count
            if len(data) > _MOST_OPEN:
                break
        yield from self._one_by_one(data, first)

    @staticmethod
    def _whole(lines: pl.Series) -> Ints:
        """The indices of Docker's lines that do not go on in the next."""
        return np.flatnonzero(lines.str.strip_suffix("\r").str.contains(_DOCKER).to_numpy())

    def _certain(self, lines: pl.Series, data: bytes) -> tuple[Bools, pl.DataFrame]:
        form, texts = self._form, lines.str.strip_suffix("\r") if b"\r" in data else lines
        has_escapes, fits = b"\\" in data, self._fits(texts, data).fill_null(value=False)
        if not (every := fits.all()):
            texts = texts.filter(fits)
        if not len(texts):
            return fits.to_numpy(), pl.DataFrame(schema={TEXT: pl.String, TIME: pl.String})
        cells = self._plain_cells(texts, data if every else joined(texts))
        if cells is None:
            cells = *self._times(texts), texts.str.json_path_match(self._path)
        time, is_plain, text = cells
        if form.of_log is not None:
            text = text.str.strip_chars_end("\r\n")
        if has_escapes:
            is_plain &= ~text.str.contains(_IN_TEXT)
        is_plain &= text.is_not_null() & (text.str.strip_chars() != "")
        is_plain &= text.str.len_chars() <= self._request.max_chars
        is_plain = is_plain.fill_null(value=False)
        certain = fits.to_numpy(writable=True)
        certain[certain] = is_plain.to_numpy()
        return certain, pl.DataFrame({TEXT: text, TIME: time}).filter(is_plain)

    def _fits(self, texts: pl.Series, data: bytes) -> pl.Series:
        """Which lines hold what the form has, and nothing that makes more of them."""
        form, fits = self._form, texts.str.starts_with("{")
        if b"\\" in data or _MARK in data:
            fits &= ~texts.str.contains(_STRANGE)
        elif np.count_nonzero(np.frombuffer(data, np.uint8) < _SPACE) > len(texts):
            fits &= ~texts.str.contains(_CONTROL)
        for key in self._keys:
            fits &= texts.str.count_matches(key) == 1
        fits &= texts.str.contains(self._keys[-1] + r'\s*"')
        if self._other is not None:
            fits &= ~texts.str.contains(self._other)
        for pattern in form.needed:
            fits &= texts.str.contains(pattern)
        if form.excluded:
            fits &= ~texts.str.contains("|".join(f"(?:{pattern})" for pattern in form.excluded))
        return fits

    def _plain_cells(self, lines: pl.Series, data: bytes) -> tuple[pl.Series, pl.Series, pl.Series] | None:
        """What `_times` gives, and the texts, of objects that are all of one kind; None if they are not."""
        form, schema = self._form, {self._form.text: pl.String}
        if not form.is_flat or form.of_log is not None:
            return None
        if (lines.str.count_matches(r"[\[{]") > _MOST_NESTED).any():
            return None
        is_plain = self._lacks_other_times(lines)
        if form.time is not None:
            key = rf"{re.escape(json.dumps(form.time))}\s*:"
            is_plain &= (lines.str.count_matches(f"(?i){key}") == 1) & lines.str.contains(rf'{key}\s*"')
            schema[form.time] = pl.String
        if not is_plain.all():
            return None
        try:
            frame = pl.read_ndjson(data, schema=schema)
        except pl.exceptions.PolarsError:
            return None
        if len(frame) != len(lines):
            return None
        time = _no_times(lines) if form.time is None else frame[form.time]
        if form.time is not None and time.null_count():
            # that of a nested object
            return None
        return time, is_plain, frame[form.text]

    def _lacks_other_times(self, lines: pl.Series) -> pl.Series:
        """Which objects have no time by a name that is looked for before that of the form."""
        name = self._form.time
        before = TIME_NAMES if name is None else TIME_NAMES[: TIME_NAMES.index(name.casefold())]
        return ~lines.str.contains(rf'(?i)"(?:{"|".join(before)})"\s*:') if before else lines.is_not_null()

    def _times(self, lines: pl.Series) -> tuple[pl.Series, pl.Series]:
        """The times of objects, and whether they surely are."""
        of_log, name = self._form.of_log, self._form.time
        is_plain = self._lacks_other_times(lines) if of_log is None else lines.is_not_null()
        if of_log is None and name is None:
            return _no_times(lines), is_plain
        assert name is not None
        key = rf"{re.escape(json.dumps(name))}\s*:\s*"
        found = lines.str.extract(key + r'(?:"([^"\\]*)")').fill_null(
            lines.str.extract(key + r"([1-9]\d{0,17})\s*[,}]")
        )
        count = lines.str.count_matches(rf"(?i){re.escape(json.dumps(name))}\s*:")
        is_plain &= ((count == 1) & found.is_not_null()) | ((count == 0) & (of_log is not None))
        # it may be that of a nested object
        nested = (is_plain & (count == 1) & (lines.str.count_matches("{", literal=True) > 1)).arg_true()
        if len(nested):
            outer = lines.gather(nested).str.json_path_match(f"$['{name}']")
            is_plain = is_plain.scatter(nested, outer.is_not_null())
        return found, is_plain

    def _rest(self, data: bytes, first: int, starts: Ints, count: int, certain: Bools) -> list[ParsedRow | RowError]:
        """The first ``count`` lines but those that are certain, read one by one, or where one goes on together."""
        ends = np.append(starts[1:], count)
        if not count:
            return []
        certain[:count] &= np.repeat(ends - starts == 1, ends - starts)
        if certain[:count].all():
            return []
        raw, rows = data.split(b"\n"), list[ParsedRow | RowError]()
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            if not certain[start]:
                lines = Stream(iter([b"\n".join(raw[start:end])]))
                elements = lines_to_elements(lines, self._columns, number=first + start)
                rows += rows_of_elements(elements, self._request, self._named)
        return rows

    def _one_by_one(self, data: bytes, first: int) -> Iterator[Block]:
        """All from line ``first`` on, of which ``data`` has been read."""
        stream = Stream(chain([data] if data else [], (chunk.data for chunk in self._chunks)))
        rows = rows_of_elements(lines_to_elements(stream, self._columns, number=first), self._request, self._named)
        while batch := list(islice(rows, _ROWS)):
            yield Block(pl.DataFrame(), np.zeros(0, np.int64), batch)


def _key(name: str) -> str:
    """The pattern of a name in an object."""
    return rf"{re.escape(json.dumps(name, ensure_ascii=False))}\s*:"


def _no_times(lines: pl.Series) -> pl.Series:
    return pl.Series([None], dtype=pl.String).new_from_index(0, len(lines))
