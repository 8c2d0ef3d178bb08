"""Sessions survive a restart, apart from each other, and stay bounded."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from langchain_core.messages import HumanMessage

from agent.chat import memory
from agent.chat.commands import build_chat, use_source
from agent.chat.memory import SessionHistory, remember, with_memory
from agent.core.settings import Settings
from agent.pipeline.context import AppContext
from agent.pipeline.pipeline import build
from agent.pipeline.service import judge_one
from tests.shop import ANOMALOUS


def say(context: AppContext, session: str, text: str) -> str:
    chat = with_memory(build_chat(context, partial(judge_one, context, build(context))), context)
    return "".join(chat.stream(text, {"configurable": {"session_id": session}}))


def test_a_session_goes_on_after_a_restart(copy_of: Callable[..., Settings]) -> None:
    chosen = copy_of(model="none")
    context = AppContext(chosen)
    remember(context, "ada", use_source("shop"))
    verdict = say(context, "ada", ANOMALOUS).split()[1]
    context.close()
    context = AppContext(chosen)
    try:
        assert say(context, "ada", "why?").startswith(f"verdict {verdict} ")
        assert "no verdict yet" in say(context, "bob", "why?")
        kept = [str(message.text) for message in SessionHistory(context, "ada").messages]
        assert kept[:2] == ["records are now judged as source shop", ANOMALOUS]
        assert len(kept) == 5
    finally:
        context.close()


def test_the_newest_messages_are_kept(context: AppContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "REMEMBERED", 4)
    monkeypatch.setattr(memory, "KEPT", 6)
    for number in range(10):
        SessionHistory(context, "a").add_messages([HumanMessage(str(number))])
    assert [message.text for message in SessionHistory(context, "a").messages] == ["6", "7", "8", "9"]
    monkeypatch.setattr(memory, "REMEMBERED", 100)
    assert [message.text for message in SessionHistory(context, "a").messages] == ["4", "5", "6", "7", "8", "9"]
