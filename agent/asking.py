"""What comes in over a door, read into questions: whatever is wrong with it is said, before a model is bothered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agent.errors import InputError, UnknownSource, UsageError, mapped
from agent.parts import Parts
from agent.question import Asked, Explain, Question, plain
from agent.records import Record


class Batch(BaseModel):
    """Several records of one source."""

    model_config = ConfigDict(extra="forbid")

    source: str | None = None
    explain: Explain = "facts"
    records: list[Record | str] = Field(min_length=1)


def asked(sent: Any, most_chars: int) -> Question:
    """The question that was sent: an object, or the record's text alone.

    Raises:
        ValidationError: it is no question, or its record is none.
        InputError: the record is longer than ``most_chars``.
    """
    if isinstance(sent, dict) and not isinstance(sent.get("record", ""), (str, dict)):
        raise InputError("`record` must be a text or an object")
    question = Question(text=sent) if isinstance(sent, str) else Question.model_validate(sent)
    bounded(question.record, most_chars)
    return question


def asked_quickly(sent: Any, most_chars: int, said: bytes | None = None) -> Asked:
    """As `asked`; ``said``: the line of a stream that it came in."""
    return plain(sent, most_chars, said) or asked(sent, most_chars)


def asked_all(sent: Any, most_chars: int) -> tuple[list[Asked], bool]:
    """The questions of one JSON body, and whether an array is to be answered.

    Raises:
        ValidationError, InputError: as `asked`; the place in an array is said.
    """
    if isinstance(sent, list):
        if not sent:
            raise InputError("an empty array: there is nothing to judge")
        return [_at(number, one, most_chars) for number, one in enumerate(sent)], True
    if isinstance(sent, dict) and "records" in sent:
        batch = Batch.model_validate(sent)
        shared = {"source": batch.source, "explain": batch.explain}
        records = [{"text": one} if isinstance(one, str) else one.model_dump() for one in batch.records]
        return [_at(number, {**one, **shared}, most_chars) for number, one in enumerate(records)], True
    return [asked_quickly(sent, most_chars)], False


def _at(number: int, sent: Any, most_chars: int) -> Asked:
    try:
        return asked_quickly(sent, most_chars)
    except ValidationError as error:
        raise InputError(f"record {number}: {told(error)}") from error
    except InputError as error:
        raise InputError(f"record {number}: {error.reason}") from error


def bounded(record: Record, most_chars: int) -> Record:
    """The record, when it is not longer than ``most_chars`` in all.

    Raises:
        InputError: it is.
    """
    fields = sum(len(name) + len(str(value)) for name, value in record.fields.items())
    length = len(record.text) + sum(map(len, record.events)) + fields
    if length > most_chars:
        raise InputError(f"a record of {length} characters; the limit is {most_chars}")
    return record


def of_source(parts: Parts, name: str | None) -> str:
    """The source that ``name`` means: itself, or the only one there is.

    Raises:
        UnknownSource: there is none of that name.
        UsageError: none was named, and there is not exactly one.
    """
    with mapped():
        names = parts.casebook.names()
    if name is None and len(names) != 1:
        raise UsageError(f"say which source the record comes from: {', '.join(names) or 'there is none yet'}")
    if name is not None and name not in names:
        raise UnknownSource(name, names)
    return name or names[0]


def told(error: ValidationError) -> str:
    """The first thing that is wrong, with its place, in one line."""
    first: Mapping[str, Any] = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(where(first["loc"]))
    return f"{place}: {first['msg']}" if place else str(first["msg"])


def where(loc: Iterable[int | str]) -> list[str]:
    """A complaint's place, without pydantic's own names for the alternatives that it tried."""
    return [str(part) for part in loc if not str(part).startswith("function-")]


def storable(text: str) -> str:
    """Without what neither UTF-8 nor a relational store can hold: lone surrogates and NUL."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\x00", "\ufffd")
