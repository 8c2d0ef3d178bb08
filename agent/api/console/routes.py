"""The console's routes that are no pages: uploads, rows of a table, exports, style sheet and script."""

from __future__ import annotations

import shutil
from typing import Annotated, Any, Literal

import anyio
from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import FileResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.concurrency import run_in_threadpool

from agent.api.console.case_search import nearest_cases
from agent.api.console.frame import STATIC
from agent.api.console.jobs import CELL, COLUMNS, Job
from agent.api.roles import needs
from agent.api.state import State
from agent.core.access import Role
from agent.core.writing import writing
from agent.training.cases import CaseView, list_cases

_MOST_ROWS = 1_000
# as `/v1/cases` bounds its offset: larger numbers are none of SQL
_Place = Annotated[int, Query(ge=0, le=2**31 - 1)]
_PLAIN_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox",
    "Cache-Control": "no-store",
}

router = APIRouter(prefix="/console", include_in_schema=False)
static_files = StaticFiles(directory=STATIC)


@router.put("/uploads")
@needs(Role.JUDGE)
async def put_upload(
    request: Request, state: State, name: Annotated[str, Query(max_length=1_000)] = ""
) -> dict[str, Any]:
    """Store the body as a file, piece by piece as it comes."""
    upload = await run_in_threadpool(state.jobs.new_upload, name)
    size = 0
    try:
        with writing(upload.path):
            async with await anyio.open_file(upload.path, "wb") as file:
                async for piece in request.stream():
                    size += len(piece)
                    await file.write(piece)
        if not size:
            raise HTTPException(422, "the file is empty")
    except BaseException:
        shutil.rmtree(upload.folder, ignore_errors=True)
        raise
    await run_in_threadpool(state.jobs.add_upload, upload)
    return {"upload": upload.id, "name": upload.name, "bytes": size}


@router.get("/jobs/{job_id}/rows")
@needs(Role.READ)
def get_rows(
    job_id: str,
    state: State,
    start: _Place = 0,
    end: _Place = 100,
    labels: str = "",
    search: Annotated[str, Query(max_length=1_000)] = "",
    sort: Literal["", "line", "label", "probability", "text", "why"] = "",
    descending: bool = False,
) -> dict[str, Any]:
    """Some rows of a run, by filter and order, and how many there are."""
    assert sort in ("", *COLUMNS)
    wanted = frozenset(filter(None, labels.split(",")))
    end = min(end, start + _MOST_ROWS)
    rows, total = _job(state, job_id).page(start, end, labels=wanted, search=search, sort=sort, descending=descending)
    return {"rows": rows, "total": total}


@router.get("/jobs/{job_id}/verdicts.{kind}")
@needs(Role.READ)
def get_export(job_id: str, kind: Literal["jsonl", "csv", "html"], state: State) -> Response:
    """All verdicts of a run as a file."""
    job = _job(state, job_id)
    if job.state != "done":
        raise HTTPException(409, "the run is not finished")
    path = {"jsonl": lambda: job.verdicts, "csv": job.write_csv, "html": job.write_html}[kind]()
    media = {"jsonl": "application/x-ndjson", "csv": "text/csv", "html": "text/html"}[kind]
    name = f"{job.upload.name}.verdicts.{kind}"
    return FileResponse(path, media_type=f"{media}; charset=utf-8", filename=name, headers=_PLAIN_HEADERS)


@router.get("/cases")
@needs(Role.READ)
def get_cases(
    source: str,
    state: State,
    start: _Place = 0,
    end: _Place = 100,
    search: Annotated[str, Query(max_length=4_000)] = "",
    label: Literal["", "normal", "anomalous"] = "",
    mode: Literal["word", "meaning"] = "word",
) -> dict[str, Any]:
    """Some cases of a source: the newest with all words of the search, or those nearest to it in meaning."""
    limit = max(0, min(end, start + _MOST_ROWS) - start)
    if mode == "meaning" and search.strip():
        nearest = nearest_cases(state.context, source, search, label or None)
        rows = [_case_row(case, similarity) for case, similarity in nearest]
        return {"rows": rows[start : start + limit], "total": len(rows)}
    page = list_cases(state.context, source, label or None, search, limit, start)
    return {"rows": [_case_row(case) for case in page.cases], "total": page.total}


def _case_row(case: CaseView, similarity: float | None = None) -> dict[str, Any]:
    record = case.record
    shown = " ".join(record.text.split()) or ", ".join(f"{name} {value}" for name, value in record.fields.items())
    return {
        "case_id": case.case_id,
        "label": case.label,
        "text": shown[:CELL],
        "given_by": case.given_by,
        "given_at": f"{case.given_at:%Y-%m-%d %H:%M}" if case.given_at else "",
        "similarity": similarity,
    }


def _job(state: State, job_id: str) -> Job:
    job = state.jobs.get(job_id)
    if job is None:
        raise HTTPException(404, "no such run: judge the file again")
    return job
