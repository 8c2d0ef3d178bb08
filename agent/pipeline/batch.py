"""Many records through the steps of `agent.chain` together: each step that is cheaper so takes all of them at once.

LangChain, which takes longer to import than a template that the casebook has takes to judge, is not needed here.

What is computed together differs from what is computed alone only in rounding: the embedding of a text in the
seventh digit, by what it is embedded with.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import chain, groupby, islice

from agent.core.errors import PrecedentError
from agent.core.records import Signal, Verdict
from agent.core.requests import JudgeRequest, needs_segments, split_into_segments
from agent.pipeline.steps import JudgingState, Steps, with_language_signal

_OF_A_RECORD = (ValueError, ArithmeticError, PrecedentError)


class BatchPipeline:
    """Takes records through the ``steps`` together. ``asked``: questions that the language model answered."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self.asked = 0

    def answers(
        self, questions: Sequence[JudgeRequest], skip_llm_reason: str | None = None
    ) -> Iterator[Verdict | Exception]:
        """A verdict, or what is wrong with the record, for each in order.

        With ``unasked=REASON`` the language model is not asked, and a verdict that it could change says so.
        """
        silent = None if skip_llm_reason is None else Signal(degraded=skip_llm_reason)
        for _, group in groupby(questions, lambda one: one.source):
            yield from self._of_one_source(list(group), silent)

    def _of_one_source(self, questions: Sequence[JudgeRequest], silent: Signal | None) -> Iterator[Verdict | Exception]:
        started = time.perf_counter()
        pieces = [split_into_segments(question) if needs_segments(question) else [question] for question in questions]
        try:
            heard = iter(_heard(self._steps, list(chain.from_iterable(pieces))))
        except _OF_A_RECORD as error:
            if len(questions) == 1:
                yield error
            else:
                # each by itself, to learn which of them it was
                for question in questions:
                    yield from self._of_one_source([question], silent)
            return
        share = (time.perf_counter() - started) / len(questions)
        for some in pieces:
            started = time.perf_counter() - share
            try:
                yield self._verdict(list(islice(heard, len(some))), started, silent)
            except _OF_A_RECORD as error:
                yield error

    def _verdict(self, pieces: list[JudgingState], started: float, silent: Signal | None) -> Verdict:
        steps, heard = self._steps, [self._whole(one, silent) for one in pieces]
        whole = heard[0] if len(heard) == 1 else steps.most_anomalous_segment(heard)
        if silent is not None and any(one["signals"].get("language") == silent for one in heard):
            # a piece that was not heard could speak for the whole
            whole = with_language_signal(whole, silent)
        return steps.explain(steps.decide(JudgingState(**{**whole, "started": started})))

    def _whole(self, hearing: JudgingState, silent: Signal | None) -> JudgingState:
        """The hearing, the language model heard where it may decide, or ``silent`` in its place."""
        steps = self._steps
        if steps.remembered(hearing):
            return steps.recall(hearing)
        if not steps.llm_may_decide(hearing):
            return steps.remember(hearing)
        if silent is not None:
            return with_language_signal(hearing, silent)
        heard = steps.ask_language_model(hearing)
        self.asked += heard["signals"]["language"].log_odds is not None
        return steps.remember(heard)


def _heard(steps: Steps, questions: Sequence[JudgeRequest]) -> list[JudgingState]:
    """What every witness but the language model says of each, of like texts once."""
    if not questions:
        return []
    hearings = steps.open(questions)
    places = [hearing["memo_keys"] or (number,) for number, hearing in enumerate(hearings)]
    fresh = {place: one for place, one in zip(places, hearings, strict=True) if not steps.remembered(one)}
    heard = dict(zip(fresh, _signals(steps, list(fresh.values())), strict=True))
    return [
        JudgingState(**{**heard[place], **one}) if place in heard else steps.recall(one)
        for place, one in zip(places, hearings, strict=True)
    ]


def _signals(steps: Steps, hearings: Sequence[JudgingState]) -> list[JudgingState]:
    if not hearings:
        return []
    hearings = steps.score_fields(steps.retrieve(hearings))
    return [
        steps.collect_signals(
            {"hearing": one, "neighbours": said, "novelty": steps.novelty(one), "fields": steps.fields(one)}
        )
        for one, said in zip(hearings, steps.neighbours(hearings), strict=True)
    ]
