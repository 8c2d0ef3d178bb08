"""Records with placeholders in place of secrets and personal data (`retrieval.text.redaction`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from agent.core.records import BETWEEN_EVENTS, FieldValue, Record, clean_text
from agent.data.readers.values import spell_out, spell_value, split_pairs, typed

if TYPE_CHECKING:
    from retrieval.text.redaction import Redactor


def redacted_parts(
    redactor: Redactor, text: str, fields: Mapping[str, FieldValue], events: tuple[str, ...] = ()
) -> tuple[str, dict[str, FieldValue], tuple[str, ...]]:
    """Text, fields and events of a record with placeholders; a text that spells out the others still does."""
    text, same = clean_text(text), spell_out(fields) if fields else BETWEEN_EVENTS.join(events)
    without = redactor.fields({clean_text(name): _cleaned(value) for name, value in fields.items()})
    left = tuple(redactor.text(clean_text(event)) for event in events)
    if (fields or events) and text == clean_text(same):
        return spell_out(without) if fields else BETWEEN_EVENTS.join(left), without, left
    return redacted_text(redactor, text), without, left


def redacted_text(redactor: Redactor, text: str) -> str:
    """The text of a record without fields, which may spell some out as ``name is value …``."""
    return _of_pairs(redactor, text) or redactor.text(text)


def _cleaned(value: FieldValue) -> FieldValue:
    return clean_text(value) if isinstance(value, str) else value


def _of_pairs(redactor: Redactor, text: str) -> str | None:
    """The text of the form ``name is value …`` with placeholders; None for another."""
    pairs = split_pairs(text)
    if not pairs:
        return None
    words = text.split()
    for place, (name, written) in enumerate(pairs.items()):
        value = typed(written)
        redacted = redactor.field(name, value)
        words[3 * place] = redactor.text(name)
        if redacted != value:
            words[3 * place + 2] = spell_value(redacted)
    return " ".join(words) if words != text.split() else text


def redacted_record(record: Record, redactor: Redactor | None) -> Record:
    """A record with placeholders; the same one if there is nothing to replace."""
    if redactor is None:
        return record
    text, fields, events = redacted_parts(redactor, record.text, record.fields, record.events)
    series = record.series
    if series is not None and (key := redactor.text(series.key)) != series.key:
        series = series.model_copy(update={"key": key})
    time = None if record.time is None else redactor.text(record.time)
    changes = {"text": text, "fields": fields, "events": events, "series": series, "time": time}
    changed = {name: value for name, value in changes.items() if value != getattr(record, name)}
    return record.model_copy(update=changed) if changed else record
