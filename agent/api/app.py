"""The HTTP application: the console, REST and OpenAI's chat, LangServe, MCP, OTLP, documentation, metrics."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from prometheus_fastapi_instrumentator import Instrumentator
from sqlalchemy import Engine
from starlette.routing import Route

from agent.api.bodies import JsonRoute
from agent.api.console import routes as console_routes
from agent.api.console.host import ConsoleRoute
from agent.api.errors import add_error_handlers
from agent.api.guard import GuardMiddleware
from agent.api.key_ring import KeyRing
from agent.api.middleware import RequestLogMiddleware, TimeoutMiddleware
from agent.api.openai_errors import OpenAIErrorMiddleware
from agent.api.roles import add_security, declare
from agent.api.routes import cases, health, held, langserve, openai, otlp, sources, verdicts
from agent.api.schemas import Problem
from agent.api.state import ServerState
from agent.core.access import Role
from agent.core.json_schemas import without_parts
from agent.core.logs import configure_logging
from agent.core.requests import JudgeRequest
from agent.core.settings import Settings, settings


def create_app(config: Settings | None = None) -> FastAPI:
    """Create the application.

    Parameters
    ----------
    config : Settings, optional
        Its settings; by default the process's.
    """
    config = config or settings()
    configure_logging(config.log_level, config.log_format)
    state = ServerState(config)
    console = ConsoleRoute(state)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with console.lifespan(), state.lifespan(app):
            yield

    app = FastAPIOffline(
        title="Precedent",
        version="1",
        description=__doc__,
        lifespan=lifespan,
        responses={
            "4XX": {"model": Problem, "description": "What is wrong with the request"},
            503: {"model": Problem, "description": "Which part is missing"},
            507: {"model": Problem, "description": "Which disk is full, or which folder is read-only"},
        },
    )
    app.state.server = state
    for route in app.router.routes:
        # what there is so far is FastAPI's documentation
        declare(route, Role.READ)
    app.router.route_class = JsonRoute
    add_error_handlers(app)
    for routes in (health, verdicts, sources, cases, held, openai, otlp):
        app.include_router(routes.router)
    langserve.add_langserve(app, state)
    mcp = Route("/mcp", state.mcp, methods=["POST"], include_in_schema=False)
    # each tool has its own role
    declare(mcp, Role.READ)
    app.router.routes.append(mcp)
    app.include_router(console_routes.router)
    app.mount("/console/static", console_routes.static_files)
    declare(app.router.routes[-1], Role.READ)
    app.router.routes.append(console)
    # the middleware that is added last runs first
    app.add_middleware(TimeoutMiddleware, seconds=config.request_timeout)

    def store() -> Engine:
        return state.context.casebook.engine

    ring = KeyRing(config.api_key, store)
    app.add_middleware(GuardMiddleware, settings=config, ring=ring, store=store)
    Instrumentator(registry=state.metrics.registry).instrument(app)
    app.add_middleware(RequestLogMiddleware, is_stopping=lambda: state.shutdown.requested)
    app.add_middleware(OpenAIErrorMiddleware)
    _complete_schema(app, ring)
    return app


def _complete_schema(app: FastAPI, ring: KeyRing) -> None:
    """Have the OpenAPI schema say which role each operation needs, if there are keys, and what OTLP's messages are."""
    make = app.openapi

    def openapi() -> dict[str, Any]:
        schema = make()
        schema["components"]["schemas"] |= otlp.SCHEMAS
        # the playground makes a form of the model's own schema, which leaves out what a form has no element for
        schema["components"]["schemas"][langserve.VerdictInput.__name__] = without_parts(JudgeRequest)
        add_security(app, schema, is_open=ring.is_open)
        return schema

    app.openapi = openapi  # type: ignore[method-assign]
