"""Many records: judged in chunks, in order, by the chain, each verdict kept in the history."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

from langchain_core.runnables import Runnable, RunnableLambda

from agent.core.records import JudgeError, Record, Verdict, as_result
from agent.core.requests import Explain, JudgeRequest
from agent.pipeline.context import AppContext

_CHUNK = 256
# seconds
_PATIENCE = 0.5
T = TypeVar("T")


def with_history(context: AppContext, chain: Runnable[Any, Verdict]) -> Runnable[Any, Verdict]:
    """The chain, each verdict being in the history when it is given."""

    def keep(verdict: Verdict) -> Verdict:
        context.history.put([verdict.to_stored()])
        return verdict

    return (chain | RunnableLambda(keep)).with_types(input_type=JudgeRequest, output_type=Verdict)


def judge_many(
    context: AppContext,
    chain: Runnable[JudgeRequest, Verdict],
    records: Iterable[Record],
    source: str,
    explain: Explain = "facts",
    *,
    keep: bool = True,
) -> Iterator[Verdict | JudgeError]:
    """One verdict for each record, in order; with ``keep``, each is in the history before it is given out.

    ``chain``: what `agent.pipeline.pipeline.build` makes, for its answers come together and in order.

    Raises:
        PrecedentError: for what is wrong with all of them (no such source, a part missing).
    """
    waiting = iter(records)
    while chunk := list(islice(waiting, _CHUNK)):
        answers = chain.batch_as_completed(
            [JudgeRequest.about(record, source, explain) for record in chunk], return_exceptions=True
        )
        for ready in _while_they_come(answers):
            out = [as_result(chunk[place], answer) for place, answer in ready]
            if keep:
                context.history.put(one.to_stored() for one in out if isinstance(one, Verdict))
            yield from out


def _while_they_come(answers: Iterator[T]) -> Iterator[list[T]]:
    """What has come by now, whenever somebody who watches would wonder."""
    ready, since = list[T](), time.monotonic()
    for answer in answers:
        ready.append(answer)
        if time.monotonic() - since > _PATIENCE:
            yield ready
            ready, since = [], time.monotonic()
    yield ready
