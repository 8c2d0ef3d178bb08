"""The welcome page, health, readiness and metrics."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from agent.api.state import State

_WELCOME = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Precedent</title>
<style>body{font:16px/1.5 system-ui;max-width:44rem;margin:4rem auto;padding:0 1rem}code{background:#eee;padding:0 .3em}
</style><h1>Precedent</h1><p>Judges records by precedent: normal or anomalous, how sure, and why.</p><ul>
<li><a href="/chain/playground/">Chat with the agent</a>: paste a record, ask why, correct it</li>
<li><a href="/verdict/playground/">One record, one verdict</a></li>
<li><a href="/docs">The API</a>: <code>POST /v1/verdicts</code>, <code>POST /v1/cases</code>,
<code>GET /v1/sources</code></li>
<li><a href="/healthz">/healthz</a> <a href="/readyz">/readyz</a> <a href="/metrics">/metrics</a></li></ul></html>"""

router = APIRouter()


@router.get("/", response_class=HTMLResponse, include_in_schema=False)
def welcome() -> str:
    """Links to everything else."""
    return _WELCOME


@router.get("/healthz", tags=["health"])
def healthz() -> dict[str, str]:
    """The process answers requests."""
    return {"status": "ok"}


@router.get("/readyz", tags=["health"])
def readyz(state: State) -> Response:
    """The casebook and the embedding model are loaded, so that records can be judged; else 503 with the reason."""
    if state.not_ready:
        return JSONResponse({"status": "not ready", "detail": state.not_ready}, 503)
    return JSONResponse({"status": "ready"})


@router.get("/metrics", include_in_schema=False)
def metrics(state: State) -> Response:
    """Counts of all processes that serve, and each source's drift as of the last minute."""
    return Response(state.metrics.scrape(), media_type=CONTENT_TYPE_LATEST)
