"""Logs by the OpenTelemetry protocol (OTLP over HTTP): each record is judged, and its verdict kept in the history."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from google.protobuf.message import Message
from google.rpc.code_pb2 import INVALID_ARGUMENT, UNAVAILABLE
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from starlette.concurrency import run_in_threadpool

from agent.api.bodies import cancel_on_disconnect, media_type
from agent.api.otlp_logs import JSON, PROTOBUF, Parsed, decode, encode, first_reasons, parse, unzipped
from agent.api.protobuf_schema import message_schemas
from agent.api.roles import needs
from agent.api.state import ServerState, State
from agent.core.access import Role
from agent.core.errors import Busy, InputError, MissingPart, NotWritable, Stopped, translate
from agent.core.records import JudgeError
from agent.pipeline.history_writing import reason_not_kept

LOGS_PATH = "/otlp/v1/logs"
router = APIRouter(tags=["OpenTelemetry"])
_CONTENT: dict[str, Any] = {PROTOBUF: {}, JSON: {}}
_REFERENCES = "#/components/schemas/"
SCHEMAS = message_schemas(ExportLogsServiceRequest.DESCRIPTOR, _REFERENCES)
"""Of the messages, for the components of the OpenAPI schema."""
_JSON_SCHEMA = {"schema": {"$ref": _REFERENCES + ExportLogsServiceRequest.DESCRIPTOR.name}}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {PROTOBUF: {}, JSON: _JSON_SCHEMA},
    }
}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "How many records could not be judged", "content": _CONTENT},
    "4XX": {"description": "What is wrong with the request, as a `Status`", "content": _CONTENT},
    503: {"description": "Why it is to be sent again, as a `Status`", "content": _CONTENT},
}


@router.post(LOGS_PATH, openapi_extra=_BODY, response_class=Response, responses=_ANSWERS)
@needs(Role.JUDGE)
async def post_logs(request: Request, state: State) -> Response:
    """Judge the log records of an OTLP exporter; the answer counts those that cannot be judged.

    An exporter repeats what is answered with 429 or 503, and nothing else.
    """
    declared = media_type(request.headers)
    if declared not in (JSON, PROTOBUF):
        return _error(415, f"the content type is {declared or 'missing'!r}; send {PROTOBUF} or {JSON}", PROTOBUF)
    encoding = request.headers.get("content-encoding", "").strip().lower()
    body = await request.body()
    try:
        message = decode(unzipped(body, encoding, state.settings.max_body_bytes), declared)
    except InputError as error:
        return _error(400, str(error), declared)
    parsed = await run_in_threadpool(parse, state.context, message)
    try:
        rejected, reasons = await cancel_on_disconnect(request, _judge(state, parsed))
    except (Busy, Stopped, MissingPart) as error:
        return _error(429 if isinstance(error, Busy) else 503, str(error), declared)
    request.state.logged = {"records": len(parsed.requests), "rejected": rejected}
    answer = ExportLogsServiceResponse()
    if rejected:
        answer.partial_success.rejected_log_records = rejected
        answer.partial_success.error_message = "; ".join(first_reasons(reasons))
    return _answer(200, answer, declared)


async def _judge(state: ServerState, parsed: Parsed) -> tuple[int, list[str]]:
    """Judge the records; how many are rejected, with those that could not be read, and why.

    Raises
    ------
    Busy, Stopped, MissingPart
        No record is judged now; it may be later.
    """
    rejected, reasons, judged = parsed.rejected, list(parsed.reasons), 0
    failure: Busy | Stopped | MissingPart | None = None
    if not parsed.requests:
        return rejected, reasons
    async for answers in await state.batcher.submit(parsed.requests):
        for answer in answers:
            if isinstance(answer, bytes):
                if reason := reason_not_kept(answer):
                    # the history is all that comes of a record here: the exporter sends it again
                    raise NotWritable(reason)
                judged += 1
                continue
            expected = None if isinstance(answer, JudgeError) else translate(answer)
            if isinstance(answer, Exception) and expected is None:
                raise answer
            if isinstance(expected, (Busy, Stopped, MissingPart)):
                failure = expected
            rejected += 1
            reasons.append(answer.reason if isinstance(answer, JudgeError) else str(expected))
    if failure is not None and not judged:
        raise failure
    return rejected, reasons


def _answer(status: int, message: Message, declared: str) -> Response:
    headers = {"Retry-After": "1"} if status in (429, 503) else None
    return Response(encode(message, declared), status, headers, declared)


def _error(status: int, reason: str, declared: str) -> Response:
    code = UNAVAILABLE if status in (429, 503) else INVALID_ARGUMENT
    return _answer(status, Status(code=code, message=reason), declared)
