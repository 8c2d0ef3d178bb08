"""Verdicts of groups: stored by an earlier run, or from the pipeline; the language model is queried within a budget."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from agent.bulk.template_grouping import TemplateGroup
from agent.core.progress import Progress
from agent.core.prompts import prompt_sha256
from agent.core.records import Deferred, JudgeError, Verdict, as_result, verdict_id
from agent.core.requests import Explain, JudgeRequest
from agent.detectors.registry import installed_packages
from agent.pipeline.context import AppContext
from agent.pipeline.history_writing import keep_verdicts
from agent.training.active_learning import uncertainty
from llm.factory import identity
from retrieval.encoding.representation import text_rules_sha256
from retrieval.store.caches import TemplateVerdicts

if TYPE_CHECKING:
    from agent.pipeline.block_judge import BlockJudge
    from agent.pipeline.equivalent_rows import EquivalentRows
    from agent.pipeline.pipeline import Pipeline

# records whose texts are embedded together, without and with a language model, after whose answers progress is shown
_BATCH, _BATCH_OF_MODEL = 2_048, 256
# rows whose verdicts are explained in a run
_MOST_EXPLAINED = 500
Result = Verdict | JudgeError


@dataclass(frozen=True)
class Budget:
    """Limits on the use of the language model.

    Attributes
    ----------
    calls : int or None
        Maximum number of calls.
    until : float or None
        `time.monotonic` after which no call begins.
    """

    calls: int | None = None
    until: float | None = None

    @property
    def skip_llm_reason(self) -> str | None:
        """Why a verdict lacks the language model's signal until it is the record's turn; None without limits."""
        limits = {"its calls": self.calls, "time": self.until}
        names = [name for name, limit in limits.items() if limit is not None]
        return f"not queried: the limit of {' or '.join(names)} was reached" if names else None

    def allows(self, calls: int) -> bool:
        """Whether another call may begin after ``calls`` of them."""
        return (self.calls is None or calls < self.calls) and (self.until is None or time.monotonic() < self.until)


class GroupJudge:
    """Judges groups of one source, and stores the verdicts for the next run.

    Attributes
    ----------
    llm_answers, llm_changed : int
        Answers of the language model so far, and how many of them changed a label.
    """

    def __init__(self, context: AppContext, source: str, explain: Explain, budget: Budget, progress: Progress) -> None:
        self._context, self._source, self._explain = context, source, explain
        self._budget, self._progress = budget, progress
        self.llm_answers = self.llm_changed = self._calls = self._explained = 0

    def verdicts(
        self, groups: Sequence[TemplateGroup], *, store: bool = True, explain: Explain | None = None
    ) -> list[Result]:
        """Judge groups, each by its first record; the verdicts are added to the history.

        Parameters
        ----------
        groups : sequence of TemplateGroup
        store : bool
            Whether to use the verdicts of earlier runs, and to store these for the next.
        explain : {"none", "facts", "llm"}, optional
            Instead of the explanation that all verdicts get.

        Returns
        -------
        list of Verdict or JudgeError
            One for each group, in order.
        """
        results: dict[str, Result] = dict(self._load(groups)) if store else {}
        new, deferred = [group for group in groups if group.key not in results], list[TemplateGroup]()
        size = _BATCH if self._context.settings.model == "none" else _BATCH_OF_MODEL
        for start in range(0, len(new), size):
            batch = new[start : start + size]
            for group, outcome in self._judge(batch, explain, self._budget.skip_llm_reason):
                if isinstance(outcome, Deferred):
                    deferred.append(group)
                    outcome = outcome.verdict
                results[group.key] = outcome
            if store:
                self._store(batch, results)
            self._progress("judging templates", len(results), len(groups))
        self._query_llm(deferred, results, store, explain or self._explain)
        return keep_verdicts(self._context.history, [results[group.key] for group in groups])

    def block_judge(self) -> BlockJudge | None:
        """See `agent.pipeline.pipeline.Pipeline.block_judge`."""
        return self._pipeline.block_judge(self._source)

    def equivalent_rows(self) -> EquivalentRows:
        """See `agent.pipeline.pipeline.Pipeline.equivalent_rows`."""
        return self._pipeline.equivalent_rows(self._source)

    def with_reasons(self, groups: Sequence[TemplateGroup], results: Sequence[Result]) -> list[Result]:
        """The results, of which those that are not normal are explained, up to a number in all."""
        found = [i for i, result in enumerate(results) if isinstance(result, Verdict) and result.label != "normal"]
        found = found[: _MOST_EXPLAINED - self._explained]
        self._explained += len(found)
        answers, explained = self.verdicts([groups[i] for i in found], store=False, explain="facts"), list(results)
        for place, answer in zip(found, answers, strict=True):
            explained[place] = answer
        return explained

    def _load(self, groups: Sequence[TemplateGroup]) -> Iterator[tuple[str, Verdict]]:
        bodies = self.stored.get([group.key for group in groups])
        for group in groups:
            if group.key in bodies:
                verdict = Verdict.model_validate(bodies[group.key])
                update = {"id": verdict_id(self._source, group.first, verdict.provenance), "record": group.first}
                yield group.key, verdict.model_copy(update=update)

    def _judge(
        self, groups: Sequence[TemplateGroup], explain: Explain | None = None, skip_llm_reason: str | None = None
    ) -> Iterator[tuple[TemplateGroup, Result | Deferred]]:
        requests = [JudgeRequest.about(group.first, self._source, explain or self._explain) for group in groups]
        for outcome, group in zip(self._pipeline.judge(requests, skip_llm_reason), groups, strict=True):
            self.llm_answers, self.llm_changed = self._pipeline.llm_answers, self._pipeline.llm_changed
            yield group, outcome if isinstance(outcome, Deferred) else as_result(group.first, outcome)

    def _query_llm(
        self, groups: Sequence[TemplateGroup], results: dict[str, Result], store: bool, explain: Explain
    ) -> None:
        """Judge groups with the language model as far as the budget allows, the most uncertain records first."""

        def priority(group: TemplateGroup) -> float:
            result = results[group.key]
            return max(group.count, 1) * uncertainty(result) if isinstance(result, Verdict) else 0.0

        ranked = sorted(groups, key=lambda group: (-priority(group), group.key))
        for number, group in enumerate(ranked, start=1):
            if not self._budget.allows(self._calls):
                return
            before, provisional = self.llm_answers, results[group.key]
            # with one call left, a record that lacks a signal and sentences gets the signal
            only_signal = not self._budget.allows(self._calls + 1) and self._lacking(provisional) > 1
            ((_, outcome),) = self._judge([group], "facts" if only_signal else explain)
            assert not isinstance(outcome, Deferred)
            if only_signal and isinstance(outcome, Verdict):
                reason = f"explanation: {self._budget.skip_llm_reason}"
                outcome = outcome.model_copy(update={"degraded": (*outcome.degraded, reason)})
            results[group.key] = outcome
            # a failed call counts; a record in segments takes several
            self._calls += max(1, self.llm_answers - before)
            if store:
                self._store([group], results)
            self._progress("querying the language model", number, len(ranked))

    def _lacking(self, result: Result) -> int:
        """How many answers of the language model a verdict lacks because of the budget."""
        if not isinstance(result, Verdict):
            return 0
        return sum(text.endswith(f": {self._budget.skip_llm_reason}") for text in result.degraded)

    def _store(self, groups: Sequence[TemplateGroup], results: Mapping[str, Result]) -> None:
        """Store verdicts, but for those that lack a signal which the next run may have."""
        is_final = self._context.settings.model == "none"
        bodies = {
            group.key: result.to_stored()
            for group in groups
            if isinstance(result := results[group.key], Verdict) and (is_final or not result.degraded)
        }
        self.stored.put(bodies)

    @cached_property
    def _pipeline(self) -> Pipeline:
        # imported late: stored verdicts need no pipeline
        from agent.pipeline.pipeline import Pipeline

        return Pipeline(self._context)

    @cached_property
    def stored(self) -> TemplateVerdicts:
        """The verdicts that are kept for the next run."""
        return TemplateVerdicts(self._context.casebook.engine, self._source, self.state)

    @cached_property
    def state(self) -> str:
        """SHA-256 of all that a verdict depends on besides its record.

        Casebook, brief, fit, models, prompts, the rules of masking, and the packages of fitted detectors.
        """
        row, settings = self._context.source(self._source), self._context.settings
        model = identity(settings.model, settings.ollama_hosts) or self._model_identity()
        state = [row.name, row.revision, model, prompt_sha256(), self._explain]
        state += [settings.precedents, settings.record_tokens, text_rules_sha256()]
        if (batch := self._context.batch_sha256(self._source)) is not None:
            state.append(batch)
        if (row.source_model or {}).get("detectors"):
            state.append(installed_packages())
        return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()

    def _model_identity(self) -> tuple[str, str | None]:
        from llm.errors import ModelFailure

        try:
            model = self._context.language_detector().model
        except ModelFailure:
            return "none", None
        return model.name, model.sha256
