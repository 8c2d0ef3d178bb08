"""Routes that judge records, and that show, explain and correct verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, BackgroundTasks, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel

from agent.api.bodies import NDJSON, DuplexResponse, JsonRoute, cancel_on_disconnect, media_type
from agent.api.ndjson import stream_verdicts, to_json_bytes
from agent.api.roles import needs
from agent.api.schemas import HELD, Feedback, Unanswered
from agent.api.state import ServerState, State
from agent.core.access import Role
from agent.core.cancellable_stream import stream_in_thread
from agent.core.errors import InputError
from agent.core.json_schemas import RECORD_TEXT, without_parts
from agent.core.records import JudgeError, Record, Verdict
from agent.core.requests import AnyRequest, Batch, JudgeRequest, parse_requests
from agent.pipeline.history import load_verdict
from agent.pipeline.llm_explanation import stream_explanation
from agent.training.feedback import CorrectedCase, correct, refit_if_due

router = APIRouter(prefix="/v1/verdicts", tags=["verdicts"], route_class=JsonRoute)

_VERDICTS: dict[int | str, dict[str, Any]] = {
    200: {
        "model": Verdict | list[Verdict | Unanswered],
        "content": {NDJSON: {}},
        "description": "A verdict for each record, in order",
    }
}


def _body_schema() -> dict[str, Any]:
    """The schema of the body of `post_verdicts`, which FastAPI does not parse because it may be a stream."""
    models: tuple[type[BaseModel], ...] = (JudgeRequest, Batch, Record)
    single, batch, record = map(without_parts, models)
    batch["properties"]["records"]["items"] = {"anyOf": [record, RECORD_TEXT]}
    many = {"type": "array", "minItems": 1, "items": {"anyOf": [single, RECORD_TEXT]}}
    content = {"application/json": {"schema": {"anyOf": [single, many, batch]}}}
    return {"requestBody": {"required": True, "content": {**content, NDJSON: {"schema": single}}}}


@router.post("", openapi_extra=_body_schema(), responses=_VERDICTS)
@needs(Role.JUDGE)
async def post_verdicts(request: Request, state: State) -> Response:
    """Judge one record (an object), many (an array, or `records`), or a stream (NDJSON in, NDJSON out)."""
    if media_type(request.headers) == NDJSON:
        return DuplexResponse(stream_verdicts(request, state), media_type=NDJSON)
    requests, is_array = parse_requests(await request.json(), state.settings.max_record_chars)
    request.state.logged = {"records": len(requests)}
    bodies = await cancel_on_disconnect(request, _judge(state, requests, is_array=is_array))
    return Response(b"[%s]" % b",".join(bodies) if is_array else bodies[0], media_type="application/json")


async def _judge(state: ServerState, requests: Sequence[AnyRequest], *, is_array: bool) -> list[bytes]:
    """A verdict as JSON for each request, or in an array what is wrong with the record.

    Raises
    ------
    InputError
        The only record cannot be judged.
    PrecedentError
        No record can be judged.
    """
    bodies = list[bytes]()
    async for answers in await state.batcher.submit(requests):
        for answer in answers:
            if isinstance(answer, JudgeError) and not is_array:
                raise InputError(answer.reason)
            if isinstance(answer, Exception):
                raise answer
            bodies.append(to_json_bytes(answer))
    return bodies


@router.get("/{verdict_id}")
@needs(Role.READ)
def get_verdict(verdict_id: str, state: State) -> Verdict:
    """A verdict from the history."""
    return load_verdict(state.context, verdict_id)


@router.get("/{verdict_id}/explanation", responses={200: {"content": {"text/plain": {}}}})
@needs(Role.READ)
def get_explanation(verdict_id: str, state: State) -> StreamingResponse:
    """A verdict's facts, then up to three sentences by the language model, each sent as soon as it is checked.

    A last line, ``(degraded: …)``, says if one contradicted the verdict and was replaced.
    """
    verdict = load_verdict(state.context, verdict_id)
    pieces = stream_in_thread(stream_explanation(state.context, verdict))
    return StreamingResponse(pieces, media_type="text/plain; charset=utf-8")


@router.post("/{verdict_id}/feedback", responses={202: {"model": CorrectedCase, "description": HELD}})
@needs(Role.CORRECT)
def post_feedback(
    verdict_id: str, feedback: Feedback, background: BackgroundTasks, response: Response, state: State
) -> CorrectedCase:
    """Correct a verdict: its record becomes a case, and similar records follow it. Enough corrections start a refit."""
    case = correct(state.context, verdict_id, feedback.label, "API")
    if case.held:
        response.status_code = 202
    else:
        background.add_task(refit_if_due, state.context, verdict_id)
    return case
