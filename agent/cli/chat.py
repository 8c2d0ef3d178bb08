"""`precedent chat`: the conversation in this terminal."""

from __future__ import annotations

from typing import Annotated

import typer

from agent.cli.options import ModelOption, open_context


def chat(
    source: Annotated[str | None, typer.Option("--source", "-s", help="The source to start with.")] = None,
    session: Annotated[
        str | None, typer.Option("--session", help="Go on with a conversation of this name. [a new one]")
    ] = None,
    model: ModelOption = None,
) -> None:
    """Chat with the agent: paste a record, ask why, correct it; the path of a file judges its first records."""
    import uuid
    from functools import partial

    from agent.chat.commands import build_chat, use_source
    from agent.chat.memory import remember, with_memory
    from agent.cli import render
    from agent.pipeline.pipeline import build
    from agent.pipeline.service import judge_one

    context = open_context(model)
    session = session or uuid.uuid4().hex
    if source:
        remember(context, session, use_source(context.source(source).name))
    chain = build_chat(context, partial(judge_one, context, build(context)), local_files=True)
    render.converse(with_memory(chain, context), session)
    context.close()
