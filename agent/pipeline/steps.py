"""The steps of a verdict, each with its logic once; `pipeline` strings them for one record, `batch` for many.

Every step is a pure function of the hearing so far and of the source's state. Those that are cheaper for many records
at once take a list, of one source; each record's part of the answer is as if it were alone.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, TypedDict

from agent.core.errors import UnknownSource, UsageError, mapped
from agent.core.numerics import sigmoid
from agent.core.prompts import prompt_sha256
from agent.core.records import FieldValue, Precedent, Provenance, Record, Signal, Verdict, verdict_id
from agent.core.requests import HEARD_IN_PARTS, LONG, JudgeRequest
from agent.detectors.language import examples_for
from agent.detectors.neighbours import has_known_template, neighbours
from agent.detectors.novelty import novelty
from agent.detectors.persistence import FittedDetectors
from agent.detectors.tabular import fields
from agent.detectors.text_classifier import refine_with_classifier
from agent.explain.counterfactual import Perturbation, counterfactual
from agent.explain.diff import diff_events, diff_words
from agent.explain.explanation import collect_facts, facts_in_words, top_contribution, why_unsure
from agent.pipeline.context import AppContext
from agent.pipeline.llm_explanation import with_sentences
from agent.scoring.fusion import SourceModel, fuse
from llm.errors import ModelFailure
from retrieval.casebook import RetrievalResult, SourceSnapshot
from retrieval.encoding.field_encoder import FieldEncoder, features
from retrieval.encoding.representation import Representation
from retrieval.lru_cache import LRUCache
from retrieval.text.prompt_injection import find_injections

_USELESS_AUC = 0.55

# log-odds of the trees (None without any) and of the record's oddness
FieldScores = tuple[float | None, float]


class JudgingState(TypedDict, total=False):
    """What is known of a record so far; each step adds its part."""

    question: JudgeRequest
    started: float
    record: Record
    row: SourceSnapshot
    judge: SourceModel
    normal: FieldEncoder | None
    said: str
    masked: str
    content_hash: str
    memo_keys: tuple[tuple[Any, ...], ...]
    found: RetrievalResult
    features: dict[str, FieldValue]
    told: FieldScores | None
    signals: dict[str, Signal]


class _Judge(NamedTuple):
    """A source's judge, read from the row that says it."""

    said: dict[str, Any] | None
    judge: SourceModel
    normal: FieldEncoder | None


class Steps:
    """The steps, with what they remember between records. Safe to share between threads."""

    def __init__(self, context: AppContext) -> None:
        self._context = context
        self._memo: LRUCache[tuple[RetrievalResult, dict[str, Signal]]] = LRUCache(16_384)
        self._fits: LRUCache[FittedDetectors] = LRUCache(8)
        self._judges: LRUCache[_Judge] = LRUCache(64)

    def open(self, questions: Sequence[JudgeRequest]) -> list[JudgingState]:
        """Find the records' source, mask them."""
        started = time.perf_counter()
        with mapped():
            row = self._source(questions[0].source)
        judge, space = self._judge(row), row.space or Representation()
        hearings = []
        for question in questions:
            record = question.record
            said = space.comparable_text(record)
            hearing = JudgingState(
                question=question,
                started=started,
                record=record,
                row=row,
                judge=judge.judge,
                normal=judge.normal,
                said=said,
                masked=space.mask(said),
                content_hash=record.content_hash,
            )
            hearings.append(hearing)
        texts = [one["content_hash"] for one in hearings if not (one["record"].fields or one["record"].events)]
        with mapped():
            held = self._context.casebook.held(row.name, texts)
        for hearing in hearings:
            hearing["memo_keys"] = self._memo_keys(hearing, held)
        return hearings

    def _source(self, name: str | None) -> SourceSnapshot:
        names = [name] if name else self._context.casebook.names()
        row = self._context.casebook.source(names[0]) if len(names) == 1 else None
        if row is not None:
            return row
        if name:
            raise UnknownSource(name, self._context.casebook.names())
        known_names = ", ".join(names) or "none yet: `precedent learn FILE --source NAME` makes one"
        raise UsageError(f"say which source the record comes from: {known_names}")

    def _judge(self, row: SourceSnapshot) -> _Judge:
        kept = self._judges.get(row.name)
        if kept is None or kept.said is not row.judge:
            judge = SourceModel.of(row.judge, row.counts)
            kept = _Judge(row.judge, judge, FieldEncoder.from_json(judge.normal_axes) if judge.normal_axes else None)
            self._judges.put(row.name, kept)
        return kept

    # seen before?

    def _memo_keys(self, hearing: JudgingState, held: set[str]) -> tuple[tuple[Any, ...], ...]:
        """Of the record's template and of its text; none where the record must be looked at itself.

        That is where it has fields, or where the casebook holds its very content.
        """
        record, row, judge = hearing["record"], hearing["row"], hearing["judge"]
        if record.fields or record.events or hearing["content_hash"] in held:
            return ()
        template = (row.name, row.version, row.brief, judge.fitted_on, judge.model, hearing["masked"])
        return template, (*template, record.text)

    def remembered(self, hearing: JudgingState) -> bool:
        return any(key in self._memo for key in hearing["memo_keys"])

    def recall(self, hearing: JudgingState) -> JudgingState:
        found, signals = next(kept for key in hearing["memo_keys"] if (kept := self._memo.get(key)))
        return JudgingState(**{**hearing, "found": found, "signals": signals})

    def remember(self, hearing: JudgingState) -> JudgingState:
        signals = hearing["signals"].values()
        if hearing["memo_keys"] and all(one.log_odds is not None or not one.degraded for one in signals):
            template, text = hearing["memo_keys"]
            whole = not hearing["judge"].by_text or has_known_template(hearing["found"])
            self._memo.put(template if whole else text, (hearing["found"], hearing["signals"]))
        return hearing

    # the witnesses

    def retrieve(self, hearings: Sequence[JudgingState]) -> list[JudgingState]:
        name, k = hearings[0]["row"].name, self._context.settings.precedents
        with mapped():
            founds = self._context.casebook.find_many(
                name, [(one["record"], one["content_hash"]) for one in hearings], k
            )
        return [JudgingState(**{**one, "found": found}) for one, found in zip(hearings, founds, strict=True)]

    def score_fields(self, hearings: Sequence[JudgingState]) -> list[JudgingState]:
        """What the records' fields and events say, where there is a model of them."""
        records = [one["record"] for one in hearings]
        rows = [features(record.fields, record.events) for record in records]
        # loading the models takes longer than judging texts of known templates
        model = self._fitted(hearings[0]["row"]).fields if any(rows) else None
        told = model.signals(rows, [record.events for record in records]) if model else [None] * len(rows)
        return [
            JudgingState(**{**one, "features": row, "told": measured})
            for one, row, measured in zip(hearings, rows, told, strict=True)
        ]

    def neighbours(self, hearings: Sequence[JudgingState]) -> list[Signal]:
        row, founds = hearings[0]["row"], [one["found"] for one in hearings]
        texts = [(one["masked"], one["said"]) for one in hearings]
        model = None if all(map(has_known_template, founds)) else self._fitted(row).texts
        return refine_with_classifier([neighbours(found) for found in founds], model, founds, texts)

    def novelty(self, hearing: JudgingState) -> Signal:
        space, record, judge = hearing["row"].space or Representation(), hearing["record"], hearing["judge"]
        normal = next((near.case for near in hearing["found"].nearest if near.case.label == "normal"), None)
        unlike = None
        if normal and record.events:
            unlike = diff_events(record.events, normal.events)
        elif normal and space.field_encoder is None:
            unlike = diff_words(hearing["masked"], space.masked(normal))
        signal, told = novelty(hearing["found"], judge.nn_distance_quantiles, judge.keys, unlike), hearing["told"]
        if space.field_encoder is None or told is None:
            return signal
        # with no trees, oddness is what `fields` says
        return signal.model_copy(update={"log_odds": told[1] if told[0] is not None else None})

    def fields(self, hearing: JudgingState) -> Signal:
        told, row = hearing["told"], hearing["features"]
        model = self._fitted(hearing["row"]).fields if row else None
        log_odds = None if told is None else told[1] if told[0] is None else told[0]
        return fields(model, log_odds, row, hearing["record"].events, hearing["normal"])

    def _fitted(self, row: SourceSnapshot) -> FittedDetectors:
        key = (row.name, row.judge["fitted_on"] if row.judge else None)
        if key not in self._fits:
            packed = self._context.casebook.models(row.name)
            self._fits.put(key, FittedDetectors.loads(packed) if packed else FittedDetectors())
        return self._fits.get(key) or FittedDetectors()

    def collect_signals(self, heard: dict[str, Any]) -> JudgingState:
        signals = {name: signal for name, signal in heard.items() if name != "hearing"}
        hearing: JudgingState = heard["hearing"]
        return JudgingState(**{**hearing, "signals": signals})

    def llm_may_decide(self, hearing: JudgingState) -> bool:
        """Whether the language model's word may change the answer: not for known templates, nor clear cases."""
        if has_known_template(hearing["found"]):
            return False
        judge, row = hearing["judge"], hearing["row"]
        if (
            row.space is not None
            and row.space.field_encoder is not None
            and hearing["signals"]["fields"].log_odds is not None
        ):
            return False
        if judge.language_auc is not None and judge.language_auc < _USELESS_AUC:
            return False
        return judge.language_may_decide(_log_odds(hearing["signals"]))

    def ask_language_model(self, hearing: JudgingState) -> JudgingState:
        row, judge = hearing["row"], hearing["judge"]
        try:
            witness = self._context.language_detector()
        except ModelFailure as error:
            signal = Signal(degraded=str(error))
        else:
            near = [(one.similarity, one.case) for one in hearing["found"].nearest]
            way = judge.prompt_for(witness.model.name)
            signal = witness.query(row.brief, hearing["masked"], way, examples_for(near) if way.examples else ())
        return with_language_signal(hearing, signal)

    # the answer

    def most_anomalous_segment(self, heard: list[JudgingState]) -> JudgingState:
        """The most anomalous piece speaks for the whole record."""

        def probability(hearing: JudgingState) -> float:
            return fuse(hearing["judge"], _log_odds(hearing["signals"]), has_known_template(hearing["found"]))[0]

        whole, worst = heard[0], max(heard, key=probability)
        if has_known_template(whole["found"]) and not find_injections(whole["record"].text):
            return whole
        return JudgingState(**{**whole, "found": worst["found"], "signals": worst["signals"]})

    def decide(self, hearing: JudgingState) -> tuple[JudgingState, Verdict]:
        signals, row, found = hearing["signals"], hearing["row"], hearing["found"]
        log_odds = _log_odds(signals)
        probability, fusion = fuse(hearing["judge"], log_odds, has_known_template(found))
        degraded = _degraded(hearing)
        if any("not read" in one for one in degraded):
            # what was not read may hold anything
            probability = max(probability, sigmoid(fusion.threshold))
        if _foreign(hearing) and fusion.label(probability) == "normal":
            fusion = fusion.widened_to(probability)
        model = self._context.language_detector().model if log_odds["language"] is not None else None
        provenance = Provenance(
            model=model.name if model else None,
            model_sha256=model.sha256 if model else None,
            prompt_sha256=prompt_sha256(),
            casebook_version=row.version,
        )
        verdict = Verdict(
            id=verdict_id(row.name, hearing["record"], provenance),
            source=row.name,
            label=fusion.label(probability),
            probability=probability,
            unsure_band=fusion.band,
            explanation="",
            precedents=tuple(
                Precedent(
                    case_id=near.case.case_id,
                    label=near.case.label,
                    similarity=near.similarity,
                    text=near.case.text,
                )
                for near in found.nearest
            ),
            signals=log_odds,
            record=hearing["record"],
            provenance=provenance,
            degraded=degraded,
            elapsed_ms=1000 * (time.perf_counter() - hearing["started"]),
        )
        return hearing, verdict

    def explain(self, decided: tuple[JudgingState, Verdict]) -> Verdict:
        hearing, verdict = decided
        how = hearing["question"].explain
        if how == "none":
            return verdict
        facts = self._facts(hearing, verdict)
        told = facts_in_words(verdict.label, verdict.probability, facts)
        verdict = verdict.model_copy(update={"explanation": told})
        if how == "llm":
            verdict = with_sentences(self._context, verdict, hearing["row"].brief, facts, hearing["masked"])
        return verdict.model_copy(update={"elapsed_ms": 1000 * (time.perf_counter() - hearing["started"])})

    def _facts(self, hearing: JudgingState, verdict: Verdict) -> list[str]:
        record, row, judge = hearing["record"], hearing["row"], hearing["judge"]
        fusion = judge.fusion_for(verdict.signals, has_known_template(hearing["found"]))
        telling = [top_contribution(fusion, verdict.signals, verdict.label)]
        if verdict.label == "unsure":
            telling.insert(0, why_unsure(fusion, verdict.probability))
        normal = hearing["normal"]
        weighed = verdict.signals["fields"] is not None and fusion.weights.get("fields")
        model = self._fitted(row).fields if weighed else None
        if model and normal and verdict.label != "normal" and not find_injections(record.text):
            retrial = Perturbation(record, model, judge, verdict.signals, partial(self._would_be_normal, hearing))
            telling.append(counterfactual(retrial, normal, (row.space or Representation()).prose))
        return collect_facts(record.text, telling, hearing["signals"])

    def _would_be_normal(self, hearing: JudgingState, record: Record) -> bool:
        """Whether the same witnesses find ``record`` normal; not where the language model's word would be needed."""
        moved = JudgingState(**{**hearing, "record": record, "content_hash": record.content_hash})
        space = moved["row"].space or Representation()
        moved["said"] = space.comparable_text(record)
        moved["masked"] = space.mask(moved["said"])
        (moved,) = self.score_fields(self.retrieve([moved]))
        moved["signals"] = {
            "neighbours": self.neighbours([moved])[0],
            "novelty": self.novelty(moved),
            "fields": self.fields(moved),
        }
        if self.llm_may_decide(moved):
            heard = hearing["signals"].get("language", Signal())
            if heard.log_odds is None or moved["masked"] != hearing["masked"]:
                return False
            moved["signals"]["language"] = heard
        probability, fusion = fuse(moved["judge"], _log_odds(moved["signals"]), has_known_template(moved["found"]))
        return fusion.label(probability) == "normal" and not _foreign(moved)


def with_language_signal(hearing: JudgingState, signal: Signal) -> JudgingState:
    """The hearing, and what the language model says of it, or why it says nothing."""
    return JudgingState(**{**hearing, "signals": {**hearing["signals"], "language": signal}})


def _foreign(hearing: JudgingState) -> bool:
    """Whether the record is a text farther from every case than any case is from the others.

    Whatever the witnesses say of it, nobody has said that such texts are normal.
    """
    found, distances, space = (
        hearing["found"],
        hearing["judge"].nn_distance_quantiles,
        hearing["row"].space or Representation(),
    )
    if not found.nearest or not distances or space.field_encoder is not None or has_known_template(found):
        return False
    return 1 - found.nearest[0].similarity > distances[-1]


def _degraded(hearing: JudgingState) -> tuple[str, ...]:
    row, record = hearing["row"], hearing["record"]
    said = [f"{name}: {one.degraded}" for name, one in sorted(hearing["signals"].items()) if one.degraded]
    if len(record.text) > HEARD_IN_PARTS and not (
        record.fields or record.events or has_known_template(hearing["found"])
    ):
        said.append(f"neighbours: the record is long, what follows its first {LONG} characters was not read")
    if any(row.counts.values()) and not row.judge:
        said.insert(0, f"fusion: these cases were never fitted: `precedent sources rebuild {row.name}`")
    return tuple(said)


def _log_odds(signals: dict[str, Signal]) -> dict[str, float | None]:
    return {
        name: signals[name].log_odds if name in signals else None
        for name in ("language", "neighbours", "novelty", "fields")
    }
