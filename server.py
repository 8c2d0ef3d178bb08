"""The web door: REST under /v1, LangServe at /chain and /verdict, documentation, health and metrics. It only wires.

LangServe sits on top of our own chain, and nothing here depends on it; its licence forbids offering LangServe
itself as a hosted service.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import BackgroundTasks, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from prometheus_client import CollectorRegistry, Counter
from prometheus_fastapi_instrumentator import Instrumentator
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent.chain import Explain, Question, build
from agent.chat import ChatInput, build_chat
from agent.errors import Busy, InputError, PrecedentError, UnknownSource, mapped
from agent.feedback import correct, recall
from agent.judging import Unjudged, judge_many, keeping
from agent.learning import as_case, check_name, refit
from agent.parts import Parts
from agent.records import Case, Label, Record, Verdict
from agent.settings import Settings, settings
from retrieval.casebook import SourceRow

with warnings.catch_warnings():
    # LangServe says on import that it is deprecated; the project knows
    warnings.simplefilter("ignore")
    from langserve import add_routes

_OPEN_PATHS = frozenset({"/healthz", "/readyz"})
_NDJSON = "application/x-ndjson"
_NDJSON_CHUNK = 64
_WELCOME = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Precedent</title>
<style>body{font:16px/1.5 system-ui;max-width:44rem;margin:4rem auto;padding:0 1rem}code{background:#eee;padding:0 .3em}
</style><h1>Precedent</h1><p>Judges records by precedent: normal or anomalous, how sure, and why.</p><ul>
<li><a href="/chain/playground/">Chat with the agent</a>: paste a record, ask why, correct it</li>
<li><a href="/verdict/playground/">One record, one verdict</a></li>
<li><a href="/docs">The API</a>: <code>POST /v1/verdicts</code>, <code>POST /v1/cases</code>,
<code>GET /v1/sources</code></li>
<li><a href="/healthz">/healthz</a> <a href="/readyz">/readyz</a> <a href="/metrics">/metrics</a></li></ul></html>"""


class Batch(BaseModel):
    """Several records of one source."""

    model_config = ConfigDict(extra="forbid")

    source: str | None = None
    explain: Explain = "facts"
    records: list[Record | str] = Field(min_length=1)


class NewCases(BaseModel):
    """Labelled records for one source, which is made when it is not there."""

    model_config = ConfigDict(extra="forbid")

    source: str
    cases: list[Case] = Field(min_length=1)


class Added(BaseModel):
    source: str
    received: int
    added: int
    casebook_version: int


class Brief(BaseModel):
    model_config = ConfigDict(extra="forbid")

    brief: str = Field(max_length=4_000)


class Feedback(BaseModel):
    model_config = ConfigDict(extra="forbid")

    label: Label


class SourceView(BaseModel):
    name: str
    brief: str
    brief_by: str
    casebook_version: int
    cases: dict[str, int]

    @classmethod
    def of(cls, row: SourceRow) -> SourceView:
        return cls(
            name=row.name, brief=row.brief, brief_by=row.brief_by, casebook_version=row.version, cases=row.counts
        )


def create_app(chosen: Settings | None = None) -> FastAPI:
    """The application; ``chosen`` are its settings, by default the process's."""
    chosen = chosen or settings()
    parts = Parts(chosen)
    chain = build(parts)
    state: dict[str, str | None] = {"loading": "models are being loaded"}

    def load() -> None:
        try:
            with mapped():
                parts.embedder().encode_one("warm")
                parts.casebook.names()
            state["loading"] = None
            with mapped():
                parts.witness()
        except PrecedentError as error:
            if state["loading"]:
                state["loading"] = str(error)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(asyncio.to_thread(load))
        yield
        await loading
        await run_in_threadpool(parts.close)

    app = FastAPI(title="Precedent", version="1", description=__doc__.splitlines()[0], lifespan=lifespan)
    registry = CollectorRegistry()
    given = Counter("precedent_verdicts_total", "Verdicts given", ("source", "label"), registry=registry)
    app.add_middleware(_Limits, chosen=chosen)
    app.add_middleware(
        TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1", "[::1]", "testserver", *_public(chosen)]
    )
    Instrumentator(registry=registry).instrument(app).expose(app, include_in_schema=False)
    _answer_errors(app)

    def counted(verdict: Verdict) -> Verdict:
        given.labels(verdict.source, verdict.label).inc()
        return verdict

    def judged(batch: list[Question]) -> list[Verdict | Unjudged]:
        """Questions of like source and explanation go together; the answers keep their order."""
        out: list[Verdict | Unjudged] = []
        start = 0
        for end in range(1, len(batch) + 1):
            first = batch[start]
            if end == len(batch) or (batch[end].source, batch[end].explain) != (first.source, first.explain):
                records = [_record(question, chosen) for question in batch[start:end]]
                source = first.source or _only_source(parts)
                out += judge_many(parts, chain, records, source, first.explain)
                start = end
        for answer in out:
            if isinstance(answer, Verdict):
                counted(answer)
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

    @app.post("/v1/verdicts", tags=["verdicts"], openapi_extra=_verdicts_schema())
    async def post_verdicts(request: Request) -> Response:
        """Judge one record (an object), many (an array, or `records`), or a stream (NDJSON in, NDJSON out)."""
        if request.headers.get("content-type", "").partition(";")[0].strip() == _NDJSON:
            return StreamingResponse(_streamed(request, judged, chosen), media_type=_NDJSON)
        questions, many = _questions(await request.body())
        answers = await run_in_threadpool(judged, questions)
        if not many and isinstance(answers[0], Unjudged):
            raise InputError(answers[0].reason)
        shown = [_shown(answer) for answer in answers]
        return JSONResponse(shown if many else shown[0])

    @app.get("/v1/verdicts/{verdict_id}", tags=["verdicts"])
    def get_verdict(verdict_id: str) -> Verdict:
        """A verdict from the history."""
        return recall(parts, verdict_id)

    @app.post("/v1/verdicts/{verdict_id}/feedback", tags=["verdicts"])
    def post_feedback(verdict_id: str, feedback: Feedback) -> Case:
        """Correct a verdict: its record becomes a case, and the next one like it follows."""
        return correct(parts, verdict_id, feedback.label)

    @app.post("/v1/cases", tags=["cases"], status_code=201)
    def post_cases(new: NewCases, background: BackgroundTasks) -> Added:
        """Add labelled records. The same record again adds nothing; the judge is fitted anew in the background."""
        with mapped():
            cases = [as_case(case.record, case.label) for case in new.cases]
            added = parts.casebook.add(check_name(new.source), cases, given_by="API")
            parts.casebook.sync(new.source)
            row = parts.casebook.source(new.source)
        assert row is not None
        if added:
            background.add_task(refit, parts, new.source)
        return Added(source=new.source, received=len(cases), added=added, casebook_version=row.version)

    @app.get("/v1/sources", tags=["sources"])
    def get_sources() -> list[SourceView]:
        """All sources."""
        rows = (parts.casebook.source(name) for name in parts.casebook.names())
        return [SourceView.of(row) for row in rows if row is not None]

    @app.get("/v1/sources/{name}", tags=["sources"])
    def get_source(name: str) -> SourceView:
        """One source."""
        row = parts.casebook.source(name)
        if row is None:
            raise UnknownSource(name, parts.casebook.names())
        return SourceView.of(row)

    @app.put("/v1/sources/{name}", tags=["sources"])
    def put_source(name: str, brief: Brief, background: BackgroundTasks) -> SourceView:
        """Make a source, or write its brief."""
        parts.casebook.create(check_name(name))
        parts.casebook.set(name, brief=brief.brief.strip(), brief_by="person")
        view = get_source(name)
        if any(view.cases.values()):
            background.add_task(refit, parts, name)
        return view

    kept = keeping(parts, chain) | counted
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        typed = kept.with_types(input_type=Question, output_type=Verdict)
        add_routes(app, typed, path="/verdict", playground_type="default")
        add_routes(
            app, build_chat(parts, chain), path="/chain", playground_type="chat", input_type=ChatInput, output_type=str
        )
    return app


def _public(chosen: Settings) -> list[str]:
    """Names to answer to, beside the loopback's: all, when bound to all addresses, else the address bound to."""
    return ["*"] if chosen.host in ("0.0.0.0", "::") else [chosen.host]


def _only_source(parts: Parts) -> str:
    with mapped():
        names = parts.casebook.names()
    if len(names) != 1:
        raise InputError(f"say which source the record comes from: {', '.join(names) or 'there is none yet'}")
    return names[0]


def _record(question: Question, chosen: Settings) -> Record:
    if len(question.text) > chosen.max_record_chars:
        raise InputError(f"a record of {len(question.text)} characters; the limit is {chosen.max_record_chars}")
    return Record(**question.model_dump(exclude={"source", "explain"}))


def _questions(body: bytes) -> tuple[list[Question], bool]:
    """What a JSON body asks, and whether an array is to be answered."""
    try:
        sent = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the body is not JSON: {error}") from error
    if isinstance(sent, list):
        questions = TypeAdapter(list[Question]).validate_python(sent)
        if not questions:
            raise InputError("an empty array: there is nothing to judge")
        return questions, True
    if isinstance(sent, dict) and "records" in sent:
        batch = Batch.model_validate(sent)
        records = [Record(text=one) if isinstance(one, str) else one for one in batch.records]
        source = batch.source
        return [Question(**one.model_dump(), source=source, explain=batch.explain) for one in records], True
    return [Question.model_validate(sent)], False


def _shown(answer: Verdict | Unjudged) -> dict[str, Any]:
    return {"error": answer.reason} if isinstance(answer, Unjudged) else answer.model_dump(mode="json")


async def _streamed(request: Request, judged: Any, chosen: Settings) -> AsyncIterator[str]:
    """A verdict or an error for each line that comes in, in order, in memory that does not grow."""
    defaults = {name: request.query_params[name] for name in ("source", "explain") if name in request.query_params}
    waiting: list[Question | str] = []

    async def flush() -> AsyncIterator[str]:
        questions = [one for one in waiting if isinstance(one, Question)]
        try:
            answers = iter(await run_in_threadpool(judged, questions) if questions else [])
        except PrecedentError as error:
            answers = iter([Unjudged(Record(text="-"), str(error))] * len(questions))
        for one in waiting:
            shown = {"error": one} if isinstance(one, str) else _shown(next(answers))
            yield json.dumps(shown, ensure_ascii=False) + "\n"
        waiting.clear()

    async for line, number in _lines(request, chosen.max_body_bytes):
        try:
            question = Question.model_validate({**defaults, **_object(line)})
            _record(question, chosen)
            waiting.append(question)
        except (ValueError, RecursionError, InputError) as error:
            told = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            waiting.append(f"line {number}: {told}")
        if len(waiting) >= _NDJSON_CHUNK:
            async for piece in flush():
                yield piece
    async for piece in flush():
        yield piece


def _object(line: bytes) -> dict[str, Any]:
    sent = json.loads(line)
    if isinstance(sent, str):
        return {"text": sent}
    if not isinstance(sent, dict):
        raise InputError("an object or a string is expected on each line")
    return sent


async def _lines(request: Request, limit: int) -> AsyncIterator[tuple[bytes, int]]:
    rest, number = b"", 0
    async for chunk in request.stream():
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > limit:
            raise InputError(f"line {number + len(lines) + 1} is longer than {limit} bytes")
        for line in lines:
            number += 1
            if line.strip():
                yield line, number
    if rest.strip():
        yield rest, number + 1


def _verdicts_schema() -> dict[str, Any]:
    """The body of `POST /v1/verdicts`, which is read by hand because it may be a stream."""
    one, batch = Question.model_json_schema(), Batch.model_json_schema(ref_template="#/components/schemas/{model}")
    batch.pop("$defs", None)
    content = {"application/json": {"schema": {"anyOf": [one, {"type": "array", "items": one}, batch]}}}
    return {"requestBody": {"required": True, "content": {**content, _NDJSON: {"schema": one}}}}


def _answer_errors(app: FastAPI) -> None:
    """What goes wrong is said as JSON: ``{"detail": …}``."""

    @app.exception_handler(PrecedentError)
    def on_error(_: Request, error: PrecedentError) -> JSONResponse:
        headers = {"Retry-After": "1"} if isinstance(error, Busy) else None
        return JSONResponse({"detail": str(error)}, error.http_status, headers)

    @app.exception_handler(ValidationError)
    @app.exception_handler(RequestValidationError)
    def on_invalid(_: Request, error: ValidationError | RequestValidationError) -> JSONResponse:
        # without the input, which may hold what JSON cannot
        said = [
            {"loc": [str(part) for part in one["loc"]], "msg": one["msg"], "type": one["type"]}
            for one in error.errors()
        ]
        return JSONResponse({"detail": said}, 422)


class _TooLarge(PrecedentError):
    http_status = 413


class _Limits:
    """Refuses bodies over the limit (streams of NDJSON excepted: each line has one) and, with an API key, strangers."""

    def __init__(self, app: ASGIApp, chosen: Settings) -> None:
        self._app, self._chosen = app, chosen

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope["path"], headers)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        limit, seen = self._chosen.max_body_bytes, 0

        async def limited() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit and not headers.get("content-type", "").startswith(_NDJSON):
                raise _TooLarge(f"the body is longer than {limit} bytes")
            return message

        await self._app(scope, limited, send)

    def _refusal(self, path: str, headers: dict[str, str]) -> JSONResponse | None:
        key, limit = self._chosen.api_key, self._chosen.max_body_bytes
        given = headers.get("authorization", "")
        if key and path not in _OPEN_PATHS and not secrets.compare_digest(given.encode(), f"Bearer {key}".encode()):
            return JSONResponse({"detail": "an API key is wanted: Authorization: Bearer KEY"}, 401)
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > limit and not headers.get("content-type", "").startswith(_NDJSON):
            return JSONResponse({"detail": f"the body is longer than {limit} bytes"}, 413)
        return None


def __getattr__(name: str) -> Any:
    """``server:app``, made when it is asked for, so that importing this module opens nothing."""
    if name == "app":
        globals()["app"] = create_app()
        return globals()["app"]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["create_app"]
