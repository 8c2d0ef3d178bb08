"""LangServe's routes: /verdict (a typed record to its verdict) and /chain (the chat agent), with playgrounds.

LangServe sits on top of our own chain, and nothing else depends on it; its licence forbids offering LangServe itself
as a hosted service.
"""

from __future__ import annotations

import warnings
from contextvars import Context
from typing import Any

from fastapi import Depends, FastAPI, Request
from langchain_core.runnables import RunnableLambda
from starlette.concurrency import run_in_threadpool

from agent.api.state import ServerState, State
from agent.chat.commands import ChatInput, build_chat
from agent.core.errors import InputError
from agent.core.records import Verdict
from agent.core.requests import JudgeRequest, parse_request
from agent.pipeline.service import with_history

with warnings.catch_warnings():
    # LangServe warns on import that it is deprecated; the project knows
    warnings.simplefilter("ignore")
    from langserve import add_routes
# its playgrounds read `stream_log`, which warns at each use that it is deprecated
warnings.filterwarnings("ignore", message="astream_log is deprecated")


def add_langserve(app: FastAPI, state: ServerState) -> None:
    """Add both sets of routes to the application."""
    chain = with_history(state.context, state.counted_chain)

    def judge(request: Any) -> Verdict:
        # in a context of its own: who watches the run sees the verdict, not the state of every step
        return Context().run(chain.invoke, request)

    verdict = RunnableLambda(judge).with_types(input_type=JudgeRequest, output_type=Verdict)
    chat = build_chat(state.context, state.counted_chain).with_types(input_type=ChatInput, output_type=str)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        add_routes(app, verdict, path="/verdict", playground_type="default", dependencies=[Depends(_check_requests)])
        add_routes(app, chat, path="/chain", playground_type="chat", dependencies=[Depends(_check_conversations)])


async def _check_requests(request: Request, state: State) -> None:
    """Refuse what cannot be judged: once LangServe's stream has begun, it is too late for an error status."""
    for sent in await _inputs(request):
        parsed = parse_request(sent, state.settings.max_record_chars)
        await run_in_threadpool(state.context.source, parsed.source)


async def _check_conversations(request: Request) -> None:
    """Refuse what is not a conversation: LangServe fails on messages of other shapes."""
    for sent in await _inputs(request):
        messages = sent.get("messages") if isinstance(sent, dict) else None
        if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
            raise InputError("a conversation is expected: {'messages': [{'type': 'human', 'content': '…'}]}")


async def _inputs(request: Request) -> list[Any]:
    """The inputs in a request to LangServe, whose own parser fails on some wrong shapes."""
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
