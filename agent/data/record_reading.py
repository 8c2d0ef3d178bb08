"""Single records, from requests, the chat and Python, as the readers of files read them."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

from agent.core.records import BETWEEN_EVENTS, FieldValue, Record
from agent.data.read_options import ReadOptions, text_start
from agent.data.readers.columns import default_columns, expand, time_column
from agent.data.readers.csv_dialect import DELIMITERS
from agent.data.readers.entries import without_word
from agent.data.readers.lines import GAP
from agent.data.readers.log_objects import LogObject, log_object, time_of
from agent.data.readers.redacting import redacted_record
from agent.data.readers.row import ReadRequest
from agent.data.readers.table_schema import TableSchema, names_read
from agent.data.readers.values import spell_out, split_pairs, to_text, typed
from agent.data.series_windows import described
from retrieval.encoding.representation import RecordLike

if TYPE_CHECKING:
    from retrieval.text.redaction import Redactor

_IDS = frozenset({"id", "session_id"})
_ANY_LENGTH = 1 << 30
T = TypeVar("T")


def as_read(record: Record, options: ReadOptions) -> Record:
    """The record as a file with the same content gives it, with placeholders where the source is redacted.

    A record of a file is returned as it is.

    Fields that are texts are typed, a text of the form ``name is value …`` is split into fields, columns that are not
    part of the source's records (its label, row numbers) are left out, and the text of a row spells out its fields.

    Parameters
    ----------
    record
    options
        How the source's files are read.
    """
    return redacted_record(_as_read(record, options), options.redactor)


def _as_read(record: Record, options: ReadOptions) -> Record:
    if record.series is not None:
        return _window_as_read(record, options)
    request = _request_of(options)
    if (of_log := _as_log_object(record, request)) is not None:
        text, time = to_text(record.fields[of_log.text]).rstrip("\r\n"), time_of(of_log, record.fields)
        record = record.model_copy(update={"text": text, "fields": {}, "time": record.time or time})
    if record.events:
        fields, text = _session_fields(record, request), record.text.strip() or BETWEEN_EVENTS.join(record.events)
    elif options.table.text_column is not None:
        fields, text = _text_with_fields(record, request, options)
    elif not record.fields:
        written = without_label(record.text, options)
        pairs = split_pairs(written, options.table.names_in_text) or row_cells(written, options.table, options.redactor)
        fields = _typed(_with_learned_names(pairs, options), request)
        text = spell_out(fields) or written
    else:
        cells = _with_learned_names(record.fields, options)
        fields = _typed(cells, request)
        text, written, spelled = record.text, record.text.strip(), spell_out(fields)
        if not written and len(fields) == 1 and not options.table.names_in_text:
            ((name, value),) = fields.items()
            text, fields = to_text(cells[name]), {} if isinstance(value, str) else fields
            fields = fields or _typed(split_pairs(text), request)
        elif written != spelled and _spells_out(written, record, request):
            text = spelled
    if not fields and not text.strip():
        return record
    changes = {"fields": fields, "text": text, "time": record.time or _time(record, request)}
    changed = {name: value for name, value in changes.items() if value != getattr(record, name)}
    if list(fields) != list(record.fields):
        # the text spells them out in this order
        changed["fields"] = fields
    return record.model_copy(update=changed) if changed else record


def _window_as_read(record: Record, options: ReadOptions) -> Record:
    """A window of a series with the text and the fields that it has in a file."""
    if record.series is None or (record.text.strip() and record.fields):
        return record
    series = record.series
    if options.redactor is not None and (key := options.redactor.text(series.key)) != series.key:
        series = series.model_copy(update={"key": key})
    text, fields = described(series, options.series.keys if options.series else ())
    changes = {"text": record.text.strip() or text, "fields": record.fields or fields}
    return record.model_copy(update={**changes, "time": record.time or record.series.start})


def _request_of(options: ReadOptions) -> ReadRequest:
    # the record is redacted when it is read, when the names of its fields are known
    return ReadRequest("", options.text, options.label, frozenset(), _ANY_LENGTH, lenient=True, table=options.table)


def _as_log_object(record: Record, request: ReadRequest) -> LogObject | None:
    """What is known of a record's fields as a line of a log whose text is to be read."""
    found = log_object(record.fields) if record.fields and not (record.text.strip() or record.events) else None
    if found is None or request.restricted_to(record.fields).text or request.label == found.text:
        return None
    columns = request.columns_of(tuple(record.fields), request.table.excluded(_IDS))
    return None if request.has_learned(columns) else found


def _text_with_fields(record: Record, request: ReadRequest, options: ReadOptions) -> tuple[dict[str, FieldValue], str]:
    """The fields and the text of a record of a source of texts; the fields are those that its text spells out.

    Others that it was sent with are kept, and named as not read.
    """
    cells, column = _with_learned_names(record.fields, options), _text_column(record, options)
    text = without_label(record.text, options) if column is None else to_text(cells.pop(column))
    pairs = request.fields_of(text)
    others = {} if pairs.keys() == cells.keys() else _typed(cells, request)
    fields = {**pairs, **others}
    return fields, text if text.strip() and not (pairs and not others) else spell_out(fields)


def _with_learned_names(cells: Mapping[str, T], options: ReadOptions) -> dict[str, T]:
    """The cells by the learned names of their columns, whatever their case is."""
    names = options.table.other_names(cells.keys(), options.label)
    return {names.get(name, name): cell for name, cell in cells.items()}


def _text_column(record: Record, options: ReadOptions) -> str | None:
    """The learned column that is the text of a record without another one; None if it has none."""
    column = options.table.text_column
    cells = _with_learned_names(record.fields, options) if column is not None and not record.text.strip() else {}
    return column if cells.get(column or "") is not None else None


def lacks_text(sent: Record, options: ReadOptions) -> bool:
    """Whether a record as it was ``sent`` has fields and neither a text nor the column that is the source's text."""
    has_text = bool(sent.text.strip() or sent.events or not sent.fields)
    return not has_text and options.table.text_column is not None and _text_column(sent, options) is None


def without_label(text: str, options: ReadOptions) -> str:
    """A log line without the word that is its label, where the source's lines have one and this one does.

    That is a word that labels have, before a text that begins as those of the source do.
    """
    if options.label is None or not options.label.isdecimal() or not options.text_starts:
        return text
    first, separator, rest = text.partition("\n")
    number, words = int(options.label), first.split()
    if number >= len(words) or words[number] not in options.label_values or text_start(text) in options.text_starts:
        return text
    cut = without_word(first, number)
    return cut + separator + rest if text_start(cut) in options.text_starts else text


def row_cells(text: str, table: TableSchema, redactor: Redactor | None = None) -> dict[str, str]:
    """The cells of a row of a delimited table whose columns are the learned ones in their order; none if it is none.

    Each number must be in a number's place.
    """
    columns = table.columns
    if len(columns) < 2 or "\n" in text.strip():
        return {}
    for delimiter in DELIMITERS:
        cells = _cells(text, delimiter)
        values = [table.typed(column.name, cell) for column, cell in zip(columns, cells, strict=False)]
        if redactor is not None:
            # a number that is redacted is none in the cases
            values = [redactor.field(column.name, value) for column, value in zip(columns, values, strict=False)]
        fits = [
            isinstance(value, float) == (column.type == "number")
            for column, value in zip(columns, values, strict=False)
        ]
        if len(cells) == len(columns) and all(fits) and any(column.type == "number" for column in columns):
            return {column.name: cell for column, cell in zip(columns, cells, strict=True)}
    return {}


def _cells(text: str, delimiter: str) -> list[str]:
    """The cells of a line of a delimited table; none if it is none."""
    try:
        return next(csv.reader([text], delimiter=delimiter, strict=True), [])
    except csv.Error:
        return []


def note_on_reading(sent: Record, record: Record, options: ReadOptions) -> str | None:
    """What there is to say of how the ``record`` was read from what was ``sent``."""
    note = _note_on_reading(sent, record, options)
    return note if note is None or options.redactor is None else options.redactor.text(note)


def _note_on_reading(sent: Record, record: Record, options: ReadOptions) -> str | None:
    known = options.table.names_in_text
    pairs = split_pairs(without_label(sent.text, options), known) if not sent.fields else {}
    names = options.table.other_names((sent.fields or pairs).keys())
    if names and not sent.events:
        return f"read by other names: {names_read(names, list(names))}"
    if sent.fields or sent.events or pairs:
        return None
    if not record.fields:
        count = max(len(_cells(sent.text, delimiter)) for delimiter in DELIMITERS) if known else 0
        return f"the text has {count} values, a row has {len(known)}: {', '.join(known)}" if count > 1 else None
    return f"the text is read as a row, its values as those of {', '.join(record.fields)} in this order"


def dropped_fields(sent: Record, record: Record, options: ReadOptions) -> tuple[str, ...]:
    """The names of the fields of a record as it was ``sent`` that the ``record`` read of it lacks.

    Its label, its time, its ids and columns that learning left out or did not read are meant to be.
    """
    if record.series is not None or not sent.fields or _as_log_object(sent, _request_of(options)) is not None:
        return ()
    cells = _with_learned_names(sent.fields, options)
    excluded = options.table.excluded(_IDS).union(options.table.ignored)
    kept = [name for name in default_columns(cells, options.label, excluded) if cells[name] is not None]
    text = None if sent.text.strip() else options.table.text_column
    names = kept if options.redactor is None else map(options.redactor.text, kept)
    return tuple(name for name in names if name not in record.fields and name != text)


def has_own_text(record: RecordLike) -> bool:
    """Whether a record has a text beside its fields or events that does not just say the same."""
    written = record.text.strip()
    if not written or not (record.fields or record.events):
        return False
    same = BETWEEN_EVENTS.join(record.events) if record.events else spell_out(record.fields)
    if written == same.strip() or (GAP in written and same.startswith(written.partition(GAP)[0])):
        return False
    return len(record.fields) != 1 or bool(record.events) or typed(written) not in record.fields.values()


def _spells_out(written: str, record: Record, request: ReadRequest) -> bool:
    """Whether a record's text is empty, or says what its fields say."""
    if not written or written == spell_out(record.fields):
        return True
    pairs = split_pairs(written, request.table.names_in_text)
    return pairs.keys() == record.fields.keys() and all(
        to_text(record.fields[name]).casefold() == value.casefold() or request.typed(name, value) == record.fields[name]
        for name, value in pairs.items()
    )


def _typed(cells: Mapping[str, FieldValue] | Mapping[str, str], request: ReadRequest) -> dict[str, FieldValue]:
    """The columns that are part of the source's records, in the order in which its files have them."""
    names = list(cells)
    named = expand(request.restricted_to(names).text, names)
    excluded = request.table.excluded(_IDS).union(request.table.ignored)
    columns = named or default_columns(names, request.label, excluded)
    return {name: request.typed(name, cells[name]) for name in request.table.ordered(columns)}


def _session_fields(record: Record, request: ReadRequest) -> dict[str, FieldValue]:
    """Of a source's sessions, files give the columns that ``--text`` names."""
    names = request.table.other_names(record.fields.keys(), request.label)
    cells = {names.get(name, name): value for name, value in record.fields.items()}
    named = expand(request.text, list(cells)) if request.label is not None else cells
    return {name: request.typed(name, cells[name]) for name in named if name in cells}


def _time(record: Record, request: ReadRequest) -> str | None:
    column = time_column(record.fields)
    return to_text(record.fields[column]).strip() or None if column else None
