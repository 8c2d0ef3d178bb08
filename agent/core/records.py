"""Record, case, verdict, and their parts."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema, WithJsonSchema

from agent.core.errors import translate
from agent.core.json_schemas import HAS_CONTENT, SERIES_START, SERIES_VALUES, IsoTime
from agent.core.numerics import expit, logit


def verdict_id(source: str, record: Record, provenance: Provenance) -> str:
    """The verdict's id, a hash of the source, the record's place and content, and the provenance."""
    return verdict_id_of(source, record.file, record.line, record.content_hash, provenance.model_dump_json())


def verdict_id_of(source: str, file: str | None, line: int | None, content_hash: str, provenance: str) -> str:
    """As `verdict_id`, from the parts of the record and the provenance as JSON."""
    identity = (source, file, line, content_hash, provenance)
    return "v" + hashlib.sha256(repr(identity).encode()).hexdigest()[:32]


Label = Literal["normal", "anomalous"]
VerdictLabel = Literal["normal", "anomalous", "unsure"]
LABELS: tuple[Label, ...] = get_args(Label)
VERDICT_LABELS: tuple[str, ...] = get_args(VerdictLabel)
FieldValue = float | str | bool | None
# built-in signals, in every verdict; installed detectors add others, whose names match
SIGNALS = ("language", "neighbours", "novelty", "fields")
SIGNAL_NAME = r"[a-z][a-z0-9_]{0,62}"


# NUL cannot be stored in PostgreSQL, a lone surrogate cannot be encoded as UTF-8; JSON can spell both
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
# colours, cursor movements, titles and links of terminals
ANSI_SEQUENCE = "\x1b(?:\\[[0-?]*[ -/]*[@-~]|\\][^\x07\x1b\n]*(?:\x07|\x1b\\\\))"
_ANSI = re.compile(ANSI_SEQUENCE)


def clean_text(text: str) -> str:
    """Remove the control sequences of terminals, and replace what a store or UTF-8 cannot hold by U+FFFD.

    That is NUL and lone surrogates; a pair of surrogates is one character.

    Every entry point uses this function, so a record has the same content hash wherever it comes from.
    """
    if "\x1b" in text:
        text = _ANSI.sub("", text)
    if (text.isascii() and "\0" not in text) or not _UNSTORABLE.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").replace("\0", "\ufffd")


def _clean_fields(fields: dict[str, FieldValue]) -> dict[str, FieldValue]:
    """Clean names and texts; of what JSON has no numbers for, NaN becomes ``None`` and an infinity its name."""
    cleaned: dict[str, FieldValue] = {}
    for name, value in fields.items():
        if isinstance(value, str):
            value = clean_text(value)
        elif isinstance(value, float) and not math.isfinite(value):
            value = None if math.isnan(value) else str(value)
        cleaned[clean_text(name)] = value
    return cleaned


# values of one window of a series, of all its columns
MAX_SERIES_VALUES = 100_000
# the first and the last second that `datetime` has, since 1970; the largest time where there is no calendar
CALENDAR, _LARGEST_NUMBER = (-62_135_596_800.0, 253_402_300_799.0), 1e15
_PLAIN_NUMBER = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]{1,9})?")
SeriesValue = Annotated[float, Field(allow_inf_nan=False, strict=True)] | None
CleanText = Annotated[str, AfterValidator(clean_text)]
LineNumber = Annotated[int, Field(ge=1, le=2**31 - 1)]
CleanFields = Annotated[dict[str, FieldValue], AfterValidator(_clean_fields)]


def content_hash(
    text: str, fields: Mapping[str, FieldValue], events: Sequence[str], series: Mapping[str, Any] | None = None
) -> str:
    """SHA-256 (hex) of the content of a record with these parts."""
    parts = [text, fields, events] if series is None else [text, fields, events, series]
    content = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


BETWEEN_EVENTS = " ; "


def with_session_text(parts: Any) -> Any:
    """The parts of a record as they were sent; a session without a text gets the one that it has in a file."""
    if not isinstance(parts, dict) or parts.get("text"):
        return parts
    events = parts.get("events")
    is_session = isinstance(events, list | tuple) and all(isinstance(event, str) for event in events)
    return {**parts, "text": BETWEEN_EVENTS.join(events)} if events and is_session else parts


class Series(_Frozen):
    """A window of a time series: its values at equal distances.

    Parameters
    ----------
    start : str
        Time of the first point: ISO 8601, or a number where the series has no calendar.
    step : float
        Seconds from one point to the next, or the unit of ``start`` where that is a number.
    values : dict
        By name, equally many values, None where there is none.
    key : str
        Which of several series it is of.
    """

    start: Annotated[CleanText, WithJsonSchema(SERIES_START)]
    step: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    values: Annotated[
        dict[CleanText, Annotated[tuple[SeriesValue, ...], WithJsonSchema(SERIES_VALUES)]], Field(min_length=1)
    ]
    key: CleanText = ""

    @model_validator(mode="after")
    def _is_regular(self) -> Series:
        lengths = {len(values) for values in self.values.values()}
        if len(lengths) > 1 or min(lengths) < 2:
            raise ValueError("a series has equally many values under each name, and at least 2")
        if len(self) * len(self.values) > MAX_SERIES_VALUES:
            raise ValueError(f"a window of a series has at most {MAX_SERIES_VALUES:,} values")
        if self.begins is None:
            raise ValueError(f"{self.start!r} is neither a time in ISO 8601 nor a number")
        first, last = CALENDAR if self.has_calendar else (-_LARGEST_NUMBER, _LARGEST_NUMBER)
        if not first <= self.begins <= self.begins + self.step * (len(self) - 1) <= last:
            years = "the years 1 and 9999" if self.has_calendar else f"{first:g} and {last:g}"
            raise ValueError(f"the times of a series are between {years}")
        return self

    def __len__(self) -> int:
        return len(next(iter(self.values.values())))

    @property
    def has_calendar(self) -> bool:
        """Whether its times are those of a calendar."""
        return not _PLAIN_NUMBER.fullmatch(self.start)

    @property
    def begins(self) -> float | None:
        """Time of the first point in seconds since 1970, or as it is where there is no calendar."""
        if not self.has_calendar:
            return float(self.start)
        try:
            moment = datetime.fromisoformat(self.start)
        except ValueError:
            return None
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


class Record(_Frozen):
    """One thing to judge.

    ``text`` is what a person reads; ``fields`` are its numbers and categories, when it has any; ``events``
    are the ordered events of a session, which make its text where that is missing. ``file`` and ``line`` (from 1) say
    where it stood.
    """

    model_config = ConfigDict(json_schema_extra=HAS_CONTENT)

    text: CleanText = ""
    fields: CleanFields = Field(default_factory=dict)
    events: tuple[CleanText, ...] = ()
    file: CleanText | None = None
    line: LineNumber | None = None
    time: CleanText | None = None
    series: Series | None = None

    _complete = model_validator(mode="before")(with_session_text)

    @model_validator(mode="after")
    def _is_not_empty(self) -> Record:
        if not (self.text.strip() or self.fields or self.events or self.series):
            raise ValueError("an empty record: it has no text, no fields and no events")
        return self

    @property
    def content_hash(self) -> str:
        """A hash of text, fields, events and series, without the place: the identity of a case."""
        series = None if self.series is None else self.series.model_dump(mode="json")
        return content_hash(self.text, self.fields, self.events, series)

    @model_serializer(mode="wrap")
    def _without_absent_parts(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        data: dict[str, Any] = handler(self)
        if not self.events:
            data.pop("events", None)
        if self.series is None:
            data.pop("series", None)
        return data


class Case(_Frozen):
    """A record with a label, who gave it, and when."""

    record: Record
    label: Label
    given_by: str = "file"
    given_at: IsoTime | None = None
    case_id: str | None = None


class Precedent(_Frozen):
    """A case that was retrieved for a record; ``similarity`` is the cosine, 1 for the same masked text."""

    case_id: str
    label: Label
    similarity: Annotated[float, Field(ge=-1.0, le=1.0)]
    text: str


class Signal(_Frozen):
    """One detector's log-odds (natural log) that the record is anomalous; ``None``: it was not used or gave no answer.

    ``facts`` are texts for the explanation; ``degraded`` is the reason why there is no answer or only a partial one;
    ``truncated``: a part of the record was not read.
    """

    log_odds: float | None = None
    facts: tuple[str, ...] = ()
    degraded: str | None = None
    truncated: bool = False


class Provenance(_Frozen):
    """Models, prompts and casebook behind a verdict: the same provenance and record give the same verdict.

    ``batch_sha256`` is only there for verdicts by a model that was adapted to a batch of records.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model: str | None
    model_sha256: str | None
    prompt_sha256: str
    casebook_version: int
    batch_sha256: str | None = Field(default=None, exclude_if=lambda value: value is None)


class Verdict(_Frozen):
    """The answer: label, calibrated probability of *anomalous*, explanation and precedents.

    Between the two ends of ``unsure_band`` the label is ``unsure``; on the log-odds scale the threshold is in
    its middle. ``degraded`` names each detector that could not be used, as ``"detector: reason"``.
    """

    id: str
    source: str
    label: VerdictLabel
    probability: Annotated[float, Field(ge=0.0, le=1.0)]
    unsure_band: tuple[float, float]
    explanation: str
    precedents: tuple[Precedent, ...] = ()
    signals: dict[str, float | None]
    record: Record
    provenance: Provenance
    degraded: tuple[str, ...] = ()
    elapsed_ms: float
    # joined in the explanation; kept in the history, and not part of the JSON
    facts: SkipJsonSchema[tuple[str, ...]] = Field(default=(), exclude=True)

    @field_validator("signals")
    @classmethod
    def _has_built_in_signals(cls, signals: dict[str, float | None]) -> dict[str, float | None]:
        if missing := [name for name in SIGNALS if name not in signals]:
            raise ValueError(f"signals lack {', '.join(missing)}")
        if wrong := [name for name in signals if not re.fullmatch(SIGNAL_NAME, name)]:
            raise ValueError(f"not names of signals: {', '.join(wrong)}")
        return signals

    @property
    def threshold(self) -> float:
        """The middle of the unsure band, in log-odds: the source's limit between normal and anomalous."""
        low, high = map(logit, self.unsure_band)
        return float(low + high) / 2

    @property
    def leans(self) -> Label:
        """The label; of an unsure verdict, the label of the half of the band that its probability is in."""
        if self.label != "unsure":
            return self.label
        return "anomalous" if self.probability >= expit(self.threshold) else "normal"

    def to_stored(self) -> dict[str, Any]:
        """As the history stores it; `model_validate` reads it."""
        return {**self.model_dump(mode="json"), "facts": self.facts}

    def to_json(self) -> str:
        """One line of JSON, keys as in the contract."""
        return json.dumps(self.model_dump(mode="json"), ensure_ascii=False)


# how the reason begins why a record that needs a label cannot be learned
NO_LABEL = "no label in column"


@dataclass(frozen=True)
class JudgeError:
    """A record that could not be judged, and the reason."""

    record: Record
    reason: str

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.record.file, self.record.line) if part is not None)
        return f"{place}: {self.reason}" if place else self.reason


@dataclass(frozen=True, slots=True)
class Deferred:
    """A verdict that the language model could still change, but has not been queried for."""

    verdict: Verdict


def as_result(record: Record, answer: Verdict | Exception) -> Verdict | JudgeError:
    """The pipeline's outcome for a record as a result; an error that concerns all records is raised."""
    if isinstance(answer, (ValueError, ArithmeticError)):
        return JudgeError(record, f"could not be judged: {answer}")
    if isinstance(answer, Exception):
        raise translate(answer) or answer
    return answer
