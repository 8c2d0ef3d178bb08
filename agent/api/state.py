"""What the routes share: the context, the batcher, metrics, readiness; a dependency of FastAPI gives it to them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Annotated

from fastapi import Depends, FastAPI, Request
from starlette.concurrency import run_in_threadpool

from agent.api.console.jobs import Jobs
from agent.api.mcp_server import McpEndpoint
from agent.api.mcp_tools import Tools
from agent.api.metrics import Metrics
from agent.api.shutdown import Shutdown
from agent.chat.commands import build_chat
from agent.chat.memory import with_memory
from agent.core.errors import describe, translate
from agent.core.logs import log_error, log_event, timed_event
from agent.core.settings import Settings
from agent.core.tracing import tracing
from agent.pipeline.batcher import MicroBatcher
from agent.pipeline.context import AppContext
from agent.pipeline.history import prune
from agent.pipeline.pipeline import Pipeline
from agent.pipeline.runnable import BatchedVerdictRunnable

PRUNE_SECONDS = 3_600.0


class ServerState:
    """One per application.

    Attributes
    ----------
    not_ready : str or None
        Why records cannot be judged yet, or at all; None when they can.
    batcher : MicroBatcher
        Judges for every route; its verdicts are counted and kept in the history.
    jobs : Jobs
        Files that are judged in the console.
    verdict : Runnable
        A record to its verdict, by the batcher.
    chat, remembering_chat : Runnable
        The chat agent, and the same with the messages of each session remembered.
    mcp : McpEndpoint
        The tools for other agents.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.context = AppContext(settings)
        self.metrics = Metrics(self.context)
        self.shutdown = Shutdown()
        self.jobs = Jobs()
        self.not_ready: str | None = "models are being loaded"
        self.batcher = MicroBatcher(self.context, Pipeline(self.context), self.metrics.count, settings.waiting_records)
        self.verdict = BatchedVerdictRunnable(self.batcher)
        self.chat = build_chat(self.context, self.verdict.invoke)
        self.remembering_chat = with_memory(self.chat, self.context)
        self.mcp = McpEndpoint(Tools(self.context, self.batcher), settings)

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Load the models in the background while the application serves; close everything at its end."""
        self.shutdown.watch()
        loading = asyncio.create_task(asyncio.to_thread(self._load))
        stopping = asyncio.Event()
        pruning = asyncio.create_task(self._prune_regularly(loading, stopping))
        with tracing(self.settings.otlp_endpoint):
            async with self.mcp.running():
                yield
            stopping.set()
            await pruning
            # what judges may end a span after its answer is sent
            for close in (self.jobs.close, self.metrics.close, self.batcher.close):
                await run_in_threadpool(close)
        await run_in_threadpool(self.context.close)

    async def _prune_regularly(self, loading: asyncio.Task[None], stopping: asyncio.Event) -> None:
        """Keep the history as large and as old as the settings say."""
        await asyncio.wait({loading})
        while not stopping.is_set():
            await asyncio.to_thread(self._prune)
            with suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), PRUNE_SECONDS)

    def _prune(self) -> None:
        try:
            if prune(self.context).verdicts:
                self.batcher.reused.forget_lines()
        except Exception as error:  # the next hour tries again
            if translate(error):
                log_event("history was not pruned", "warning", reason=describe(error))
            else:
                log_error("history was not pruned", error)

    def _load(self) -> None:
        """Load what verdicts need, then the language model, without which verdicts are given as degraded."""
        log_event("loading models")
        try:
            with timed_event("embedding model loaded"):
                self.context.embedder().encode_one("warm")
            with timed_event("sources loaded"):
                self.batcher.warm()
            self.not_ready = None
            self.metrics.start()
            if self.settings.model != "none":
                with timed_event("language model loaded"):
                    self.context.language_detector()
        except BaseException as error:  # whatever ends the thread is logged
            if translate(error) is None:
                log_error("loading failed", error)
            else:
                log_event("loading failed", "error" if self.not_ready else "warning", reason=describe(error))
                if self.not_ready is None:
                    # the language model is missing: each verdict that needs it says so
                    return
            self.not_ready = describe(error)


# `async`, because FastAPI runs other dependencies in a thread, which costs half a millisecond for each request
async def _state(request: Request) -> ServerState:
    state = request.app.state.server
    assert isinstance(state, ServerState)
    return state


State = Annotated[ServerState, Depends(_state)]
