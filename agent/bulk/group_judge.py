"""Verdicts for slots: remembered from an earlier run, or given by the chain; the language model within a budget."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from agent.bulk.template_grouping import TemplateGroup
from agent.core.prompts import prompt_sha256
from agent.core.records import Deferred, JudgeError, Verdict, as_result, verdict_id
from agent.core.requests import Explain, JudgeRequest
from agent.pipeline.context import AppContext
from agent.training.active_learning import uncertainty
from llm.factory import identity
from retrieval.store.caches import TemplateVerdicts

if TYPE_CHECKING:
    from agent.pipeline.pipeline import Pipeline

_CHUNK = 256
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Budget:
    """The most calls of the language model, and when (`time.monotonic`) the last one may begin; None: no limit."""

    calls: int | None = None
    until: float | None = None

    @property
    def skip_llm_reason(self) -> str | None:
        """Why the language model is not asked: what a verdict says until it is its turn."""
        limits = {"its calls": self.calls, "time": self.until}
        there = [name for name, limit in limits.items() if limit is not None]
        return f"not asked: the limit of {' or '.join(there)} was reached" if there else None

    def allows(self, calls: int) -> bool:
        """Whether one call more may begin after so many."""
        return (self.calls is None or calls < self.calls) and (self.until is None or time.monotonic() < self.until)


class GroupJudge:
    """Gives slots of one source their verdicts, and keeps these for the next run. ``asked``: answers of the model."""

    def __init__(self, context: AppContext, source: str, explain: Explain, budget: Budget, progress: Progress) -> None:
        self._context, self._source, self._explain = context, source, explain
        self._budget, self._progress = budget, progress
        self.asked = self._spent = 0

    def verdicts(
        self, slots: Sequence[TemplateGroup], *, remember: bool = True, explain: Explain | None = None
    ) -> list[Verdict | JudgeError]:
        """One for each slot, about its first record; each is in the history, and kept for the next run if so asked."""
        out: dict[str, Verdict | JudgeError] = dict(self._known(slots)) if remember else {}
        fresh, deferred = [slot for slot in slots if slot.key not in out], list[TemplateGroup]()
        for start in range(0, len(fresh), _CHUNK):
            part = fresh[start : start + _CHUNK]
            for slot, outcome in self._given(part, explain, self._budget.skip_llm_reason):
                if isinstance(outcome, Deferred):
                    deferred.append(slot)
                    outcome = outcome.verdict
                out[slot.key] = outcome
            if remember:
                self._keep(part, out)
            self._progress("judging templates", len(out), len(slots))
        self._hear_the_model(deferred, out, remember)
        answers = [out[slot.key] for slot in slots]
        self._context.history.put(one.to_stored() for one in answers if isinstance(one, Verdict))
        return answers

    def _known(self, slots: Sequence[TemplateGroup]) -> Iterator[tuple[str, Verdict]]:
        bodies = self._remembered.get([slot.key for slot in slots])
        for slot in slots:
            if slot.key in bodies:
                known = Verdict.model_validate(bodies[slot.key])
                about = {"id": verdict_id(self._source, slot.first, known.provenance), "record": slot.first}
                yield slot.key, known.model_copy(update=about)

    def _given(
        self, slots: Sequence[TemplateGroup], explain: Explain | None = None, skip_llm_reason: str | None = None
    ) -> Iterator[tuple[TemplateGroup, Verdict | JudgeError | Deferred]]:
        questions = [JudgeRequest.about(slot.first, self._source, explain or self._explain) for slot in slots]
        for outcome, slot in zip(self._pipeline.judge(questions, skip_llm_reason), slots, strict=True):
            self.asked = self._pipeline.llm_answers
            yield slot, outcome if isinstance(outcome, Deferred) else as_result(slot.first, outcome)

    def _hear_the_model(
        self, slots: Sequence[TemplateGroup], out: dict[str, Verdict | JudgeError], remember: bool
    ) -> None:
        """Ask the language model about the most uncertain records first, each counting as often as it came."""

        def worth(slot: TemplateGroup) -> float:
            verdict = out[slot.key]
            return max(slot.count, 1) * uncertainty(verdict) if isinstance(verdict, Verdict) else 0.0

        ranked = sorted(slots, key=lambda slot: (-worth(slot), slot.key))
        for number, slot in enumerate(ranked):
            if not self._budget.allows(self._spent):
                return
            before = self.asked
            ((_, outcome),) = self._given([slot])
            assert not isinstance(outcome, Deferred)
            out[slot.key] = outcome
            # one that failed is spent as well; a record in pieces may take several
            self._spent += max(1, self.asked - before)
            if remember:
                self._keep([slot], out)
            self._progress("hearing the language model", number + 1, len(ranked))

    def _keep(self, slots: Sequence[TemplateGroup], answers: Mapping[str, Verdict | JudgeError]) -> None:
        """Remember whole verdicts: one that lacks a witness that may be heard next time is to be given anew."""
        given = ((slot.key, answers[slot.key]) for slot in slots)
        final = self._context.settings.model == "none"
        whole = {key: one.to_stored() for key, one in given if isinstance(one, Verdict) and (final or not one.degraded)}
        self._remembered.put(whole)

    @cached_property
    def _pipeline(self) -> Pipeline:
        # verdicts that are remembered need none
        from agent.pipeline.pipeline import Pipeline

        return Pipeline(self._context)

    @cached_property
    def _remembered(self) -> TemplateVerdicts:
        return TemplateVerdicts(self._context.casebook.engine, self._source, self.state)

    @cached_property
    def state(self) -> str:
        """SHA-256 of all that a verdict hangs on beside its record: casebook, brief, judge, model, prompts."""
        row, settings = self._context.source(self._source), self._context.settings
        named = identity(settings.model, settings.ollama_hosts) or self._chosen()
        said = [row.name, row.version, row.brief, row.embedder, row.judge, named, prompt_sha256(), self._explain]
        said += [settings.precedents, settings.record_tokens]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

    def _chosen(self) -> tuple[str, str | None]:
        from llm.errors import ModelFailure

        try:
            model = self._context.language_detector().model
        except ModelFailure:
            return "none", None
        return model.name, model.sha256
