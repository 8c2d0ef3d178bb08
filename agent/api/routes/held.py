"""Routes about corrections that wait for a second person."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Query

from agent.api.bodies import JsonRoute
from agent.api.roles import needs
from agent.api.state import State
from agent.core.access import Role
from agent.core.json_schemas import SourceName
from agent.training.feedback import refit_source_if_due
from agent.training.held_corrections import HeldPage, confirm_held, list_held, reject_held, show_held
from agent.training.opposing_corrections import HeldView

router = APIRouter(prefix="/v1/held-corrections", tags=["cases"], route_class=JsonRoute)
_BY = "API"


@router.get("")
@needs(Role.READ)
def get_held_corrections(
    state: State,
    source: SourceName | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    offset: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
) -> HeldPage:
    """The corrections of a source that wait for a second person, oldest first."""
    return list_held(state.context, source, limit, offset)


@router.get("/{held_id}")
@needs(Role.READ)
def get_held_correction(held_id: str, state: State) -> HeldView:
    """A correction that waits for a second person, or what was decided."""
    return show_held(state.context, held_id)


@router.post("/{held_id}/confirm")
@needs(Role.CORRECT)
def post_confirmation(held_id: str, background: BackgroundTasks, state: State) -> HeldView:
    """Have a correction of another key take effect. Enough changes start a refit of the source."""
    held = confirm_held(state.context, held_id, _BY)
    background.add_task(refit_source_if_due, state.context, held.source)
    return held


@router.post("/{held_id}/reject")
@needs(Role.CORRECT)
def post_rejection(held_id: str, state: State) -> HeldView:
    """Drop a correction that waits."""
    return reject_held(state.context, held_id, _BY)
