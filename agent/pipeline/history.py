"""Past verdicts, from the store."""

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


def recent(context: AppContext, source: str, limit: int) -> list[RecentVerdict]:
    """The source's last ``most`` verdicts, newest first."""
    stored = context.history.recent(source, limit)
    return [RecentVerdict(Verdict.model_validate(body), label) for body, label in stored]


def newest(verdicts: Sequence[RecentVerdict]) -> list[Verdict]:
    """The first verdict on each record (its content, file and line), in order."""
    by_record: dict[tuple[str | int | None, ...], Verdict] = {}
    for recent_verdict in verdicts:
        record = recent_verdict.verdict.record
        by_record.setdefault((record.file, record.line, record.content_hash), recent_verdict.verdict)
    return list(by_record.values())


def load_verdict(context: AppContext, verdict_id: str) -> Verdict:
    """The verdict of that id.

    Raises
    ------
    UnknownVerdict
        There is none in the history.
    """
    body = context.history.get(verdict_id)
    if body is None:
        raise UnknownVerdict(verdict_id)
    return Verdict.model_validate(body)
