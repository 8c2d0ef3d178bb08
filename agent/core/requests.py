"""What is asked: a record with options; a batch; and long records split into segments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from agent.core.errors import InputError
from agent.core.records import CleanFields, CleanText, FieldValue, Record, clean_text
from retrieval.text.prompt_injection import find_injections, split_at_injections

Explain = Literal["none", "facts", "llm"]
# characters that the embedding model reads of a text, and up to which a longer one is heard in parts
LONG, HEARD_IN_PARTS = 1_000, 4_000


_PARTS = tuple(Record.model_fields)
_TEXT = (str, type(None))
_PLAIN = {"source": _TEXT, "text": (str,), "file": _TEXT, "line": (int, type(None)), "time": _TEXT, "explain": (str,)}
_EXPLAIN = get_args(Explain)


class JudgeRequest(BaseModel):
    """A record by its parts, and how much to explain. ``source`` may be left out when there is only one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str | None = None
    text: CleanText = ""
    fields: CleanFields = Field(default_factory=dict)
    events: tuple[CleanText, ...] = ()
    file: CleanText | None = None
    line: int | None = None
    time: CleanText | None = None
    explain: Explain = "facts"

    @model_validator(mode="before")
    @classmethod
    def _record_in_one_piece(cls, sent: Any) -> Any:
        """``{"record": "text"}`` and ``{"record": {"text": …}}`` are understood as well."""
        if isinstance(sent, dict) and "record" in sent:
            rest = {name: value for name, value in sent.items() if name != "record"}
            record = sent["record"]
            return {**rest, **({"text": record} if isinstance(record, str) else dict(record))}
        return sent

    @classmethod
    def about(cls, record: Record, source: str, explain: Explain = "facts") -> JudgeRequest:
        # a record is valid already
        return cls.model_construct(**{name: getattr(record, name) for name in _PARTS}, source=source, explain=explain)

    @property
    def record(self) -> Record:
        """What is asked about.

        Raises:
            ValidationError: it is no record.
        """
        return Record(**{name: getattr(self, name) for name in _PARTS})


def coerce_request(sent: Any) -> JudgeRequest:
    if isinstance(sent, JudgeRequest):
        return sent
    if isinstance(sent, Record):
        return JudgeRequest(**sent.model_dump())
    return JudgeRequest(text=sent) if isinstance(sent, str) else JudgeRequest.model_validate(sent)


@dataclass(frozen=True, slots=True)
class TextRequest:
    """A `JudgeRequest` about a text and nothing else, in which there is nothing wrong; much quicker to make."""

    text: str
    source: str | None = None
    file: str | None = None
    line: int | None = None
    time: str | None = None
    explain: Explain = "facts"
    # the line of a stream that said so
    said: bytes | None = None
    fields: ClassVar[dict[str, FieldValue]] = {}
    events: ClassVar[tuple[str, ...]] = ()

    @property
    def record(self) -> Record:
        return Record(text=self.text, file=self.file, line=self.line, time=self.time)


AnyRequest = JudgeRequest | TextRequest


def parse_text_request(sent: Any, most_chars: int, said: bytes | None = None) -> TextRequest | None:
    """The question that was sent, if it is about a text alone, and validation would find nothing wrong with it."""
    if type(sent) is not dict or not sent.keys() <= _PLAIN.keys():
        return None
    text, line = sent.get("text"), sent.get("line")
    for name, value in sent.items():
        if type(value) not in _PLAIN[name] or (type(value) is str and clean_text(value) != value):
            return None
    fine = text and not text.isspace() and len(text) <= most_chars and (line is None or 0 < line < 2**31)
    if not fine or sent.get("explain", "facts") not in _EXPLAIN:
        return None
    return TextRequest(**sent, said=said)


def needs_segments(question: AnyRequest) -> bool:
    return _is_long(question) or bool(find_injections(question.text))


def _is_long(question: AnyRequest) -> bool:
    return LONG < len(question.text) <= HEARD_IN_PARTS and not question.fields and not question.events


def split_into_segments(question: JudgeRequest) -> list[JudgeRequest]:
    """The whole record, and each of its pieces, so that nothing softens what stands beside it.

    Pieces are what is left around text that speaks to the judge; of a record that is longer than the embedding
    model reads, its parts.
    """
    texts = split_at_injections(question.text)
    if _is_long(question):
        texts = [question.text[start : start + LONG] for start in range(0, len(question.text), LONG)]
    return [question, *(question.model_copy(update={"text": text}) for text in texts)]


class Batch(BaseModel):
    """Several records of one source."""

    model_config = ConfigDict(extra="forbid")

    source: str | None = None
    explain: Explain = "facts"
    records: list[Record | str] = Field(min_length=1)


def parse_request(sent: Any, most_chars: int) -> JudgeRequest:
    """The question that was sent: an object, or the record's text alone.

    Raises:
        ValidationError: it is no question, or its record is none.
        InputError: the record is longer than ``most_chars``.
    """
    if isinstance(sent, dict) and not isinstance(sent.get("record", ""), (str, dict)):
        raise InputError("`record` must be a text or an object")
    question = JudgeRequest(text=sent) if isinstance(sent, str) else JudgeRequest.model_validate(sent)
    check_record_size(question.record, most_chars)
    return question


def parse_request_fast(sent: Any, most_chars: int, said: bytes | None = None) -> AnyRequest:
    """As `parse_request`; ``said``: the line of a stream that it came in."""
    return parse_text_request(sent, most_chars, said) or parse_request(sent, most_chars)


def parse_requests(sent: Any, most_chars: int) -> tuple[list[AnyRequest], bool]:
    """The questions of one JSON body, and whether an array is to be answered.

    Raises:
        ValidationError, InputError: as `parse_request`; the place in an array is said.
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
    return [parse_request_fast(sent, most_chars)], False


def _at(number: int, sent: Any, most_chars: int) -> AnyRequest:
    try:
        return parse_request_fast(sent, most_chars)
    except ValidationError as error:
        raise InputError(f"record {number}: {format_validation_error(error)}") from error
    except InputError as error:
        raise InputError(f"record {number}: {error.reason}") from error


def check_record_size(record: Record, most_chars: int) -> Record:
    """The record, when it is not longer than ``most_chars`` in all.

    Raises:
        InputError: it is.
    """
    fields = sum(len(name) + len(str(value)) for name, value in record.fields.items())
    length = len(record.text) + sum(map(len, record.events)) + fields
    if length > most_chars:
        raise InputError(f"a record of {length} characters; the limit is {most_chars}")
    return record


def format_validation_error(error: ValidationError) -> str:
    """The first thing that is wrong, with its place, in one line."""
    first: Mapping[str, Any] = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(error_location(first["loc"]))
    return f"{place}: {first['msg']}" if place else str(first["msg"])


def error_location(loc: Iterable[int | str]) -> list[str]:
    """A complaint's place, without pydantic's own names for the alternatives that it tried."""
    return [str(part) for part in loc if not str(part).startswith("function-")]
