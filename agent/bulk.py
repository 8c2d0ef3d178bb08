"""Many records through the steps of `agent.chain` together: each step that is cheaper so takes all of them at once.

LangChain, which takes longer to import than a template that the casebook has takes to judge, is not needed here.

What is computed together differs from what is computed alone only in rounding: the embedding of a text in the
seventh digit, by what it is embedded with.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

from agent.errors import PrecedentError
from agent.question import Question, needs_pieces
from agent.records import Signal, Verdict
from agent.steps import Hearing, Steps

_OF_A_RECORD = (ValueError, ArithmeticError, PrecedentError)


class Together:
    """Takes records through the ``steps`` together; one that cannot go with others goes ``alone``."""

    def __init__(self, steps: Steps, alone: Callable[[Question], Verdict]) -> None:
        self._steps, self._alone = steps, alone

    def answers(self, questions: Sequence[Question], unasked: str | None = None) -> Iterator[Verdict | Exception]:
        """A verdict, or what is wrong with the record, for each in order.

        With ``unasked=REASON`` the language model is not asked, and a verdict that it could change says so.
        """
        for _, group in groupby(questions, lambda one: one.source):
            yield from self._of_one_source(list(group), unasked)

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
            yield _tried(self._alone, question) if alone else _tried(self._verdict, next(heard), share, unasked)


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
