"""LangServe's routes: /verdict (a typed record to its verdict) and /chain (the chat agent), with playgrounds.

LangServe sits on top of our own chain, and nothing else depends on it; its licence forbids offering LangServe itself
as a hosted service.
"""

from __future__ import annotations

import json
import re
import warnings
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.routing import APIRoute
from pydantic import ConfigDict
from starlette.concurrency import run_in_threadpool

from agent.api.bodies import JsonRequest, JsonRoute, storable_json
from agent.api.roles import declare
from agent.api.state import ServerState, State
from agent.chat.commands import ChatInput
from agent.core.access import Role
from agent.core.errors import InputError
from agent.core.requests import JudgeRequest, parse_request

with warnings.catch_warnings():
    # LangServe warns on import that it is deprecated
    warnings.simplefilter("ignore")
    from langserve import add_routes
# its playgrounds read `stream_log`, which warns at each use that it is deprecated
warnings.filterwarnings("ignore", message="astream_log is deprecated")


# nothing is sent to LangSmith; the playgrounds use the routes with a configuration in their path
_UNUSED = ("token_feedback",)
_STREAMED = ("/stream", "/stream_log", "/stream_events")
# a lone surrogate may be spelt so
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class _Request(JsonRequest):
    """A request without lone surrogates: LangServe's streams repeat their input, and cannot encode those."""

    async def json(self) -> Any:
        """See `JsonRequest.json`."""
        value = await super().json()
        if _SURROGATE.search(await self.body()):
            value = json.loads(storable_json(value))
        return value


class _Route(JsonRoute):
    request_class = _Request


def _for_forms(schema: dict[str, Any]) -> None:
    """Leave out what the playground has no element for: null as an alternative, and series."""
    del schema["properties"]["series"]
    for part in schema["properties"].values():
        if len(kinds := [kind for kind in part.get("anyOf", ()) if kind.get("type") != "null"]) == 1:
            del part["anyOf"], part["default"]
            part.update(kinds[0])


class VerdictInput(JudgeRequest):
    """A record by its parts, and how much to explain. ``source`` may be left out when there is only one."""

    model_config = ConfigDict(json_schema_extra=_for_forms)


def add_langserve(app: FastAPI, state: ServerState) -> None:
    """Add both sets of routes to the application."""
    verdict = state.verdict.with_types(input_type=VerdictInput)
    chat = state.chat.with_types(input_type=ChatInput, output_type=str)
    route_class, app.router.route_class = app.router.route_class, _Route
    earlier = len(app.router.routes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for runnable, path, playground, check in (
            (verdict, "/verdict", "default", _check_requests),
            (chat, "/chain", "chat", _check_conversations),
        ):
            add_routes(
                app,
                runnable,
                path=path,
                playground_type=playground,
                dependencies=[Depends(check)],
                disabled_endpoints=_UNUSED,
            )
    app.router.route_class = route_class
    for route in app.router.routes[earlier:]:
        declare(route, Role.JUDGE if "POST" in (getattr(route, "methods", None) or ()) else Role.READ)
        if isinstance(route, APIRoute) and route.path.endswith(_STREAMED):
            # LangServe's schema does not say what these answer with
            route.responses[200] = {"description": "Server-sent events", "content": {"text/event-stream": {}}}


async def _check_requests(request: Request, state: State) -> None:
    """Refuse invalid requests: once LangServe's stream has begun, it is too late for an error status."""
    inputs = await _inputs(request)
    state.batcher.check_room(len(inputs))
    for value in inputs:
        parsed = parse_request(value, state.settings.max_record_chars)
        await run_in_threadpool(state.context.source, parsed.source)


async def _check_conversations(request: Request, state: State) -> None:
    """Refuse other inputs than conversations, on which LangServe fails."""
    inputs = await _inputs(request)
    state.batcher.check_room(len(inputs))
    for value in inputs:
        messages = value.get("messages") if isinstance(value, dict) else None
        if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
            raise InputError("a conversation is expected: {'messages': [{'type': 'human', 'content': '…'}]}")


async def _inputs(request: Request) -> list[Any]:
    """The inputs in a request to LangServe, whose own parser fails on some wrong shapes."""
    body = await request.json() if request.method == "POST" else None
    if not isinstance(body, dict):
        return []
    configs = body.get("config", {})
    for config in configs if isinstance(configs, list) else [configs]:
        if not isinstance(config, dict):
            raise InputError("`config` must be an object, or for a batch an array of objects")
    if not isinstance(body.get("kwargs", {}), dict):
        raise InputError("`kwargs` must be an object")
    if not isinstance(body.get("inputs", []), list):
        raise InputError("`inputs` must be an array")
    return [*body.get("inputs", []), *([body["input"]] if "input" in body else [])]
