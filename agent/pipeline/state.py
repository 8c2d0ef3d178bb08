"""The immutable state of one record on its way through the pipeline, and the source it is judged against."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from agent.core.prompts import PromptVariant
from agent.core.records import SIGNALS, FieldValue, Record, Signal, VerdictLabel
from agent.core.requests import LONG, Explain
from agent.data.read_options import ReadOptions
from agent.data.record_reading import as_read, dropped_fields, has_own_text, lacks_text, note_on_reading
from agent.detectors.base import DetectorInput
from agent.detectors.field_expectations import NO_FIELDS, FieldExpectations, FieldProblems
from agent.detectors.language import BatchReference
from agent.detectors.neighbours import has_known_template
from agent.scoring.fusion import Fusion, SourceModel, fuse
from llm.base import ChatBackend
from retrieval.casebook import RetrievalResult, SourceSnapshot
from retrieval.encoding.field_encoder import FieldEncoder
from retrieval.encoding.representation import Representation
from retrieval.types import NOTHING_FOUND


@dataclass(frozen=True, slots=True)
class Source:
    """A source as it was when the batch began: its row, what is decoded from it, and how its files are read.

    `normal_encoder` describes the normal cases' fields, `expectations` what those of all cases hold; both are None for
    sources without fields.
    """

    row: SourceSnapshot
    model: SourceModel
    normal_encoder: FieldEncoder | None
    representation: Representation
    expectations: FieldExpectations | None
    read_options: ReadOptions

    @classmethod
    def of(cls, row: SourceSnapshot) -> Source:
        """Decode the stored models of a source."""
        model = source_model_of(row)
        encoder = FieldEncoder.from_json(model.normal_field_encoder) if model.normal_field_encoder else None
        expected = FieldExpectations.from_json(model.field_expectations) if model.field_expectations else None
        options = ReadOptions.model_validate(row.reading or {})
        return cls(row, model, encoder, row.representation or Representation(), expected, options)


def source_model_of(row: SourceSnapshot, llm: ChatBackend | None = None) -> SourceModel:
    """The model of a source, without a batch reference that is of another brief, or of another model than ``llm``."""
    model = SourceModel.of(row.source_model, row.counts)
    if model.batch_reference is None:
        return model
    reference = BatchReference(**model.batch_reference)
    if reference.is_of_prompt(row.brief, model.prompt) and (llm is None or reference.is_of_model(llm)):
        return model
    with_llm = SourceModel.unfitted(row.counts).with_llm
    return replace(model, prompt=PromptVariant(), model=None, with_llm=with_llm, batch_reference=None)


@dataclass(frozen=True, slots=True)
class Clause:
    """The most anomalous clause of a record: the probability it gives the record, its own precedents and signals."""

    text: str
    probability: float
    retrieved: RetrievalResult
    signals: Mapping[str, Signal]


@dataclass(frozen=True, slots=True)
class JudgingState:
    """What is known of a record so far; each step returns a new state with its part added.

    Attributes
    ----------
    text, masked
        The record's comparable text, and the same with its variable parts masked.
    cache_keys
        Keys of the record's template and of its text in the cache of signals; empty if the record is not cached.
    field_scores
        Log-odds of the trees (None without trees) and of the record's outlier_score; None without a model of fields.
    complete
        Whether the signals came from the cache, so that no detector has anything to add.
    clause
        The clause that counts for the whole record, whose precedents and signals these are; None if none does.
    dropped
        Names of the fields it was sent with that are not part of the source's records.
    reading_note
        What there is to say of how it was read.
    lacks_text
        Whether it was sent with fields alone, to a source whose records are texts.
    all_read
        Whether all clauses of the text were compared, however long it is.
    whole_retrieved
        The precedents of the whole record, where those of a clause count for it.
    """

    source: Source
    record: Record
    explain: Explain
    text: str
    masked: str
    content_hash: str
    cache_keys: tuple[Hashable, ...] = ()
    retrieved: RetrievalResult = NOTHING_FOUND
    features: Mapping[str, FieldValue] = field(default_factory=dict)
    field_scores: tuple[float | None, float] | None = None
    signals: Mapping[str, Signal] = field(default_factory=dict)
    complete: bool = False
    clause: Clause | None = None
    dropped: tuple[str, ...] = ()
    reading_note: str | None = None
    lacks_text: bool = False
    all_read: bool = False
    whole_retrieved: RetrievalResult | None = None

    @classmethod
    def of(cls, source: Source, record: Record, explain: Explain) -> JudgingState:
        """The state of a record before any step; the record is the one that a file would give."""
        sent, record = record, as_read(record, source.read_options)
        options, text = source.read_options, source.representation.comparable_text(record)
        return cls(
            source,
            record,
            explain,
            text,
            source.representation.mask(text),
            record.content_hash,
            dropped=dropped_fields(sent, record, options),
            reading_note=note_on_reading(sent, record, options),
            lacks_text=lacks_text(sent, options),
        )

    @property
    def has_known_template(self) -> bool:
        """Whether a case has the record's template or content."""
        return has_known_template(self.retrieved)

    @property
    def full_masked(self) -> str:
        """The masked text with what addresses the model, which may hide a fault and instructs no model of clauses."""
        representation = self.source.representation
        text = representation.full_text(self.record)
        return self.masked if text == self.text else representation.mask(text)

    @property
    def lacks_fields(self) -> bool:
        """Whether it is a text, of a source whose cases are compared by what such a record has not: nothing is read."""
        has_none = not (self.record.fields or self.record.events)
        return has_none and self.source.representation.field_encoder is not None and not self.has_known_template

    @property
    def field_problems(self) -> FieldProblems:
        """How the fields differ from those of the cases; nothing for a record whose content is a case."""
        record, expectations = self.record, self.source.expectations
        if self.lacks_text:
            missing = self.source.read_options.table.text_column
            return FieldProblems(missing=(missing,) if missing else (), unknown=tuple(record.fields))
        if not (record.fields or record.events):
            if expectations is None or self.has_known_template:
                return FieldProblems(unknown=self.dropped)
            return expectations.problems({}, dropped=self.dropped)
        own_text = has_own_text(record)
        if expectations is None:
            reads_text = self.source.representation.field_encoder is None and not self.source.model.weighed_detectors
            if not (reads_text and own_text):
                beside = tuple(record.fields) if reads_text and record.events else ()
                return FieldProblems(unknown=(*self.dropped, *beside))
            return NO_FIELDS.problems(record.fields, record.events, dropped=self.dropped)
        if self.has_known_template:
            return FieldProblems(unknown=self.dropped)
        return expectations.problems(record.fields, record.events, own_text=own_text, dropped=self.dropped)

    @property
    def log_odds(self) -> dict[str, float | None]:
        """Log-odds by detector; None for a detector without an answer."""
        return {**dict.fromkeys(SIGNALS), **{name: signal.log_odds for name, signal in self.signals.items()}}

    @property
    def detector_input(self) -> DetectorInput:
        """The record as detectors see it."""
        return DetectorInput(self.record, self.text, self.masked, self.features, self.retrieved, self.field_scores)

    def fused(self) -> tuple[float, Fusion]:
        """The probability of *anomalous*, and the fusion that gives it."""
        probability, fusion = fuse(self.source.model, self.log_odds, self.has_known_template)
        return (self.clause.probability, fusion) if self.clause else (probability, fusion)

    @property
    def is_anomalous(self) -> bool:
        """Whether the signals so far make the record anomalous."""
        return self.label == "anomalous"

    @property
    def label(self) -> VerdictLabel:
        """The label that the signals so far give."""
        probability, fusion = self.fused()
        return fusion.label(probability)

    def with_evidence(self, retrieved: RetrievalResult, signals: Mapping[str, Signal], **changes: Any) -> JudgingState:
        """The record's state with the precedents and signals of an equivalent record."""
        return replace(self, retrieved=retrieved, signals=signals, **changes)

    def with_clause(self, clause: Clause) -> JudgingState:
        """The record's state with the evidence of one of its clauses, where that changes the label.

        A record that is unsure by itself keeps its probability, so that ordinary records rank as without clauses. Of a
        record of which only the beginning is embedded, the clause says more than the whole.
        """
        fields = {"fields": self.signals["fields"]} if "fields" in self.signals else {}
        by_clause = replace(
            self,
            retrieved=clause.retrieved,
            signals={**clause.signals, **fields},
            clause=clause,
            whole_retrieved=self.retrieved,
        )
        # the fusions with and without the language model differ in their thresholds
        changed = by_clause.label != self.label or len(self.record.text) > LONG
        counts = changed and by_clause.label != "normal" and by_clause.fused()[0] > self.fused()[0]
        return by_clause if counts else self

    def without_language(self) -> JudgingState:
        """The same state without the language model's signal, which only records that were judged before have."""
        return replace(self, signals={name: signal for name, signal in self.signals.items() if name != "language"})

    def with_language(self, signal: Signal) -> JudgingState:
        """The same state with the language model's signal."""
        return replace(self, signals={**self.signals, "language": signal})
