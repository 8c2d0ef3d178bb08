"""Corrections that wait for a second person: listed, confirmed and rejected."""

from __future__ import annotations

from pydantic import BaseModel

from agent.core.access import Role, current_caller, require, signed
from agent.core.errors import Forbidden, UnknownHeldCorrection, UsageError
from agent.core.logs import log_event
from agent.core.records import Record, Verdict, clean_text
from agent.pipeline.context import AppContext
from agent.training.cases import case_record_of
from agent.training.feedback import apply_correction
from agent.training.opposing_corrections import HeldView, is_of_key
from retrieval.store.held_corrections import AT_ONCE, CONFIRMED, REJECTED, HeldCorrection


class HeldPage(BaseModel):
    """Some of the corrections of a source that wait, oldest first, and how many wait in all."""

    source: str
    total: int
    held: list[HeldView]


def list_held(context: AppContext, source: str | None = None, limit: int = 50, offset: int = 0) -> HeldPage:
    """The corrections of a source that wait, oldest first.

    Parameters
    ----------
    source : str, optional
        By default the only one there is.

    Raises
    ------
    UnknownSource, UsageError
        There is no such source, or none was named and there are several.
    """
    name = context.source(source).name
    rows, total = context.held_corrections.waiting(name, limit, offset)
    return HeldPage(source=name, total=total, held=[_view(context, row) for row in rows])


def show_held(context: AppContext, held_id: str) -> HeldView:
    """A correction that waits or waited.

    Raises
    ------
    UnknownHeldCorrection
    """
    return _view(context, _get(context, held_id))


def confirm_held(context: AppContext, held_id: str, by: str) -> HeldView:
    """Have a correction take effect.

    Parameters
    ----------
    by : str
        The client that confirms it; the name of its API key is added.

    Raises
    ------
    UnknownHeldCorrection
    Forbidden
        The caller's role is not enough, or it is the key that made the correction.
    UsageError
        It does not wait any more, or what it corrects is not stored any more.
    """
    require(Role.CORRECT)
    held, caller = _waiting(context, held_id), current_caller()
    if caller is not None and is_of_key(held.held_by, caller.name):
        raise Forbidden(f"{held_id} was corrected with the API key {caller.name!r}: a second person must confirm it")
    record, _ = _subject(context, held)
    if record is None:
        raise UsageError(f"what {held_id} corrects is not stored any more: it can only be rejected")
    _decide(context, held, CONFIRMED, by)
    changed_by = f"{held.held_by}, confirmed by {signed(by)}"
    try:
        if held.verdict_id is not None:
            apply_correction(context, held.verdict_id, _view(context, held).label, changed_by)
        else:
            context.casebook.change_case(held.case_id or "", held.label, changed_by)
    except BaseException:
        context.held_corrections.wait_again(held)
        raise
    return show_held(context, held_id)


def reject_held(context: AppContext, held_id: str, by: str) -> HeldView:
    """Drop a correction that waits; whoever made it may do so too.

    Raises
    ------
    UnknownHeldCorrection
    Forbidden
        The caller's role is not enough.
    UsageError
        It does not wait any more.
    """
    require(Role.CORRECT)
    _decide(context, _waiting(context, held_id), REJECTED, by)
    return show_held(context, held_id)


def _get(context: AppContext, held_id: str) -> HeldCorrection:
    # what the store cannot hold is no id
    held = context.held_corrections.get(held_id) if clean_text(held_id) == held_id else None
    if held is None or held.decision == AT_ONCE:
        raise UnknownHeldCorrection(held_id)
    return held


def _waiting(context: AppContext, held_id: str) -> HeldCorrection:
    held = _get(context, held_id)
    if held.decision is not None:
        raise UsageError(f"{held_id} was {held.decision} by {held.decided_by} already")
    return held


def _decide(context: AppContext, held: HeldCorrection, decision: str, by: str) -> None:
    if not context.held_corrections.decide(held, decision, signed(by)):
        raise UsageError(f"somebody else has just decided on {held.held_id}")
    log_event(f"correction {decision}", source=held.source, held=held.held_id)


def _view(context: AppContext, held: HeldCorrection) -> HeldView:
    return HeldView.of(held, *_subject(context, held))


def _subject(context: AppContext, held: HeldCorrection) -> tuple[Record | None, str | None]:
    """The record that is labelled, and the label of the verdict or of the case; None: it is not stored any more."""
    if held.verdict_id is None:
        return case_record_of(context, held.case_id or "")
    body = context.history.get(held.verdict_id)
    verdict = Verdict.model_validate(body) if body is not None else None
    return (verdict.record, verdict.label) if verdict else (None, None)
