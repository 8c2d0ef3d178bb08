"""LangServe's routes: /verdict (a typed record to its verdict) and /chain (the chat agent), with playgrounds.

LangServe sits on top of our own chain, and nothing else depends on it; its licence forbids offering LangServe itself
as a hosted service.
"""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Depends, FastAPI, HTTPException, Request, Response
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
# what LangServe says of an address whose configuration it cannot read
_NO_CONFIG = "Invalid config hash"
_UNUSED = ("token_feedback",)
_STREAMED = ("/stream", "/stream_log", "/stream_events")
# a lone surrogate may be spelt so, and so may a number of more than 64 bits
_UNENCODABLE = re.compile(rb"\\u[dD][89a-fA-F]|[0-9]{19}")
_INTEGERS = range(-(2**63), 2**64)


class _Request(JsonRequest):
    """A request that LangServe can serve: its streams repeat their input, and cannot encode all that JSON has.

    Lone surrogates are left out, and integers of more than 64 bits are floats. Nothing here can be configured, so that
    an array of configurations, which LangServe refuses unless it is as long as that of the inputs, has no effect.
    """

    async def json(self) -> Any:
        """See `JsonRequest.json`."""
        value = await super().json()
        if _UNENCODABLE.search(await self.body()):
            value = json.loads(storable_json(value), parse_int=_integer)
        configs = value.get("config") if isinstance(value, dict) and "inputs" in value else None
        if isinstance(configs, list) and all(isinstance(config, dict) for config in configs):
            value = {**value, "config": {}}
        return value


def _integer(digits: str) -> int | float:
    if (number := int(digits)) in _INTEGERS:
        return number
    if math.isinf(rounded := float(digits)):
        raise HTTPException(422, "the body cannot be read: a number has too many digits")
    return rounded


class _Route(JsonRoute):
    request_class = _Request

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's handler; a configuration in the address that cannot be read is a page that is not there."""
        handler = super().get_route_handler()

        async def found(request: Request) -> Response:
            try:
                return await handler(request)
            except HTTPException as error:
                if error.detail == _NO_CONFIG:
                    raise HTTPException(404, "there is no such configuration") from error
                raise

        return found


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
