"""From signals to the verdict: the segment that counts, the label, and the explanation."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from agent.core.numerics import expit
from agent.core.prompts import prompt_sha256
from agent.core.records import Precedent, Provenance, Record, Verdict, VerdictLabel, verdict_id
from agent.core.requests import LONG, LONGEST_SPLIT
from agent.detectors.field_expectations import FieldProblems, filled_in
from agent.detectors.neighbours import label_disagreement
from agent.detectors.novelty import FEW_TEMPLATES, is_unfamiliar, resembles_none
from agent.explain.explanation import collect_facts, facts_in_words, top_contribution, why_by_clause, why_unsure
from agent.pipeline.context import AppContext
from agent.pipeline.llm_explanation import with_sentences
from agent.pipeline.state import JudgingState
from agent.pipeline.steps import Steps
from agent.scoring.fusion import Fusion, fuse
from retrieval.encoding.field_encoder import EventCount, features
from retrieval.store.erasure import knows_erased
from retrieval.text.content import says_nothing
from retrieval.text.kept_numbers import PlacedNumber, place_in_words, unseen_number
from retrieval.text.prompt_injection import find_injections, names_a_label

if TYPE_CHECKING:
    from agent.detectors.tabular import TabularModel


def most_anomalous_segment(states: Sequence[JudgingState]) -> JudgingState:
    """The whole record's state with the evidence of its most anomalous segment.

    Parameters
    ----------
    states
        The whole record first, then its segments.
    """
    whole, worst = states[0], max(states, key=lambda state: state.fused()[0])
    if whole.has_known_template and not find_injections(whole.record.text):
        return whole
    return whole.with_evidence(worst.retrieved, worst.signals)


class Decider:
    """Makes verdicts of states that have all their signals.

    Parameters
    ----------
    context
        Gives the language model.
    steps
        Judge variations of a record, to find the smallest change that would make it normal.
    """

    def __init__(self, context: AppContext, steps: Steps) -> None:
        self._context, self._steps = context, steps

    def decide(self, state: JudgingState) -> Verdict:
        """The verdict, not yet explained."""
        probability, fusion = state.fused()
        if _is_partly_read(state):
            # the rest of the record may hold anything
            probability = max(probability, expit(fusion.threshold))
        if _resembles_no_case(state):
            probability = fusion.modest(probability)
        problems = state.field_problems
        if self._is_unsure(state, problems, fusion.label(probability)):
            fusion = fusion.widened_to(probability)
        label = fusion.label(probability)
        provenance = self._provenance(state)
        return Verdict(
            id=verdict_id(state.source.row.name, state.record, provenance),
            source=state.source.row.name,
            label=label,
            probability=probability,
            unsure_band=fusion.band,
            explanation="",
            precedents=tuple(
                Precedent(
                    case_id=near.case.case_id, label=near.case.label, similarity=near.similarity, text=near.case.text
                )
                for near in state.retrieved.nearest
            ),
            signals=state.log_odds,
            record=state.record,
            provenance=provenance,
            degraded=_degraded(state, problems.degraded(unlike=label != "anomalous")),
            elapsed_ms=0.0,
        )

    def explain(self, state: JudgingState, verdict: Verdict) -> Verdict:
        """The verdict with its explanation, as far as the state's request asks for one."""
        if state.explain == "none":
            return verdict
        facts = self._facts(state, verdict)
        explanation = facts_in_words(verdict.label, verdict.probability, facts)
        verdict = verdict.model_copy(update={"explanation": explanation, "facts": facts})
        if state.explain == "llm":
            return with_sentences(self._context, verdict, state.source.row.brief, facts, state.masked)
        return verdict

    def _is_unsure(self, state: JudgingState, problems: FieldProblems, label: VerdictLabel) -> bool:
        """Whether a record that has this ``label`` by its probability is unsure all the same."""
        if self._is_contradicted(state) or state.lacks_fields or _has_no_content(state):
            return True
        if label == "anomalous":
            return _resembles_no_case(state)
        return label == "normal" and (_is_untested(state, problems) or self._may_hide_an_anomaly(state, problems))

    def _may_hide_an_anomaly(self, state: JudgingState, problems: FieldProblems) -> bool:
        """Whether what was not read of the fields could make a record anomalous that is normal without it.

        Values that no case has may mean anything. Missing columns do no harm if the verdict stays normal whatever
        value of the cases they are given, one by one and together; what is unusual about them only a model of both
        labels can say.
        """
        model = self._steps.field_model(state) if problems.concern_values else None
        hides = hides_an_anomaly(problems, state.source.model.fusion_for(state.log_odds, known=False), model)
        if hides is not None or model is None:
            return bool(hides)
        rows = filled_in(features(state.record.fields, state.record.events), problems.missing, model.columns)
        if not rows:
            return True
        by_fields = state.source.representation.field_encoder is not None
        for trees, outlier in model.signals(rows, [state.record.events] * len(rows)):
            signals = {**state.log_odds, "fields": trees, **({"novelty": outlier} if by_fields else {})}
            probability, fusion = fuse(state.source.model, signals, known=False)
            if fusion.label(probability) != "normal":
                return True
        return False

    def _provenance(self, state: JudgingState) -> Provenance:
        is_queried = state.log_odds["language"] is not None
        model = self._context.language_detector(state.source.row).model if is_queried else None
        return Provenance(
            model=model.name if model else None,
            model_sha256=model.sha256 if model else None,
            prompt_sha256=prompt_sha256(),
            casebook_version=state.source.row.version,
            batch_sha256=self._context.batch_sha256(state.source.row.name),
        )

    def _facts(self, state: JudgingState, verdict: Verdict) -> tuple[str, ...]:
        """The facts behind the verdict, the most important first."""
        source = state.source
        fusion = source.model.fusion_for(verdict.signals, state.has_known_template)
        facts = [top_contribution(fusion, verdict.signals, verdict.label)]
        if state.clause:
            facts = [why_by_clause(state.clause.text)]
        if (number := _unseen_number(state)) is not None:
            facts.insert(0, f"no case has “{number.value}” {place_in_words(number.place)}")
        if verdict.label == "unsure":
            if self._is_contradicted(state):
                reason = "the cases like it contradict each other"
            elif _has_no_content(state):
                reason = "it holds no word or number"
            else:
                problems = state.field_problems.degraded(unlike=True)
                resembles_none = _resembles_no_case(state)
                reason = why_unsure(fusion, verdict.probability, resembles_none=resembles_none, problems=problems)
            facts.insert(0, reason)
            if self._context.settings.model != "none" and source.representation.field_encoder is None:
                facts.append(source.model.language_unused)
        weighed = verdict.signals["fields"] is not None and fusion.weights.get("fields")
        model = self._steps.field_model(state) if weighed else None
        if model and source.normal_encoder and verdict.label != "normal" and not find_injections(state.record.text):
            from agent.explain.counterfactual import Perturbation, counterfactual

            is_normal = partial(self._is_normal_as, state)
            perturbation = Perturbation(state.record, model, source.model, verdict.signals, is_normal)
            kept, durations = source.representation.prose, source.read_options.table.durations
            facts.append(counterfactual(perturbation, source.normal_encoder, kept, durations))
        return collect_facts(state.record.text, facts, state.signals)

    def _is_contradicted(self, state: JudgingState) -> bool:
        """Whether too many of the cases with the record's content, or else its template, have the other label."""
        return label_disagreement(state.retrieved) > self._context.settings.risk

    def _is_normal_as(self, state: JudgingState, record: Record) -> bool:
        """Whether ``record``, a variation of the state's record, is judged normal without a new answer of the model."""
        (changed,) = self._steps.score([JudgingState.of(state.source, record, "none")])
        if self._steps.llm_may_decide(changed):
            known = state.signals.get("language")
            if known is None or known.log_odds is None or changed.masked != state.masked:
                return False
            changed = changed.with_language(known)
        return self.decide(changed).label == "normal"


def hides_an_anomaly(problems: FieldProblems, fusion: Fusion, model: TabularModel | None) -> bool | None:
    """Whether what was not read of a normal row's fields could make it anomalous.

    None if that depends on the values of the cases in the missing columns.
    """
    if problems.parts or problems.may_be_renamed:
        return True
    if not problems.concern_values or not fusion.weights.get("fields"):
        return False
    return True if problems.unlike or problems.unreadable or model is None or not model.supervised else None


def _is_partly_read(state: JudgingState) -> bool:
    if state.all_read:
        return False
    deciding = (state.signals.get(name) for name in state.source.model.deciding)
    return _is_longer_than_read(state) or any(signal is not None and signal.truncated for signal in deciding)


def _is_longer_than_read(state: JudgingState) -> bool:
    """Whether the record is a text of which only the beginning was embedded."""
    record = state.record
    is_text = not (record.fields or record.events)
    return is_text and len(record.text) > LONGEST_SPLIT and not (state.has_known_template or state.all_read)


def _is_untested(state: JudgingState, problems: FieldProblems) -> bool:
    """Whether the signals of the record were not tested on cases like it."""
    # a missing column alone makes a vector far from all others
    return (
        (_is_unlike_every_case(state) and not problems.missing)
        or not state.source.model.has_evidence(state.log_odds)
        or _unseen_number(state) is not None
        or _rests_on_injected_llm(state)
    )


def _is_unlike_every_case(state: JudgingState) -> bool:
    """Whether the record is farther from every case than nearly any case is from the others.

    Whatever the detectors say, no person has labelled such records as normal.
    """
    nearest, distances = state.retrieved.nearest, state.source.model.nn_distance_quantiles
    if not (nearest and distances) or state.has_known_template:
        return False
    is_text = state.source.representation.field_encoder is None
    few = is_text and state.source.model.templates < FEW_TEMPLATES
    return is_unfamiliar(1 - nearest[0].similarity, distances, few=few)


def _has_no_content(state: JudgingState) -> bool:
    """Whether the record is a text without content that no case has: its place among the cases tells nothing."""
    record = state.record
    return not (record.fields or record.events or state.has_known_template) and says_nothing(record.text)


def _rests_on_injected_llm(state: JudgingState) -> bool:
    """Whether the language model has the only signal, of a record that may address it: small models are swayed."""
    alone = [name for name, value in state.log_odds.items() if value is not None] == ["language"]
    return alone and (names_a_label(state.record.text) or bool(find_injections(state.record.text)))


def _resembles_no_case(state: JudgingState) -> bool:
    """Whether the record is so unlike the cases of both labels that these tell nothing about it.

    That is a text far from all of them, or a session none of whose events is in a case. Where all cases are normal,
    what is new is anomalous, and the band is as wide as that needs. Fields are evidence of their own, and so are the
    answers of a language model where the cases are but a few corrections.
    """
    if state.has_known_template:
        return False
    if state.record.events and not state.record.fields:
        return _has_only_new_events(state)
    source, signals = state.source, state.log_odds
    # of the whole record, and of the clause that counts for it
    retrieved = [found for found in (state.retrieved, state.whole_retrieved) if found is not None]
    nearest = [found.nearest[0].similarity for found in retrieved if found.nearest]
    distances, few = source.model.nn_distance_quantiles, source.model.templates < FEW_TEMPLATES
    if not (nearest and distances) or source.representation.field_encoder is not None:
        return False
    is_tested = signals["fields"] is not None or not source.row.counts.get("anomalous")
    if is_tested or source.model.batch_reference is not None or (few and signals["language"] is not None):
        return False
    return resembles_none(1 - max(nearest), distances, few=few)


def _has_only_new_events(state: JudgingState) -> bool:
    """Whether no event of a session is in a case, where the cases have both labels."""
    encoder = state.source.representation.field_encoder
    if encoder is None or not state.source.row.counts.get("anomalous"):
        return False
    counted = [name for name in features({}, state.record.events) if isinstance(name, EventCount)]
    return not any(name in encoder.numbers for name in counted)


def _unseen_number(state: JudgingState) -> PlacedNumber | None:
    """A number that no case has where numbers tell the labels apart; None for known templates."""
    kept = state.source.representation.kept
    return unseen_number(state.text, kept) if kept and not state.has_known_template else None


def _degraded(state: JudgingState, fields: str | None) -> tuple[str, ...]:
    """What is partial of the verdict; ``fields``: of the signal of the fields."""
    row = state.source.row
    reasons = [f"{name}: {signal.degraded}" for name, signal in sorted(state.signals.items()) if signal.degraded]
    reasons += [f"fields: {reason}" for reason in (state.reading_note, fields) if reason]
    if _is_longer_than_read(state):
        reasons.append(f"neighbours: the record is long, what follows its first {LONG} characters was not read")
    if any(row.counts.values()) and not row.source_model:
        reasons.insert(0, "fusion: the source has cases and was never fitted: `precedent sources rebuild` fits it")
    if knows_erased(row.source_model):
        reasons.insert(0, "fusion: fitted with records that were erased since: `precedent sources refit` fits it anew")
    reasons += [f"{name}: chosen for the source, but not fitted to its cases" for name in state.source.model.not_fitted]
    only = state.source.model.only
    if only and not reasons and state.log_odds.get(only) is None:
        reasons.append(f"{only}: it does not apply to this record")
    return tuple(reasons)
