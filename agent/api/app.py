"""The HTTP application: REST under /v1, LangServe at /chain and /verdict, documentation, health, metrics.

LangServe sits on top of our own chain, and nothing here depends on it; its licence forbids offering LangServe
itself as a hosted service.
"""

from __future__ import annotations

import asyncio
import os
import warnings
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import Context
from typing import Annotated, Any

from fastapi import BackgroundTasks, Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from fastapi_offline import FastAPIOffline
from langchain_core.runnables import RunnableLambda
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_fastapi_instrumentator import Instrumentator
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from agent.api.metrics import DriftGauges
from agent.api.middleware import NDJSON, Duplex, GuardMiddleware, JsonRoute, cancel_on_disconnect, media_type
from agent.api.ndjson import stream_verdicts, to_json_bytes
from agent.api.schemas import Added, Brief, Feedback, NewCases, Problem, SourceView, Unanswered
from agent.api.shutdown import Shutdown
from agent.chat.commands import ChatInput, build_chat
from agent.core.cancellable_stream import stream_in_thread
from agent.core.errors import Busy, InputError, PrecedentError, mapped
from agent.core.records import Case, JudgeError, Record, Verdict
from agent.core.requests import (
    AnyRequest,
    Batch,
    JudgeRequest,
    check_record_size,
    error_location,
    parse_request,
    parse_requests,
    storable,
)
from agent.core.settings import Settings, settings
from agent.pipeline.batcher import MicroBatcher
from agent.pipeline.context import AppContext
from agent.pipeline.history import load_verdict
from agent.pipeline.llm_explanation import stream_explanation
from agent.pipeline.pipeline import build
from agent.pipeline.service import with_history
from agent.training.active_learning import Candidate, select_for_review
from agent.training.feedback import correct, refit_if_due
from agent.training.learn import as_case, check_name, refit, refit_while_due

with warnings.catch_warnings():
    # LangServe says on import that it is deprecated; the project knows
    warnings.simplefilter("ignore")
    from langserve import add_routes
# its playgrounds read `stream_log`, which says at each use that it is deprecated
warnings.filterwarnings("ignore", message="astream_log is deprecated")

_WELCOME = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Precedent</title>
<style>body{font:16px/1.5 system-ui;max-width:44rem;margin:4rem auto;padding:0 1rem}code{background:#eee;padding:0 .3em}
</style><h1>Precedent</h1><p>Judges records by precedent: normal or anomalous, how sure, and why.</p><ul>
<li><a href="/chain/playground/">Chat with the agent</a>: paste a record, ask why, correct it</li>
<li><a href="/verdict/playground/">One record, one verdict</a></li>
<li><a href="/docs">The API</a>: <code>POST /v1/verdicts</code>, <code>POST /v1/cases</code>,
<code>GET /v1/sources</code></li>
<li><a href="/healthz">/healthz</a> <a href="/readyz">/readyz</a> <a href="/metrics">/metrics</a></li></ul></html>"""


_VERDICTS: dict[int | str, dict[str, Any]] = {
    200: {
        "model": Verdict | list[Verdict | Unanswered],
        "content": {NDJSON: {}},
        "description": "A verdict for each record, in order",
    }
}


def create_app(chosen: Settings | None = None) -> FastAPI:
    """The application; ``chosen`` are its settings, by default the process's."""
    chosen = chosen or settings()
    context = AppContext(chosen)
    stopping = Shutdown()
    state: dict[str, str | None] = {"loading": "models are being loaded"}

    def load() -> None:
        try:
            with mapped():
                context.embedder().encode_one("warm")
                desk.warm()
            state["loading"] = None
            with mapped():
                context.language_detector()
        except PrecedentError as error:
            if state["loading"]:
                state["loading"] = str(error)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        stopping.watch()
        loading = asyncio.create_task(asyncio.to_thread(load))
        yield
        await loading
        await run_in_threadpool(desk.close)
        await run_in_threadpool(context.close)

    app = FastAPIOffline(
        title="Precedent",
        version="1",
        description=__doc__.splitlines()[0],
        lifespan=lifespan,
        responses={
            "4XX": {"model": Problem, "description": "What is wrong with the request"},
            503: {"model": Problem, "description": "Which part is missing"},
        },
    )
    app.router.route_class = JsonRoute
    app.add_middleware(GuardMiddleware, chosen=chosen)
    registry = CollectorRegistry()
    Instrumentator(registry=registry).instrument(app)
    given = Counter("precedent_verdicts_total", "Verdicts given", ("source", "label"), registry=registry)
    _answer_errors(app)

    def counted(verdict: Verdict) -> Verdict:
        given.labels(verdict.source, verdict.label).inc()
        return verdict

    chain = build(context)
    watched = chain | RunnableLambda(counted)

    def count(verdicts: Mapping[tuple[str, str], int]) -> None:
        for labels, number in verdicts.items():
            given.labels(*labels).inc(number)

    desk = MicroBatcher(context, chain.pipeline, count, chosen.waiting_records)

    async def judged(questions: Sequence[AnyRequest], *, alone: bool) -> list[bytes]:
        """A verdict, or what is wrong with the record, as JSON for each; what is wrong with all of them is raised."""
        out = list[bytes]()
        async for answers in await desk.order(questions):
            for answer in answers:
                if isinstance(answer, JudgeError) and alone:
                    raise InputError(answer.reason)
                if isinstance(answer, Exception):
                    raise answer
                out.append(to_json_bytes(answer))
        return out

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    def welcome() -> str:
        return _WELCOME

    @app.get("/healthz", tags=["health"])
    def healthz() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["health"])
    def readyz() -> Response:
        """Memory and the embedding model are there, so that records can be judged."""
        if state["loading"]:
            return JSONResponse({"status": "not ready", "detail": state["loading"]}, 503)
        return JSONResponse({"status": "ready"})

    @app.post("/v1/verdicts", tags=["verdicts"], openapi_extra=_verdicts_schema(), responses=_VERDICTS)
    async def post_verdicts(request: Request) -> Response:
        """Judge one record (an object), many (an array, or `records`), or a stream (NDJSON in, NDJSON out)."""
        if media_type(request.headers) == NDJSON:
            return Duplex(stream_verdicts(request, desk, chosen, stopping), media_type=NDJSON)
        questions, many = parse_requests(await request.json(), chosen.max_record_chars)
        to_json_bytes = await cancel_on_disconnect(request, judged(questions, alone=not many))
        return Response(b"[%s]" % b",".join(to_json_bytes) if many else to_json_bytes[0], media_type="application/json")

    drifting = DriftGauges(context)

    @app.get("/metrics", include_in_schema=False)
    def metrics() -> Response:
        """Counts of all processes that serve, and each source's drift."""
        counted = registry
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            MultiProcessCollector(counted := CollectorRegistry())  # type: ignore[no-untyped-call]
        body = generate_latest(counted)
        if not state["loading"]:
            gauges = CollectorRegistry()
            gauges.register(drifting)
            body += generate_latest(gauges)
        return Response(body, media_type=CONTENT_TYPE_LATEST)

    @app.get("/v1/verdicts/{verdict_id}", tags=["verdicts"])
    def get_verdict(verdict_id: str) -> Verdict:
        """A verdict from the history."""
        return load_verdict(context, verdict_id)

    @app.get("/v1/verdicts/{verdict_id}/explanation", tags=["verdicts"], response_class=PlainTextResponse)
    def get_explanation(verdict_id: str) -> StreamingResponse:
        """A verdict's facts, then up to three sentences by the language model, each sent as soon as it is checked."""
        verdict = load_verdict(context, verdict_id)
        return StreamingResponse(
            stream_in_thread(stream_explanation(context, verdict)), media_type="text/plain; charset=utf-8"
        )

    @app.post("/v1/verdicts/{verdict_id}/feedback", tags=["verdicts"])
    def post_feedback(verdict_id: str, feedback: Feedback, background: BackgroundTasks) -> Case:
        """Correct a verdict: its record becomes a case, and the next one like it follows; enough fit the judge anew."""
        case = correct(context, verdict_id, feedback.label)
        background.add_task(refit_if_due, context, verdict_id)
        return case

    @app.post("/v1/cases", tags=["cases"], status_code=201)
    def post_cases(new: NewCases, background: BackgroundTasks) -> Added:
        """Add labelled records. The same record again adds nothing; the judge is fitted anew in the background."""
        cases = [as_case(check_record_size(case.record, chosen.max_record_chars), case.label) for case in new.cases]
        with mapped():
            added = context.casebook.add(check_name(new.source), cases, given_by="API")
            context.casebook.sync(new.source)
            row = context.casebook.source(new.source)
        assert row is not None
        if added:
            background.add_task(refit_while_due, context, new.source)
        return Added(source=new.source, received=len(cases), added=added, casebook_version=row.version)

    @app.get("/v1/sources", tags=["sources"])
    def get_sources() -> list[SourceView]:
        """All sources."""
        with mapped():
            rows = [context.casebook.source(name) for name in context.casebook.names()]
        return [SourceView.of(row) for row in rows if row is not None]

    @app.get("/v1/sources/{name}", tags=["sources"])
    def get_source(name: str) -> SourceView:
        """One source."""
        return SourceView.of(context.source(name))

    @app.get("/v1/sources/{name}/review", tags=["sources"])
    def get_review(name: str, n: Annotated[int, Query(ge=1, le=200)] = 20) -> list[Candidate]:
        """The verdicts whose correction would teach the judge most, the best first."""
        return select_for_review(context, name, n)

    @app.put("/v1/sources/{name}", tags=["sources"])
    def put_source(name: str, brief: Brief, background: BackgroundTasks) -> SourceView:
        """Make a source, or write its brief."""
        with mapped():
            context.casebook.create(check_name(name))
            context.casebook.set(name, brief=brief.brief.strip(), brief_by="person")
        view = get_source(name)
        if any(view.cases.values()):
            background.add_task(refit, context, name)
        return view

    async def judgeable(request: Request) -> None:
        """What LangServe is about to judge can be judged: once its stream has begun, it is too late to refuse."""
        for one in await _inputs(request):
            question = parse_request(one, chosen.max_record_chars)
            await run_in_threadpool(context.source, question.source)

    async def conversational(request: Request) -> None:
        """What LangServe is about to answer is a conversation; messages of other shapes it fails on."""
        for one in await _inputs(request):
            messages = one.get("messages") if isinstance(one, dict) else None
            if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
                raise InputError("a conversation is expected: {'messages': [{'type': 'human', 'content': '…'}]}")

    def given_one(question: Any) -> Verdict:
        # in a context of its own: who watches the run sees the verdict, not every step's whole state
        return Context().run(kept.invoke, question)

    kept = with_history(context, watched)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        typed = RunnableLambda(given_one).with_types(input_type=JudgeRequest, output_type=Verdict)
        add_routes(app, typed, path="/verdict", playground_type="default", dependencies=[Depends(judgeable)])
        talk = build_chat(context, watched).with_types(input_type=ChatInput, output_type=str)
        add_routes(app, talk, path="/chain", playground_type="chat", dependencies=[Depends(conversational)])
    return app


async def _inputs(request: Request) -> list[Any]:
    """The inputs in what is sent to LangServe, whose own reading fails on some wrong shapes."""
    sent = await request.json() if request.method == "POST" else None
    if not isinstance(sent, dict):
        return []
    configs = sent.get("config", {})
    for config in configs if isinstance(configs, list) else [configs]:
        if not isinstance(config, dict):
            raise InputError("`config` must be an object, or for a batch an array of objects")
    if not isinstance(sent.get("inputs", []), list):
        raise InputError("`inputs` must be an array")
    return [*sent.get("inputs", []), *([sent["input"]] if "input" in sent else [])]


def _verdicts_schema() -> dict[str, Any]:
    """The body of `POST /v1/verdicts`, which is read by hand because it may be a stream."""
    one, batch = JudgeRequest.model_json_schema(), Batch.model_json_schema()
    batch["properties"]["records"]["items"] = {"anyOf": [Record.model_json_schema(), {"type": "string"}]}
    del batch["$defs"]
    content = {"application/json": {"schema": {"anyOf": [one, {"type": "array", "items": one}, batch]}}}
    return {"requestBody": {"required": True, "content": {**content, NDJSON: {"schema": one}}}}


def _answer_errors(app: FastAPI) -> None:
    """What goes wrong is said as JSON: ``{"detail": …}``."""

    @app.exception_handler(PrecedentError)
    def on_error(_: Request, error: PrecedentError) -> JSONResponse:
        headers = {"Retry-After": "1"} if isinstance(error, Busy) else None
        return JSONResponse({"detail": storable(str(error))}, error.http_status, headers)

    @app.exception_handler(ClientDisconnect)
    def on_leaving(_: Request, __: ClientDisconnect) -> Response:
        # nobody hears it; nginx's status for the log
        return Response(status_code=499)

    @app.exception_handler(ValidationError)
    @app.exception_handler(RequestValidationError)
    def on_invalid(_: Request, error: ValidationError | RequestValidationError) -> JSONResponse:
        # without the input, which may hold what JSON cannot
        said = [{"loc": error_location(one["loc"]), "msg": one["msg"], "type": one["type"]} for one in error.errors()]
        return JSONResponse({"detail": said}, 422)
