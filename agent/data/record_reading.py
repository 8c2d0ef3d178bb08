"""Single records, from requests, the chat and Python, as the readers of files read them."""

from __future__ import annotations

from agent.core.records import BETWEEN_EVENTS, FieldValue, Record
from agent.data.read_options import ReadOptions
from agent.data.readers.columns import default_columns, expand, time_column
from agent.data.readers.row import ReadRequest
from agent.data.readers.values import spell_out, split_pairs, to_text

_IDS = frozenset({"id", "session_id"})
_ANY_LENGTH = 1 << 30


def as_read(record: Record, options: ReadOptions) -> Record:
    """The record as a file with the same content gives it; a record of a file is returned as it is.

    Fields that are texts are typed, a text of the form ``name is value …`` is split into fields, columns that are not
    part of the source's records (its label, row numbers) are left out, and the text of a row spells out its fields.

    Parameters
    ----------
    record
    options
        How the source's files are read.
    """
    request = ReadRequest("", options.text, options.label, frozenset(), _ANY_LENGTH, lenient=True, table=options.table)
    if record.events:
        fields, text = _session_fields(record, request), record.text.strip() or BETWEEN_EVENTS.join(record.events)
    elif not record.fields:
        fields = _typed(request.with_learned_names(split_pairs(record.text)), request)
        text = spell_out(fields) or record.text
    else:
        cells = request.with_learned_names(record.fields)
        fields = _typed(cells, request)
        text, written, spelled = record.text, record.text.strip(), spell_out(fields)
        if not written and len(fields) == 1:
            ((name, value),) = fields.items()
            text, fields = to_text(cells[name]), {} if isinstance(value, str) else fields
            fields = fields or _typed(split_pairs(text), request)
        elif written != spelled and _spells_out(written, record):
            text = spelled
    if not fields and not text.strip():
        return record
    changes = {"fields": fields, "text": text, "time": record.time or _time(record, request)}
    changed = {name: value for name, value in changes.items() if value != getattr(record, name)}
    return record.model_copy(update=changed) if changed else record


def _spells_out(written: str, record: Record) -> bool:
    """Whether a record's text is empty, or says what its fields say."""
    return not written or written == spell_out(record.fields) or split_pairs(written).keys() == record.fields.keys()


def _typed(cells: dict[str, FieldValue] | dict[str, str], request: ReadRequest) -> dict[str, FieldValue]:
    """The columns that are part of the source's records, in the order in which its files have them."""
    names = list(cells)
    named = expand(request.restricted_to(names).text, names)
    columns = named or default_columns(names, request.label, request.table.excluded(_IDS))
    return {name: request.typed(name, cells[name]) for name in request.table.ordered(columns)}


def _session_fields(record: Record, request: ReadRequest) -> dict[str, FieldValue]:
    """Of a source's sessions, files give the columns that ``--text`` names."""
    named = expand(request.text, list(record.fields)) if request.label is not None else record.fields
    return {name: request.typed(name, record.fields[name]) for name in named if name in record.fields}


def _time(record: Record, request: ReadRequest) -> str | None:
    column = time_column(record.fields)
    return to_text(record.fields[column]).strip() or None if column else None
