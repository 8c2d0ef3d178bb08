"""Many records through the steps of `agent.chain` together: each step that is cheaper so takes all of them at once.

What is computed together differs from what is computed alone only in rounding: the embedding of a text in the
seventh digit, by what it is embedded with.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

from langchain_core.runnables import Runnable, RunnableConfig, RunnableSequence
from pydantic import PrivateAttr

from agent.errors import PrecedentError
from agent.question import Question, needs_pieces, read_question
from agent.records import Signal, Verdict
from agent.steps import Hearing, Steps

_OF_A_RECORD = (ValueError, ArithmeticError, PrecedentError)


class InBulk(RunnableSequence[Any, Verdict]):
    """A pipeline whose `batch` takes the records through its ``steps`` together, in order.

    Callbacks and the other settings of ``config`` are for `invoke` alone; here nobody watches single steps. With
    ``unasked=REASON`` the language model is not asked, and a verdict that it could change says so.
    """

    _steps: Steps = PrivateAttr()

    @classmethod
    def of(cls, pipeline: Runnable[Any, Verdict], steps: Steps) -> InBulk:
        assert isinstance(pipeline, RunnableSequence)
        made = cls(first=pipeline.first, middle=pipeline.middle, last=pipeline.last)
        made._steps = steps
        return made

    def batch(
        self,
        inputs: list[Any],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        unasked: str | None = None,
        **kwargs: Any,
    ) -> list[Verdict]:
        every = self.batch_as_completed(inputs, return_exceptions=return_exceptions, unasked=unasked)
        return [answer for _, answer in every]

    def batch_as_completed(
        self,
        inputs: Sequence[Any],
        config: RunnableConfig | Sequence[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        unasked: str | None = None,
        **kwargs: Any,
    ) -> Iterator[tuple[int, Any]]:
        for place, answer in enumerate(self._answers([read_question(sent) for sent in inputs], unasked)):
            if isinstance(answer, Exception) and not return_exceptions:
                raise answer
            yield place, answer

    def _verdict(self, hearing: Hearing, share: float, unasked: str | None) -> Verdict:
        """The answer; ``share``: seconds that hearing together took for each."""
        steps = self._steps
        hearing["started"] = time.perf_counter() - share
        if steps.remembered(hearing):
            hearing = steps.recall(hearing)
        elif not steps.undecided(hearing):
            hearing = steps.remember(hearing)
        elif unasked is None:
            hearing = steps.remember(steps.ask_language_model(hearing))
        else:
            silent = Signal(degraded=unasked)
            hearing = Hearing(**{**hearing, "signals": {**hearing["signals"], "language": silent}})
        return steps.explain(steps.decide(hearing))

    def _answers(self, questions: Sequence[Question], unasked: str | None) -> Iterator[Verdict | Exception]:
        for _, group in groupby(questions, lambda one: one.source):
            yield from self._of_one_source(list(group), unasked)

    def _of_one_source(self, questions: Sequence[Question], unasked: str | None) -> Iterator[Verdict | Exception]:
        started = time.perf_counter()
        apart = [needs_pieces(question) for question in questions]
        together = [question for question, alone in zip(questions, apart, strict=True) if not alone]
        try:
            heard = iter(_heard(self._steps, together))
        except _OF_A_RECORD:
            # each by itself, to learn which of them it was
            apart = [True] * len(questions)
        share = (time.perf_counter() - started) / len(questions)
        for question, alone in zip(questions, apart, strict=True):
            yield _tried(self.invoke, question) if alone else _tried(self._verdict, next(heard), share, unasked)


def _heard(steps: Steps, questions: Sequence[Question]) -> list[Hearing]:
    """What every witness but the language model says of each, of like texts once."""
    if not questions:
        return []
    hearings = steps.open(questions)
    places = [hearing["memo_keys"] or (number,) for number, hearing in enumerate(hearings)]
    fresh = {place: one for place, one in zip(places, hearings, strict=True) if not steps.remembered(one)}
    heard = dict(zip(fresh, _signals(steps, list(fresh.values())), strict=True))
    return [
        Hearing(**{**heard[place], **one}) if place in heard else steps.recall(one)
        for place, one in zip(places, hearings, strict=True)
    ]


def _signals(steps: Steps, hearings: Sequence[Hearing]) -> list[Hearing]:
    if not hearings:
        return []
    hearings = steps.measure(steps.retrieve(hearings))
    return [
        steps.gather({"hearing": one, "neighbours": said, "novelty": steps.novelty(one), "fields": steps.fields(one)})
        for one, said in zip(hearings, steps.neighbours(hearings), strict=True)
    ]


def _tried(judge: Callable[..., Verdict], *asked: Any) -> Verdict | Exception:
    try:
        return judge(*asked)
    except _OF_A_RECORD as error:
        return error
