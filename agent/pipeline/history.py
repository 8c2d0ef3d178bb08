"""Verdicts that were given, from the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent.core.errors import UnknownVerdict
from agent.core.records import Verdict
from agent.pipeline.context import AppContext


@dataclass(frozen=True)
class RecentVerdict:
    """A verdict, and the label that a person corrected it to, if one did."""

    verdict: Verdict
    corrected_to: str | None


def recent(context: AppContext, source: str, most: int) -> list[RecentVerdict]:
    """The source's last ``most`` verdicts, newest first."""
    return [RecentVerdict(Verdict.model_validate(body), label) for body, label in context.history.recent(source, most)]


def newest(given: Sequence[RecentVerdict]) -> list[Verdict]:
    """Of each record (what it says, and where it stood) the newest verdict, in order."""
    by_record: dict[tuple[str | int | None, ...], Verdict] = {}
    for one in given:
        record = one.verdict.record
        by_record.setdefault((record.file, record.line, record.content_hash), one.verdict)
    return list(by_record.values())


def load_verdict(context: AppContext, verdict_id: str) -> Verdict:
    """The verdict of that id.

    Raises:
        UnknownVerdict: there is none in the history.
    """
    body = context.history.get(verdict_id)
    if body is None:
        raise UnknownVerdict(verdict_id)
    return Verdict.model_validate(body)
