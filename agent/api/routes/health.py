"""Health, readiness and metrics."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from agent.api.roles import needs
from agent.api.state import State
from agent.core.access import Role
from agent.core.instance import identity

router = APIRouter()


@router.get("/healthz", tags=["health"])
@needs(Role.PUBLIC)
def healthz(state: State) -> dict[str, str]:
    """The process answers requests. Of equal `identity` are servers that judge alike, and share their data."""
    return {"status": "ok", "identity": identity(state.settings)}


@router.get("/readyz", tags=["health"])
@needs(Role.PUBLIC)
def readyz(state: State) -> Response:
    """The casebook and the embedding model are loaded, so that records can be judged; else 503 with the reason."""
    if state.not_ready:
        return JSONResponse({"status": "not ready", "detail": state.not_ready}, 503)
    return JSONResponse({"status": "ready"})


@router.get("/metrics", include_in_schema=False)
@needs(Role.READ)
def metrics(state: State) -> Response:
    """Counts of all processes that serve, and each source's drift as of the last minute."""
    return Response(state.metrics.scrape(), media_type=CONTENT_TYPE_LATEST)
