"""Routes about single cases; adding cases is with the sources."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Query
from fastapi.responses import Response

from agent.api.bodies import JsonRoute
from agent.api.roles import needs
from agent.api.schemas import HELD, Feedback
from agent.api.state import State
from agent.core.access import Role
from agent.core.json_schemas import SourceName
from agent.core.records import Label
from agent.training.cases import CaseDetail, CasePage, ChangeView, delete_case, list_cases, relabel_case, show_case
from agent.training.feedback import refit_source_if_due, undo_correction

router = APIRouter(prefix="/v1", tags=["cases"], route_class=JsonRoute)
_BY = "API"


@router.get("/cases")
@needs(Role.READ)
def get_cases(
    state: State,
    source: SourceName | None = None,
    label: Label | None = None,
    text: Annotated[str, Query(max_length=200)] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    offset: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
) -> CasePage:
    """The cases of a source, newest first; ``text``: words that a case's text has."""
    return list_cases(state.context, source, label, text, limit, offset)


@router.get("/cases/{case_id}")
@needs(Role.READ)
def get_case(case_id: str, state: State) -> CaseDetail:
    """A case, and who labelled it what when."""
    return show_case(state.context, case_id)


@router.patch("/cases/{case_id}", responses={202: {"model": CaseDetail, "description": HELD}})
@needs(Role.CORRECT)
def patch_case(
    case_id: str, changed: Feedback, background: BackgroundTasks, response: Response, state: State
) -> CaseDetail:
    """Give a case another label. Enough changes start a refit of the source."""
    case = relabel_case(state.context, case_id, changed.label, _BY)
    if case.held:
        response.status_code = 202
    else:
        background.add_task(refit_source_if_due, state.context, case.source)
    return case


@router.delete("/cases/{case_id}")
@needs(Role.ADMIN)
def remove_case(case_id: str, background: BackgroundTasks, state: State) -> CaseDetail:
    """Remove a case; the answer is the case as it was."""
    case = delete_case(state.context, case_id, _BY)
    background.add_task(refit_source_if_due, state.context, case.source)
    return case


@router.delete("/cases/{case_id}/changes/last")
@needs(Role.CORRECT)
def undo_case_change(case_id: str, background: BackgroundTasks, state: State) -> ChangeView:
    """Undo the API's last change of a case, also of one that was removed; the answer is the change that was undone."""
    return _undone(case_id, background, state)


@router.delete("/cases/changes/{change_id}")
@needs(Role.CORRECT)
def undo_change(change_id: str, background: BackgroundTasks, state: State) -> ChangeView:
    """Undo a change of a case, whoever made it; the answer is the change that was undone."""
    return _undone(change_id, background, state)


@router.delete("/verdicts/{verdict_id}/feedback")
@needs(Role.CORRECT)
def undo_feedback(verdict_id: str, background: BackgroundTasks, state: State) -> ChangeView:
    """Undo the API's last correction of a verdict; the answer is the change that was undone."""
    return _undone(verdict_id, background, state)


def _undone(changed: str, background: BackgroundTasks, state: State) -> ChangeView:
    change = undo_correction(state.context, changed, _BY)
    background.add_task(refit_source_if_due, state.context, change.source)
    return ChangeView.of(change)
