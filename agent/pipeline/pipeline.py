"""The pipeline, from requests to verdicts. Start reading the code here.

    all records of a source together:  prepare -> (cached?) -> retrieve -> score_fields -> collect_signals
                                       -> (long?) compare_clauses
    then each record:                  (undecided?) query_language_model -> remember -> most_anomalous_segment
                                       -> with_clause -> decide -> explain

One record is a batch of one. The steps are in `steps` (to the signals) and `decision` (to the verdict).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, groupby, islice
from typing import TYPE_CHECKING

from agent.core.errors import EXPECTED
from agent.core.records import Deferred, Signal, Verdict
from agent.core.requests import JudgeRequest, needs_segments, split_into_segments
from agent.explain.explanation import REPLACED
from agent.pipeline.context import AppContext
from agent.pipeline.decision import Decider, most_anomalous_segment
from agent.pipeline.state import Clause, JudgingState
from agent.pipeline.steps import Steps
from retrieval.casebook import SourceSnapshot
from retrieval.text.prompt_injection import find_injections

if TYPE_CHECKING:
    from agent.pipeline.block_judge import BlockJudge
    from agent.pipeline.equivalent_rows import EquivalentRows
    from agent.pipeline.runnable import VerdictRunnable

Outcome = Verdict | Deferred | Exception
_RECORD_ERRORS: tuple[type[Exception], ...] = (ValueError, ArithmeticError, *EXPECTED)


def build(context: AppContext) -> VerdictRunnable:
    """The pipeline as a LangChain Runnable: a `JudgeRequest`, its dict, a `Record` or a text to a `Verdict`."""
    # LangChain takes longer to import than a record of a known template takes to judge
    from agent.pipeline.runnable import VerdictRunnable

    return VerdictRunnable(Pipeline(context))


class Pipeline:
    """Judges records. Safe to share between threads.

    Parameters
    ----------
    context : AppContext
        The casebook, the models and the settings to judge with.

    Attributes
    ----------
    llm_answers : int
        Answers of the language model so far: log-odds, and explanations in sentences.
    llm_changed : int
        How many of its log-odds changed the label of a record, or of a segment.
    """

    def __init__(self, context: AppContext) -> None:
        self._context, self._steps = context, Steps(context)
        self._decider = Decider(context, self._steps)
        self.llm_answers = self.llm_changed = 0

    def judge(self, requests: Sequence[JudgeRequest], skip_llm: str | None = None) -> Iterator[Outcome]:
        """Judge records, each as if it were alone.

        Parameters
        ----------
        requests : sequence of JudgeRequest
            Of any sources; those of one source that follow each other are judged together.
        skip_llm : str, optional
            Why the language model is not queried, neither for log-odds nor for sentences; None if it may be.

        Yields
        ------
        Verdict, Deferred or Exception
            One for each record, in order: `Deferred` only with ``skip_llm``, an exception if it cannot be judged.
        """
        for _, group in groupby(requests, lambda request: request.source):
            yield from self._judge_source(list(group), skip_llm)

    def block_judge(self, source: str) -> BlockJudge | None:
        """What judges blocks of the rows of a source by arrays; None where that is not possible."""
        # only rows of tables and sessions need it
        from agent.pipeline.block_judge import BlockJudge

        judge = BlockJudge(self._context, self._steps, source)
        return judge if judge.is_able else None

    def equivalent_rows(self, source: str) -> EquivalentRows:
        """What finds rows of a source that have one verdict."""
        from agent.pipeline.equivalent_rows import EquivalentRows

        return EquivalentRows(self._context, self._steps, source)

    def batch_as_completed(
        self, inputs: Sequence[JudgeRequest], *, return_exceptions: bool = False
    ) -> Iterator[tuple[int, Verdict | Exception]]:
        """Verdicts with their places, in the order of ``inputs``, each as soon as it is known."""
        for place, outcome in enumerate(self.judge(inputs)):
            assert not isinstance(outcome, Deferred)
            if isinstance(outcome, Exception) and not return_exceptions:
                raise outcome
            yield place, outcome

    def _judge_source(self, requests: Sequence[JudgeRequest], skip_llm: str | None) -> Iterator[Outcome]:
        started = time.perf_counter()
        try:
            row = self._context.source(requests[0].source)
            segments = [self._segments(request) for request in self._steps.redacted(row, requests)]
            states = iter(self._signals(row, list(chain.from_iterable(segments))))
            of_records = [list(islice(states, len(of_record))) for of_record in segments]
            compared = self._steps.compare_clauses([whole for whole, *_ in of_records])
        except _RECORD_ERRORS as error:
            if len(requests) == 1:
                yield error
            else:
                # one by one, to find the record that failed
                yield from chain.from_iterable(self._judge_source([request], skip_llm) for request in requests)
            return
        share = (time.perf_counter() - started) / len(requests)
        for (_, *segments_of_record), (whole, clause) in zip(of_records, compared, strict=True):
            started = time.perf_counter() - share
            try:
                yield self._verdict([whole, *segments_of_record], clause, skip_llm, started)
            except _RECORD_ERRORS as error:
                yield error

    def _segments(self, request: JudgeRequest) -> list[JudgeRequest]:
        """The record, and its segments if it needs any: long ones do not where their clauses are compared."""
        if not needs_segments(request):
            return [request]
        if self._steps.is_known_normal(request) if find_injections(request.text) else self._steps.has_clauses(request):
            return [request]
        return split_into_segments(request)

    def _signals(self, row: SourceSnapshot, requests: Sequence[JudgeRequest]) -> list[JudgingState]:
        """All signals but the language model's; those of equal texts are computed once."""
        states = self._steps.prepare(row, requests)
        recalled = [self._steps.recall(state) for state in states]
        keys = [state.cache_keys or (number,) for number, state in enumerate(states)]
        new = {key: state for key, state, cached in zip(keys, states, recalled, strict=True) if cached is None}
        scored = dict(zip(new, self._steps.score(list(new.values())), strict=True))
        return [
            cached or state.with_evidence(scored[key].retrieved, scored[key].signals)
            for key, state, cached in zip(keys, states, recalled, strict=True)
        ]

    def _verdict(
        self, segments: Sequence[JudgingState], clause: Clause | None, skip_llm: str | None, started: float
    ) -> Verdict | Deferred:
        whole, *rest = segments
        if clause is not None and (decided := whole.without_language().with_clause(clause)).is_anomalous:
            return self._explained(decided, skip_llm, started, deferred=False)
        skipped = None if skip_llm is None else Signal(degraded=skip_llm)
        states = [self._with_language(state, skipped) for state in (whole, *rest)]
        state = most_anomalous_segment(states) if len(states) > 1 else states[0]
        deferred = skipped is not None and any(each.signals.get("language") is skipped for each in states)
        if skipped is not None and deferred:
            # a segment that the language model has not seen may count for the whole record
            state = state.with_language(skipped)
        if clause is not None:
            state = state.with_clause(clause)
        return self._explained(state, skip_llm, started, deferred=deferred)

    def _explained(
        self, state: JudgingState, skip_llm: str | None, started: float, *, deferred: bool
    ) -> Verdict | Deferred:
        with_sentences = state.explain == "llm"
        explained = replace(state, explain="facts") if skip_llm and with_sentences else state
        verdict = self._decider.explain(explained, self._decider.decide(state))
        if skip_llm and with_sentences:
            verdict = verdict.model_copy(update={"degraded": (*verdict.degraded, f"explanation: {skip_llm}")})
            deferred = True
        self.llm_answers += with_sentences and not any(map(_lacks_sentences, verdict.degraded))
        verdict = verdict.model_copy(update={"elapsed_ms": 1000 * (time.perf_counter() - started)})
        return Deferred(verdict) if deferred else verdict

    def _with_language(self, state: JudgingState, skipped: Signal | None) -> JudgingState:
        """The state with the language model's signal where that may decide, or ``skipped`` in its place."""
        if cached := self._steps.recall(state):
            return cached
        if self._steps.llm_may_decide(state):
            if skipped is not None:
                return state.with_language(skipped)
            before, state = state, self._steps.query_language_model(state)
            self.llm_answers += state.signals["language"].log_odds is not None
            self.llm_changed += state.label != before.label
        return self._steps.remember(state)


def _lacks_sentences(degraded: str) -> bool:
    return degraded.startswith("explanation: ") and REPLACED not in degraded
