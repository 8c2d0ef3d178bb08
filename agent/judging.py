"""Many records: judged in chunks, in order, each by the chain, each verdict kept in the history."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from langchain_core.runnables import Runnable, RunnableLambda

from agent.errors import PrecedentError, mapped
from agent.parts import Parts
from agent.question import Explain, Question
from agent.records import Record, Verdict

_CHUNK = 64


@dataclass(frozen=True)
class Unjudged:
    """A record that got no verdict, and why."""

    record: Record
    reason: str

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.record.file, self.record.line) if part is not None)
        return f"{place}: {self.reason}" if place else self.reason


def keeping(parts: Parts, chain: Runnable[Any, Verdict]) -> Runnable[Any, Verdict]:
    """The chain, each verdict being in the history when it is given."""

    def keep(verdict: Verdict) -> Verdict:
        with mapped():
            parts.history.put([verdict.model_dump(mode="json")])
        return verdict

    return (chain | RunnableLambda(keep)).with_types(input_type=Question, output_type=Verdict)


def judge_many(
    parts: Parts,
    chain: Runnable[Question, Verdict],
    records: Iterable[Record],
    source: str,
    explain: Explain = "facts",
) -> Iterator[Verdict | Unjudged]:
    """One verdict for each record, in order; each chunk is in the history before its verdicts are given out.

    Raises:
        PrecedentError: for what is wrong with all of them (no such source, a part missing).
    """
    waiting = iter(records)
    with mapped():
        while chunk := list(islice(waiting, _CHUNK)):
            questions = [Question.about(record, source, explain) for record in chunk]
            out: list[Verdict | Unjudged] = []
            for record, question in zip(chunk, questions, strict=True):
                try:
                    out.append(chain.invoke(question))
                except PrecedentError:
                    raise
                except (ValueError, ArithmeticError) as error:
                    out.append(Unjudged(record, f"could not be judged: {error}"))
            parts.history.put(verdict.model_dump(mode="json") for verdict in out if isinstance(verdict, Verdict))
            yield from out
