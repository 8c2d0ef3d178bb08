"""Corrections of verdicts, and undoing them: each changes a case at once; enough of them cause a new fit."""

from __future__ import annotations

from pydantic import Field

from agent.core.access import Role, require, signed
from agent.core.errors import Conflict
from agent.core.progress import Progress
from agent.core.records import Case, Label, Precedent, Verdict, clean_text
from agent.pipeline.context import AppContext
from agent.pipeline.history import load_verdict
from agent.training.cases import record_of_row
from agent.training.challenge import FittedMeanwhile, challenge
from agent.training.comparison import FEEDBACK
from agent.training.learn import as_case
from agent.training.opposing_corrections import HeldView, hold_if_opposing, refuse_to_undo
from agent.training.refit import changes_since_fit, refit_while_due
from retrieval.casebook import SourceSnapshot
from retrieval.store.case_changes import CaseChange

_FEWEST, _SHARE = 5, 0.02
# cosine from which on two vectors are the same, but for rounding
_SAME = 1 - 1e-6


class CorrectedCase(Case):
    """The case that a correction made.

    Attributes
    ----------
    contradicts : tuple of Precedent
        Cases that no comparison tells from it, of the other label.
    held : HeldView or None
        The correction if it waits for a second person: there is no case then, and no ``case_id``.
    """

    contradicts: tuple[Precedent, ...] = ()
    held: HeldView | None = Field(None, exclude_if=lambda held: held is None)


def correct(context: AppContext, verdict_id: str, label: Label, by: str | None = None) -> CorrectedCase:
    """Make the verdict's record a case labelled ``label``, replacing any label that its content had.

    One that opposes what others labelled may have to wait; see `agent.training.opposing_corrections`. The case is
    embedded when the source is next searched.

    Parameters
    ----------
    by : str, optional
        Who corrects it, or where; the name of the API key is added.

    Raises
    ------
    Forbidden
        The caller's role is not enough.
    UnknownVerdict
        There is no such verdict.
    Busy
        The API key has made as many corrections as it may.
    """
    require(Role.CORRECT)
    verdict = load_verdict(context, verdict_id)
    given_by = f"{FEEDBACK}{verdict_id}" + (f", {signed(by)}" if by else "")
    with context.correcting:
        held = hold_if_opposing(
            *(context, verdict.source, verdict.record, label, signed(by or "API")),
            judged=verdict.label,
            verdict_id=verdict_id,
        )
        case_id = None if held else apply_correction(context, verdict_id, label, given_by)
    return CorrectedCase(
        record=verdict.record,
        label=label,
        given_by="feedback",
        case_id=case_id,
        contradicts=contradicted_cases(verdict, label),
        held=HeldView.of(held, verdict.record, verdict.label) if held else None,
    )


def apply_correction(context: AppContext, verdict_id: str, label: Label, given_by: str) -> str:
    """Make the verdict's record a case with that label, whoever may; the id of the case."""
    verdict = load_verdict(context, verdict_id)
    case_id = context.casebook.relabel(verdict.source, as_case(verdict.record, label), given_by, verdict_id)
    context.history.corrected(verdict_id, label)
    return case_id


def undo_correction(context: AppContext, changed: str, by: str | None = None) -> CaseChange:
    """Undo a change, the last one of a case, or the last correction of a verdict: the cases are as they were before.

    Parameters
    ----------
    changed : str
        The id of a change, which is undone whoever made it, or of a verdict or a case, which may be removed by now.
    by : str, optional
        The client that undoes it. The last change of a verdict or a case must be its own, by the same API key.

    Raises
    ------
    Forbidden
        The caller's role is not enough, or several cases agree with another client's change.
    Conflict
        There is nothing to undo, it is another client's change, or the record was labelled otherwise since.
    """
    require(Role.CORRECT)
    by = signed(by) if by else None
    change = _change_of(context, clean_text(changed)) if clean_text(changed) == changed else None
    if change is None:
        raise Conflict(f"there is no change of {clean_text(changed)} to undo")
    if by is not None and changed != change.change_id and not change.is_by(by):
        raise Conflict(
            f"the last change of {changed} is not by {by} but by {change.changed_by} "
            f"({change.action} on {change.changed_at:%Y-%m-%d %H:%M:%S} UTC): its own id, {change.change_id}, undoes it"
        )
    with context.correcting:
        _check_undo(context, change)
    if not context.casebook.undo(change, by or "a person"):
        raise Conflict(f"the record of {changed} was changed again since: undo that first")
    if change.verdict_id:
        earlier = context.case_rows.last_change(verdict_id=change.verdict_id)
        context.history.corrected(change.verdict_id, earlier.label_after if earlier else None)
    return change


def _check_undo(context: AppContext, change: CaseChange) -> None:
    row = context.case_rows.get(change.case_id)
    if row is not None and change.label_after is not None:
        after: Label = "anomalous" if change.label_after == "anomalous" else "normal"
        refuse_to_undo(context, change.source, record_of_row(row), after, change.changed_by)


def _change_of(context: AppContext, changed: str) -> CaseChange | None:
    """The change of that id, or the last one of that verdict or case; None if there is none to undo."""
    rows = context.case_rows
    if changed.startswith("v"):
        return rows.last_change(verdict_id=changed)
    if (change := rows.change(changed)) is not None:
        return None if change.undone or change.action == "undone" else change
    return rows.last_change(case_id=changed)


def contradicted_cases(verdict: Verdict, label: Label) -> tuple[Precedent, ...]:
    """The precedents that no comparison tells from the verdict's record and that have another label than ``label``.

    A case with the very content of the record is not among them: the correction replaces its label.
    """
    return tuple(
        precedent
        for precedent in verdict.precedents
        if precedent.similarity >= _SAME and precedent.label != label and precedent.text != verdict.record.text
    )


def refit_due(snapshot: SourceSnapshot) -> bool:
    """Whether a source has cases that were never fitted, or enough changes since its last fit.

    Enough are 2 % of its cases, and at least 5. Each correction is one version of the casebook.
    """
    cases = sum(snapshot.counts.values())
    if snapshot.source_model is None:
        return cases > 0
    return changes_since_fit(snapshot) >= max(_FEWEST, _SHARE * cases)


def refit_if_due(context: AppContext, verdict_id: str, progress: Progress | None = None) -> int:
    """As `refit_source_if_due`, of the source of a corrected verdict."""
    return refit_source_if_due(context, load_verdict(context, verdict_id).source, progress)


def refit_source_if_due(context: AppContext, source: str, progress: Progress | None = None) -> int:
    """Fit a source again if enough of its cases have changed; see `agent.training.challenge`.

    Returns
    -------
    int
        Changes of the casebook since the fit before, 0 if the source was not fitted here: too few changes, the fit that
        it had is better, or another process was faster.
    """
    snapshot = context.source(source)
    changes, before = changes_since_fit(snapshot), snapshot.source_model or {}
    try:
        fitted = refit_while_due(context, snapshot.name, refit_due, progress, challenge)
    except FittedMeanwhile:
        return 0
    after = context.source(source).source_model or {}
    return changes if fitted and after.get("challenged_on") == before.get("challenged_on") else 0
