"""The HTTP application: REST and OpenAI's chat, LangServe, MCP, OTLP, documentation, health, metrics."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from prometheus_fastapi_instrumentator import Instrumentator
from starlette.routing import Route

from agent.api.bodies import JsonRoute
from agent.api.errors import add_error_handlers
from agent.api.middleware import GuardMiddleware, RequestLogMiddleware, TimeoutMiddleware
from agent.api.openai_errors import OpenAIErrorMiddleware
from agent.api.routes import health, langserve, openai, otlp, sources, verdicts
from agent.api.schemas import Problem
from agent.api.state import ServerState
from agent.core.logs import configure_logging
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
    app = FastAPIOffline(
        title="Precedent",
        version="1",
        description=__doc__,
        lifespan=state.lifespan,
        responses={
            "4XX": {"model": Problem, "description": "What is wrong with the request"},
            503: {"model": Problem, "description": "Which part is missing"},
        },
    )
    app.state.server = state
    app.router.route_class = JsonRoute
    add_error_handlers(app)
    for routes in (health.router, verdicts.router, sources.router, openai.router, otlp.router):
        app.include_router(routes)
    langserve.add_langserve(app, state)
    app.router.routes.append(Route("/mcp", state.mcp, methods=["POST"], include_in_schema=False))
    # the middleware that is added last runs first
    app.add_middleware(TimeoutMiddleware, seconds=config.request_timeout)
    app.add_middleware(GuardMiddleware, settings=config)
    Instrumentator(registry=state.metrics.registry).instrument(app)
    app.add_middleware(RequestLogMiddleware)
    app.add_middleware(OpenAIErrorMiddleware)
    return app
