"""A verdict, or why a record got none."""

from __future__ import annotations

from dataclasses import dataclass

from agent.records import Record, Verdict


@dataclass(frozen=True)
class Unjudged:
    """A record that got no verdict, and why."""

    record: Record
    reason: str

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.record.file, self.record.line) if part is not None)
        return f"{place}: {self.reason}" if place else self.reason


def checked(record: Record, answer: Verdict | Exception) -> Verdict | Unjudged:
    """What the chain answered about a record; raises what is wrong with all of them."""
    if isinstance(answer, (ValueError, ArithmeticError)):
        return Unjudged(record, f"could not be judged: {answer}")
    if isinstance(answer, Exception):
        raise answer
    return answer
