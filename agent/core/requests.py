"""Requests: a record with options, a batch of records; how they are parsed, and how long records are split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import from_json

from agent.core.errors import InputError
from agent.core.json_schemas import HAS_CONTENT, SourceName
from agent.core.records import (
    BETWEEN_EVENTS,
    CleanFields,
    CleanText,
    FieldValue,
    LineNumber,
    Record,
    Series,
    clean_text,
    with_session_text,
)
from retrieval.text.prompt_injection import find_injections, split_at_injections

Explain = Literal["none", "facts", "llm"]
# characters: the part of a text that the embedding model reads, and the longest text that is split into segments
LONG, LONGEST_SPLIT = 1_000, 4_000

_PARTS = tuple(Record.model_fields)
_TEXT = (str, type(None))
_PLAIN = {"source": _TEXT, "text": (str,), "file": _TEXT, "line": (int, type(None)), "time": _TEXT, "explain": (str,)}
_EXPLAIN = get_args(Explain)
# values of a series are compared and not read, so that their characters count less
_SERIES_CHARS = 100
_WORDS = {
    "Value error, ": "",
    "Field required": "is required",
    "Extra inputs are not permitted": "is not a key of this object",
    "Input should be": "must be",
    "a valid string": "a text",
    "a valid dictionary or object to extract fields from": "an object",
    "a valid dictionary or instance of": "an object, as of",
    "a valid dictionary": "an object",
    "a valid tuple": "an array",
    "a valid list": "an array",
    "a valid boolean": "true or false",
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "List should have at least 1 item after validation, not 0": "must not be empty",
}


class JudgeRequest(BaseModel):
    """A record by its parts, and how much to explain. ``source`` may be left out when there is only one."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra=HAS_CONTENT)

    source: SourceName | None = None
    text: CleanText = ""
    fields: CleanFields = Field(default_factory=dict)
    events: tuple[CleanText, ...] = ()
    file: CleanText | None = None
    line: LineNumber | None = None
    time: CleanText | None = None
    series: Series | None = None
    explain: Explain = "facts"

    @model_validator(mode="before")
    @classmethod
    def _unwrap_record(cls, sent: Any) -> Any:
        """Accept ``{"record": "text"}`` and ``{"record": {"text": …}}`` as well."""
        if isinstance(sent, dict) and "record" in sent:
            rest = {name: value for name, value in sent.items() if name != "record"}
            record = sent["record"]
            sent = {**rest, **({"text": record} if isinstance(record, str) else dict(record))}
        return with_session_text(sent)

    @classmethod
    def about(cls, record: Record, source: str, explain: Explain = "facts") -> JudgeRequest:
        """A request about a record, which is valid already."""
        return cls.model_construct(**{name: getattr(record, name) for name in _PARTS}, source=source, explain=explain)

    @property
    def record(self) -> Record:
        """The record to judge.

        Raises
        ------
        ValidationError
            The parts do not make a record.
        """
        return Record(**{name: getattr(self, name) for name in _PARTS})


def coerce_request(sent: Any) -> JudgeRequest:
    """A request from a request, its dict, a `Record` or a text."""
    if isinstance(sent, JudgeRequest):
        return sent
    if isinstance(sent, Record):
        return JudgeRequest(**sent.model_dump())
    return JudgeRequest(text=sent) if isinstance(sent, str) else JudgeRequest.model_validate(sent)


@dataclass(frozen=True, slots=True)
class TextRequest:
    """A valid `JudgeRequest` about a text without fields or events, which is much quicker to make.

    ``raw`` is the line of the stream that it was parsed from.
    """

    text: str
    source: str | None = None
    file: str | None = None
    line: int | None = None
    time: str | None = None
    explain: Explain = "facts"
    raw: bytes | None = None
    fields: ClassVar[dict[str, FieldValue]] = {}
    events: ClassVar[tuple[str, ...]] = ()

    @property
    def record(self) -> Record:
        """The record to judge."""
        return Record(text=self.text, file=self.file, line=self.line, time=self.time)


AnyRequest = JudgeRequest | TextRequest


def parse_text_request(sent: Any, most_chars: int, raw: bytes | None = None) -> TextRequest | None:
    """The request, if it is about a text alone and validation would find nothing wrong with it.

    Measured on a stream of new lines of known templates: 52 µs of CPU a record, 81 µs with pydantic.
    """
    if type(sent) is not dict or not sent.keys() <= _PLAIN.keys():
        return None
    text, line = sent.get("text"), sent.get("line")
    for name, value in sent.items():
        if type(value) not in _PLAIN[name] or (type(value) is str and clean_text(value) != value):
            return None
    valid = text and not text.isspace() and len(text) <= most_chars and (line is None or 0 < line < 2**31)
    if not valid or sent.get("explain", "facts") not in _EXPLAIN:
        return None
    return TextRequest(**sent, raw=raw)


def parse_text_line(line: bytes, most_chars: int) -> TextRequest | None:
    """As `parse_text_request`, of a line of JSON; what this parser does not read, `json` may."""
    try:
        sent = from_json(line, cache_strings="keys")
    except ValueError:
        return None
    return parse_text_request(sent, most_chars, line)


def plain_request(request: JudgeRequest) -> AnyRequest:
    """The request as a `TextRequest`, where it can be one."""
    if request.fields or request.events:
        return request
    return parse_text_request({name: getattr(request, name) for name in _PLAIN}, len(request.text)) or request


def needs_segments(request: AnyRequest) -> bool:
    """Whether the record is judged in segments: it is long, or contains a prompt injection."""
    return _is_long(request) or bool(find_injections(request.text))


def _is_long(request: AnyRequest) -> bool:
    return LONG < len(request.text) <= LONGEST_SPLIT and not request.fields and not request.events


def split_into_segments(request: JudgeRequest) -> list[JudgeRequest]:
    """The whole record and its segments, so that no part of it hides another.

    Segments are the text between prompt injections; of a long text, pieces of `LONG` characters.
    """
    texts = split_at_injections(request.text)
    if _is_long(request):
        texts = [request.text[start : start + LONG] for start in range(0, len(request.text), LONG)]
    return [request, *(request.model_copy(update={"text": text}) for text in texts)]


class Batch(BaseModel):
    """Several records of one source."""

    model_config = ConfigDict(extra="forbid")

    source: SourceName | None = None
    explain: Explain = "facts"
    records: list[Record | str] = Field(min_length=1)


def parse_request(sent: Any, most_chars: int) -> JudgeRequest:
    """Parse a request: an object, or the record's text alone.

    Raises
    ------
    ValidationError
        It is not a request, or its record is not valid.
    InputError
        The record is longer than ``most_chars``.
    """
    if isinstance(sent, dict) and not isinstance(sent.get("record", ""), (str, dict)):
        raise InputError("`record` must be a text or an object")
    request = JudgeRequest(text=sent) if isinstance(sent, str) else JudgeRequest.model_validate(sent)
    check_record_size(request.record, most_chars)
    return request


def parse_request_fast(sent: Any, most_chars: int, raw: bytes | None = None) -> AnyRequest:
    """As `parse_request`; ``raw``: the line of a stream that it came in."""
    return parse_text_request(sent, most_chars, raw) or parse_request(sent, most_chars)


def parse_requests(sent: Any, most_chars: int) -> tuple[list[AnyRequest], bool]:
    """The requests in a JSON body, and whether the answer is an array.

    Raises
    ------
    ValidationError, InputError
        As `parse_request`; with its place, if the record is one of an array.
    """
    if isinstance(sent, list):
        if not sent:
            raise InputError("an empty array: there is nothing to judge")
        return [_at(number, item, most_chars) for number, item in enumerate(sent)], True
    if isinstance(sent, dict) and "records" in sent:
        batch = Batch.model_validate(sent)
        shared = {"source": batch.source, "explain": batch.explain}
        records = [{"text": record} if isinstance(record, str) else record.model_dump() for record in batch.records]
        return [_at(number, {**record, **shared}, most_chars) for number, record in enumerate(records)], True
    return [parse_request_fast(sent, most_chars)], False


def _at(number: int, sent: Any, most_chars: int) -> AnyRequest:
    try:
        return parse_request_fast(sent, most_chars)
    except ValidationError as error:
        raise InputError(f"record {number}: {format_validation_error(error)}") from error
    except InputError as error:
        raise InputError(f"record {number}: {error.reason}") from error


def check_record_size(record: Record, most_chars: int) -> Record:
    """The record.

    Raises
    ------
    InputError
        It is longer than ``most_chars`` in all.
    """
    fields = sum(len(name) + len(str(value)) for name, value in record.fields.items())
    # the text of a session repeats its events
    events = () if record.text == BETWEEN_EVENTS.join(record.events) else record.events
    series = "" if record.series is None else record.series.model_dump_json()
    length = len(record.text) + sum(map(len, events)) + fields + len(series) // _SERIES_CHARS
    if length > most_chars:
        raise InputError(f"a record of {length} characters; the limit is {most_chars}")
    return record


def format_validation_error(error: ValidationError) -> str:
    """The first error, with its place, in one line."""
    first: Mapping[str, Any] = error.errors(include_url=False, include_context=False, include_input=False)[0]
    parts = error_location(first["loc"])
    place, message = ".".join(parts), plain_message(first["msg"])
    if "fields" in parts[:-1]:
        # each type that a value may have has an error of its own
        message = "must be a number, a text, true, false or null"
    return f"{place}: {message}" if place else message


def plain_message(message: str) -> str:
    """What pydantic says of an error, in the words of JSON and of this interface."""
    for original, replacement in _WORDS.items():
        message = message.replace(original, replacement)
    return message


def error_location(loc: Iterable[int | str]) -> list[str]:
    """An error's place, without pydantic's names for the alternatives that it tried."""
    parts = [str(part) for part in loc if not str(part).startswith("function-")]
    # a value of a field is one of several types, of which the last was tried last
    return parts[: parts.index("fields") + 2] if "fields" in parts else parts
