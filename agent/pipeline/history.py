"""Past verdicts, from the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from agent.core.errors import UnknownVerdict, UsageError
from agent.core.logs import log_event
from agent.core.records import Verdict, clean_text
from agent.pipeline.context import AppContext
from retrieval.store.caches import LLMCache
from retrieval.store.schema import in_utc


@dataclass(frozen=True)
class PastVerdict:
    """A verdict, the label that a person corrected it to, if one did, and the time at which it was given last."""

    verdict: Verdict
    corrected_to: str | None
    judged_at: datetime


class Pruned(NamedTuple):
    """How many verdicts, and cached answers of the language model, were removed."""

    verdicts: int
    answers: int


def prune(context: AppContext) -> Pruned:
    """Remove the verdicts and answers beyond the settings ``history_days``, ``history_rows`` and ``llm_cache_rows``."""
    limits = context.settings
    pruned = Pruned(
        context.history.prune(max_age_days=limits.history_days, max_rows=limits.history_rows),
        LLMCache(context.casebook.engine).prune(max_rows=limits.llm_cache_rows),
    )
    log_event("prune", verdicts=pruned.verdicts, llm_answers=pruned.answers)
    return pruned


def find_verdicts(
    context: AppContext,
    *,
    source: str | None = None,
    label: str | None = None,
    since: datetime | None = None,
    limit: int,
) -> list[PastVerdict]:
    """The last ``limit`` verdicts of a source, with a label, and given since a time; None: any. Newest first.

    Raises
    ------
    UnknownSource
        There is no source of that name.
    UsageError
        The time is in no year from 1 to 9999 in UTC.
    """
    if source is not None:
        context.source(source)
    if since is not None:
        try:
            since = in_utc(since)
        except OverflowError as error:
            raise UsageError(f"the time {since.isoformat()} is in no year from 1 to 9999 in UTC") from error
    found = context.history.find(source=source, label=label, since=since, limit=limit)
    return [
        PastVerdict(Verdict.model_validate(body), corrected_to, in_utc(judged_at))
        for body, corrected_to, judged_at in found
    ]


def newest(verdicts: Sequence[PastVerdict]) -> list[Verdict]:
    """The first verdict on each record (its content, file and line), in order."""
    by_record: dict[tuple[str | int | None, ...], Verdict] = {}
    for past in verdicts:
        record = past.verdict.record
        by_record.setdefault((record.file, record.line, record.content_hash), past.verdict)
    return list(by_record.values())


def load_verdict(context: AppContext, verdict_id: str) -> Verdict:
    """The verdict of that id.

    Raises
    ------
    UnknownVerdict
        There is none in the history.
    """
    # what the store cannot hold is no id
    body = context.history.get(verdict_id) if clean_text(verdict_id) == verdict_id else None
    if body is None:
        raise UnknownVerdict(verdict_id)
    return Verdict.model_validate(body)
