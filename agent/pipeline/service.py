"""Judging with the history: one record, or many in chunks and in order."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from agent.core.records import JudgeError, Record, Verdict, as_result
from agent.core.requests import Explain, JudgeRequest
from agent.pipeline.context import AppContext
from agent.pipeline.history_writing import keep_verdicts

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable

# records that are judged together
CHUNK = 256
_SECONDS_BETWEEN_YIELDS = 0.5
T = TypeVar("T")


class BatchJudge(Protocol):
    """Judges records together: a `Pipeline`, or the Runnable around it."""

    def batch_as_completed(
        self, inputs: Sequence[JudgeRequest], *, return_exceptions: bool = False
    ) -> Iterator[tuple[int, Any]]:
        """Verdicts with their places, in the order of ``inputs``, each as soon as it is known."""


def judge_one(context: AppContext, chain: Runnable[Any, Verdict], request: JudgeRequest) -> Verdict:
    """The verdict on one record; it is in the history when it is returned, or says that it is not."""
    return keep_verdicts(context.history, [chain.invoke(request)])[0]


def judge_many(
    context: AppContext,
    chain: BatchJudge,
    records: Iterable[Record],
    source: str,
    explain: Explain = "facts",
    *,
    keep: bool = True,
) -> Iterator[Verdict | JudgeError]:
    """One verdict for each record, in order.

    Parameters
    ----------
    chain
        A `Pipeline`, or as `agent.pipeline.pipeline.build` makes it: its answers come together and in order.
    keep
        Whether each verdict is put in the history before it is yielded.

    Raises
    ------
    PrecedentError
        No record can be judged: there is no such source, or a part is missing.
    """
    remaining = iter(records)
    chunks = iter(lambda: list(islice(remaining, CHUNK)), [])
    return judge_chunks(context, chain, chunks, source, explain, keep=keep)


def judge_chunks(
    context: AppContext,
    chain: BatchJudge,
    chunks: Iterable[Sequence[Record]],
    source: str,
    explain: Explain = "facts",
    *,
    keep: bool = True,
) -> Iterator[Verdict | JudgeError]:
    """As `judge_many`, of records that are judged in these chunks."""
    for chunk in chunks:
        requests = [JudgeRequest.about(record, source, explain) for record in chunk]
        for ready in _in_time(chain.batch_as_completed(requests, return_exceptions=True)):
            results = [as_result(chunk[place], answer) for place, answer in ready]
            if keep:
                results = keep_verdicts(context.history, results)
            yield from results


def _in_time(answers: Iterator[T]) -> Iterator[list[T]]:
    """The answers in lists; a list is yielded early when its first answer has waited long."""
    ready, since = list[T](), time.monotonic()
    for answer in answers:
        ready.append(answer)
        if time.monotonic() - since > _SECONDS_BETWEEN_YIELDS:
            yield ready
            ready, since = [], time.monotonic()
    yield ready
