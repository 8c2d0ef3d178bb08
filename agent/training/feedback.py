"""Corrections of verdicts: each becomes a case at once, and enough of them cause a new fit of the source."""

from __future__ import annotations

from agent.core.records import Case, Label, Record
from agent.pipeline.context import AppContext
from agent.pipeline.history import load_verdict
from agent.training.learn import Progress, as_case, refit_while_due
from retrieval.casebook import SourceRow

_FEWEST, _SHARE = 5, 0.02


def correct(context: AppContext, verdict_id: str, label: Label) -> Case:
    """Make the verdict's record a case labelled ``label``, replacing any label that its content had.

    Raises:
        UnknownVerdict: there is no such verdict.
    """
    verdict = load_verdict(context, verdict_id)
    record: Record = verdict.record
    case_id = context.casebook.relabel(verdict.source, as_case(record, label), given_by=f"feedback on {verdict_id}")
    context.casebook.sync(verdict.source)
    context.history.corrected(verdict_id, label)
    return Case(record=record, label=label, given_by="feedback", case_id=case_id)


def refit_due(row: SourceRow) -> bool:
    """Whether a source has cases that were never fitted, or enough changes since its last fit.

    Enough are 2 % of its cases, and at least 5. Each correction is one version of the casebook.
    """
    cases = sum(row.counts.values())
    if row.judge is None:
        return cases > 0
    return bool(row.version - row.judge["fitted_on"] >= max(_FEWEST, _SHARE * cases))


def refit_if_due(context: AppContext, verdict_id: str, progress: Progress | None = None) -> bool:
    """After a correction: fit the judge of the verdict's source anew when that is due; whether it was."""
    return refit_while_due(context, load_verdict(context, verdict_id).source, refit_due, progress)
