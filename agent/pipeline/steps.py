"""The steps from a request to its signals. `pipeline` puts them in order.

A step takes states and gives new ones. Those that are cheaper for many records take a list of states of one
source; the result for a record does not depend on the others in the list.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from agent.core.errors import DetectorError
from agent.core.numerics import expit, logit
from agent.core.records import Record, Signal
from agent.core.requests import JudgeRequest
from agent.core.tracing import traced
from agent.data.record_reading import as_read
from agent.detectors.base import DetectorInput, Scorer
from agent.detectors.contrib.resources import Resources
from agent.detectors.fields import FieldsDetector
from agent.detectors.language import SourceLanguageDetector
from agent.detectors.lora import SourceAdapter
from agent.detectors.neighbours import NeighboursDetector
from agent.detectors.novelty import SAME_KIND, NoveltyDetector
from agent.detectors.persistence import FittedDetectors
from agent.explain.diff import diff_events, diff_words
from agent.pipeline.context import AppContext
from agent.pipeline.known_texts import KnownTexts
from agent.pipeline.redacted_requests import redacted_request
from agent.pipeline.state import Clause, JudgingState, Source, source_model_of
from llm.errors import ModelFailure
from retrieval.casebook import RetrievalResult, SourceSnapshot
from retrieval.encoding.field_encoder import features
from retrieval.lru_cache import LRUCache
from retrieval.text.prompt_injection import find_injections

if TYPE_CHECKING:
    from agent.detectors.tabular import TabularModel

_CACHED_RECORDS, _CACHED_SOURCES = 16_384, 64


class _Fitted(NamedTuple):
    """Fitted detectors, the stored bytes they were loaded from, and the source's revision then."""

    revision: int
    packed: bytes | None
    detectors: FittedDetectors


class Steps:
    """The steps, with their caches. Safe to share between threads."""

    def __init__(self, context: AppContext) -> None:
        self._context = context
        self._evidence: LRUCache[tuple[RetrievalResult, dict[str, Signal]]] = LRUCache(_CACHED_RECORDS)
        self._sources: LRUCache[Source] = LRUCache(_CACHED_SOURCES)
        self._fits: LRUCache[_Fitted] = LRUCache(8)
        self._clauses: LRUCache[tuple[Clause | None]] = LRUCache(_CACHED_RECORDS)
        self._known_texts = KnownTexts(context)

    def redacted(self, row: SourceSnapshot, requests: Sequence[JudgeRequest]) -> list[JudgeRequest]:
        """The requests of one source with placeholders, if it is redacted."""
        redactor = self._source(row).read_options.redactor
        return [redacted_request(request, redactor) for request in requests]

    @traced("prepare")
    def prepare(self, row: SourceSnapshot, requests: Sequence[JudgeRequest]) -> list[JudgingState]:
        """Mask the records, and derive their cache keys."""
        source = self._source(row)
        states = [JudgingState.of(source, request.record, request.explain) for request in requests]
        plain = [state.content_hash for state in states if not (state.record.fields or state.record.events)]
        case_hashes = self._context.casebook.hashes_of_cases(source.row.name, plain)
        return [replace(state, cache_keys=_cache_keys(state, case_hashes)) for state in states]

    def recall(self, state: JudgingState) -> JudgingState | None:
        """The state with the cached precedents and signals of an equivalent record; None if there are none."""
        if state.complete:
            return state
        for key in state.cache_keys:
            if (cached := self._evidence.get(key)) is not None:
                return state.with_evidence(*cached, complete=True)
        return None

    def remember(self, state: JudgingState) -> JudgingState:
        """Cache the evidence, unless a detector failed that may succeed next time."""
        signals = state.signals.values()
        if state.cache_keys and all(signal.log_odds is not None or not signal.degraded for signal in signals):
            template, text = state.cache_keys
            shared = not state.source.model.by_text or state.has_known_template
            self._evidence.put(template if shared else text, (state.retrieved, dict(state.signals)))
        return state

    def score(self, states: Sequence[JudgingState]) -> list[JudgingState]:
        """Add precedents and the signals of all detectors but the language model."""
        return self.collect_signals(self.score_fields(self.retrieve(states))) if states else []

    @traced("compare_clauses")
    def compare_clauses(self, states: Sequence[JudgingState]) -> list[tuple[JudgingState, Clause | None]]:
        """The states of records of one source, and the most anomalous clause of each; None where none could count.

        Only texts longer than a clause or two that are no known template, in sources with a model of clauses, are
        compared: `JudgingState.all_read` says which. Of others, the text of an anomalous case in them is a clause.
        """
        texts = [self._text_to_compare(state) for state in states]
        row = states[0].source.row
        keys = {
            number: (row.name, row.revision, text)
            for number, (state, text) in enumerate(zip(states, texts, strict=True))
            if text is not None and not state.without_language().is_anomalous
        }
        found = {key: self._clauses.get(key) for key in keys.values()}
        new = [key for key, clause in found.items() if clause is None]
        most_anomalous = self._most_anomalous_clauses(states[0].source, [text for *_, text in new])
        for key, clause in zip(new, most_anomalous, strict=True):
            found[key] = (clause,)
            self._clauses.put(key, (clause,))
        clauses: list[Clause | None] = [None] * len(states)
        for number, key in keys.items():
            if cached := found[key]:
                (clauses[number],) = cached
        for number, (state, text) in enumerate(zip(states, texts, strict=True)):
            if text is None and not state.without_language().is_anomalous:
                clauses[number] = self._known_part(state)
        return [
            (replace(state, all_read=text is not None), clause)
            for state, text, clause in zip(states, texts, clauses, strict=True)
        ]

    def _known_part(self, state: JudgingState) -> Clause | None:
        """The text of an anomalous case inside of a record, as a clause."""
        part = self._known_texts.anomalous_part(state)
        if part is None:
            return None
        (scored,) = self.score([JudgingState.of(state.source, Record(text=part), "none")])
        return Clause(scored.masked, scored.fused()[0], scored.retrieved, scored.signals)

    def is_known_normal(self, request: JudgeRequest) -> bool:
        """Whether the very text of a request is that of normal cases, with what is taken for a prompt injection."""
        source = self._source(self._context.source(request.source))
        return self._known_texts.is_normal(source, as_read(request.record, source.read_options))

    def _most_anomalous_clauses(self, source: Source, masked: Sequence[str]) -> list[Clause | None]:
        """The most anomalous clause of each masked text."""
        model = self._fitted(source).clauses if masked else None
        found = [
            (number, suspicion, text)
            for number, of_record in enumerate(masked)
            for suspicion in (model.suspicions(of_record) if model else ())
            for text in suspicion.records
        ]
        texts = list(dict.fromkeys(text for *_, text in found))
        records = [JudgingState.of(source, Record(text=text), "none") for text in texts]
        scored_texts = dict(zip(texts, self.score(records), strict=True))
        clauses: list[Clause | None] = [None] * len(masked)
        for number, suspicion, text in found:
            scored = scored_texts[text]
            probability, fusion = scored.fused()
            if not scored.has_known_template:
                of_record = logit(probability) - fusion.threshold
                probability = expit(fusion.threshold + suspicion.combined(of_record, fusion.half_width))
            best = clauses[number]
            if best is None or probability > best.probability:
                clauses[number] = Clause(suspicion.clause, probability, scored.retrieved, scored.signals)
        return clauses

    def _text_to_compare(self, state: JudgingState) -> str | None:
        """The masked text whose clauses are compared with those of the source's cases; None if they are not."""
        is_text = state.source.representation.field_encoder is None and not state.record.events
        is_text = is_text and state.source.model.only is None
        if not is_text or (state.has_known_template and not find_injections(state.record.text)):
            return None
        from retrieval.text.clauses import is_long

        masked = state.full_masked
        return masked if is_long(masked) and self._fitted(state.source).clauses is not None else None

    def has_clauses(self, request: JudgeRequest) -> bool:
        """Whether the request's source has a model of clauses."""
        source = self._source(self._context.source(request.source))
        return self._fitted(source).clauses is not None

    @traced("retrieve")
    def retrieve(self, states: Sequence[JudgingState]) -> list[JudgingState]:
        """Search the casebook for the nearest cases of each label."""
        records = [(state.record, state.content_hash) for state in states]
        row, k = states[0].source.row, self._context.settings.precedents
        results = self._context.casebook.find_many(row, records, k)
        return [replace(state, retrieved=retrieved) for state, retrieved in zip(states, results, strict=True)]

    @traced("score_fields")
    def score_fields(self, states: Sequence[JudgingState]) -> list[JudgingState]:
        """Score the records' fields and events, where the source has a model of them."""
        rows = [features(state.record.fields, state.record.events) for state in states]
        # loading the models takes longer than judging texts of known templates
        model = self._fitted(states[0].source).fields if any(rows) else None
        scores = model.signals(rows, [state.record.events for state in states]) if model else [None] * len(rows)
        return [
            replace(state, features=row, field_scores=score)
            for state, row, score in zip(states, rows, scores, strict=True)
        ]

    @traced("collect_signals")
    def collect_signals(self, states: Sequence[JudgingState]) -> list[JudgingState]:
        """Add the signals of all detectors but the language model."""
        records = [state.detector_input for state in states]
        columns = {detector.name: detector.score(records) for detector in self._detectors(states[0].source)}
        return [
            replace(state, signals={name: signals[i] for name, signals in columns.items()})
            for i, state in enumerate(states)
        ]

    def _detectors(self, source: Source) -> list[Scorer]:
        """The source's detectors; the fitted ones are loaded when they are needed."""
        model, fitted = source.model, partial(self._fitted, source)
        by_fields = source.representation.field_encoder is not None
        return [
            NeighboursDetector(
                lambda: fitted().texts,
                model.content_pseudo_counts,
                max(model.nn_distance_quantiles, default=math.inf),
            ),
            NoveltyDetector(model.nn_distance_quantiles, model.templates, by_fields, partial(_difference, source)),
            FieldsDetector(lambda: fitted().fields, source.normal_encoder, source.read_options.table.durations),
            *(fitted().installed if model.detectors else ()),
        ]

    def llm_may_decide(self, state: JudgingState) -> bool:
        """Whether the language model could change the label: not for known templates, nor for clear cases.

        How clear a case is tells little about records of a new kind: what the other detectors learned is about others.
        """
        encoder = state.source.representation.field_encoder
        if state.has_known_template or (encoder is not None and state.signals["fields"].log_odds is not None):
            return False
        model, nearest = state.source.model, state.retrieved.nearest
        if model.language_unused is None and nearest and nearest[0].similarity < SAME_KIND:
            return True
        return model.language_may_decide(state.log_odds)

    @traced("query_language_model")
    def query_language_model(self, state: JudgingState) -> JudgingState:
        """Add the language model's signal, or the reason why there is none."""
        try:
            detector = self._context.language_detector(state.source.row)
        except ModelFailure as error:
            return state.with_language(Signal(degraded=str(error)))
        source, name = state.source, detector.model.name
        prompt = source.model.prompt_for(name)
        if prompt is None:
            tried = f"{name} was not tried on this source's cases, {source.model.model} was: "
            adapter = SourceAdapter.of(source.row.source_model)
            if adapter is None or detector.model.adapter_sha256 == adapter.sha256:
                tried += "run `precedent learn` again"
            else:
                tried += f"it is without the source's adapter; `precedent ollama create --source {source.row.name}` "
                tried += "makes a model that has it, `precedent sources rebuild` fits the source to a model without"
            return state.with_language(Signal(degraded=f"not queried: {tried}"))
        language = SourceLanguageDetector(detector, source.row.brief, prompt, source.representation.masked)
        (signal,) = language.score([state.detector_input])
        return state.with_language(signal)

    def fitted_source(self, name: str) -> tuple[Source, FittedDetectors]:
        """A source as it is now, and what was fitted to it."""
        source = self._source(self._context.source(name))
        return source, self._fitted(source)

    def field_model(self, state: JudgingState) -> TabularModel | None:
        """The source's fitted model of fields."""
        return self._fitted(state.source).fields

    def _source(self, row: SourceSnapshot) -> Source:
        cached = self._sources.get(row.name)
        if cached is None or cached.row.revision != row.revision:
            cached = Source.of(row)
            if cached.model.batch_reference is not None:
                # without a language model its reference does not matter
                with suppress(ModelFailure):
                    llm = self._context.language_detector(row).model
                    cached = replace(cached, model=source_model_of(row, llm))
            self._sources.put(row.name, cached)
        return cached

    def _fitted(self, source: Source) -> FittedDetectors:
        name, revision = source.row.name, source.row.revision
        cached = self._fits.get(name)
        if cached is None or cached.revision != revision:
            packed = self._context.models(name)
            # loading takes long, and most changes of a source leave its fitted detectors as they are
            if cached is None or cached.packed != packed:
                resources = self._context.detector_resources(source.row)
                cached = _Fitted(revision, packed, _load_detectors(name, packed, resources))
            cached = cached._replace(revision=revision)
            self._fits.put(name, cached)
        return cached.detectors


def _load_detectors(source: str, packed: bytes | None, resources: Resources) -> FittedDetectors:
    if packed is None:
        return FittedDetectors()
    try:
        # CPython 3.11 raises it wrongly where two threads read headers of arrays at once (gh-106905)
        with suppress(SystemError):
            return FittedDetectors.loads(packed, resources)
        return FittedDetectors.loads(packed, resources)
    except DetectorError:
        raise
    except Exception as error:
        # of numpy, zipfile, skops and scikit-learn, about models that another version stored: they have no common class
        raise DetectorError(
            f"the fitted models of source {source!r} cannot be read ({type(error).__name__}: {error})",
            f"`precedent sources rebuild {source}` fits them again",
        ) from error


def _cache_keys(state: JudgingState, case_hashes: set[str]) -> tuple[Hashable, ...]:
    """Keys of the record's template and of its text.

    None for records with fields or events, nor for those whose very content is a case.
    """
    record, row = state.record, state.source.row
    if record.fields or record.events or state.content_hash in case_hashes:
        return ()
    template = (row.name, row.revision, state.masked)
    return template, (*template, record.text)


def _difference(source: Source, record: DetectorInput) -> str | None:
    """How a record differs from its nearest normal case, in words."""
    normal = next((near.case for near in record.found.nearest if near.case.label == "normal"), None)
    if normal and record.record.events:
        return diff_events(record.record.events, normal.events)
    if normal and source.representation.field_encoder is None:
        return diff_words(record.masked, source.representation.masked(normal))
    return None
