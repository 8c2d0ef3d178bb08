"""The agent with a model that calls tools (Ollama): LangChain's `create_agent` over the same tools.

The model chooses tools and may add sentences; numbers and ids come from the tools. It never sees a pasted record as a
message: records are judged before it is queried, and it gets the ids of the verdicts. What the tools return is always
shown; the model's sentences only if every number and id of them is in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, Literal

import httpx
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import BaseTool, StructuredTool
from langgraph.errors import GraphRecursionError

from agent.chat import parsing
from agent.chat.action import Action
from agent.chat.conversation import Conversation
from agent.core.errors import EXPECTED, describe
from agent.core.prompts import render
from agent.explain.explanation import is_grounded
from llm.errors import ModelFailure

_MAX_STEPS = 8
# model's sentences that are shown
_MAX_CHARS = 1_500
Perform = Callable[[Action], str]


class ToolAgent:
    """Answers by the tools that a model chooses.

    Parameters
    ----------
    model : BaseChatModel
        A model whose `bind_tools` works.
    """

    def __init__(self, model: BaseChatModel) -> None:
        self._model = model

    def answer(self, message: str, conversation: Conversation, perform: Perform) -> Iterator[str]:
        """What the tools returned, then the model's sentences; nothing if the model called no tool.

        Parameters
        ----------
        perform : callable
            Performs an action; returns its answer.

        Raises
        ------
        ModelFailure
            The model did not answer.
        """
        results = list[str]()

        def call(tool: str, **arguments: Any) -> str:
            try:
                result = perform(Action(tool, arguments))
            except EXPECTED as error:
                return f"error: {describe(error)}"
            results.append(result)
            return result

        listed = conversation.listed
        verdicts = list(enumerate(listed, 1))
        last = listed[-1] if listed else None
        system = render("chat_system", source=conversation.source, verdicts=verdicts, last=last)
        agent = create_agent(self._model, _tools(call, message, conversation), system_prompt=system)
        try:
            state = agent.invoke({"messages": [HumanMessage(message)]}, {"recursion_limit": _MAX_STEPS})
        except GraphRecursionError:
            state = {"messages": []}
        except (httpx.HTTPError, ConnectionError, RuntimeError, ValueError) as error:
            raise ModelFailure(f"the model did not answer: {error}") from error
        if not results:
            return
        yield "\n".join(dict.fromkeys(result.strip() for result in results))
        if sentences := _sentences(state["messages"], results):
            yield f"\n\n{sentences}"


def _sentences(messages: Sequence[Any], results: Sequence[str]) -> str:
    """The model's last message on one line, if all numbers and ids of it are in the results."""
    last = messages[-1] if messages else None
    if not isinstance(last, AIMessage) or last.tool_calls:
        return ""
    text = " ".join(str(last.text).split())
    grounds = "\n".join([*results, *(str(item.text) for item in messages if isinstance(item, ToolMessage))])
    return text if text and len(text) <= _MAX_CHARS and is_grounded(text, grounds) else ""


def _tools(call: Callable[..., str], message: str, conversation: Conversation) -> list[BaseTool]:
    """The tools; a verdict is the number in the conversation, or an id."""

    def verdict_id(verdict: str) -> str:
        number = verdict.strip().lstrip("#")
        if number.isdecimal() and 1 <= int(number) <= len(conversation.listed):
            return conversation.listed[int(number) - 1]
        return verdict.strip() or (conversation.last_list or [""])[-1]

    def judge(record: str) -> str:
        """Judge a record that the user has written. It must be a part of the user's message."""
        if record.strip() not in message:
            return "error: this is not a part of the user's message"
        return call("judge", text=record.strip())

    def explain(verdict: str = "") -> str:
        """Why a verdict is what it is."""
        return call("explain", verdict_id=verdict_id(verdict))

    def precedents(verdict: str = "") -> str:
        """The labelled cases most like the record of a verdict."""
        return call("precedents", verdict_id=verdict_id(verdict))

    def what_if(changes: dict[str, str], verdict: str = "") -> str:
        """The verdict if fields of the record had other values."""
        return call("what_if", verdict_id=verdict_id(verdict), values={name: str(v) for name, v in changes.items()})

    def correct(label: Literal["normal", "anomalous"], verdict: str = "") -> str:
        """Ask the user to confirm another label for the record of a verdict."""
        return call("correct", verdict_id=verdict_id(verdict), label=label)

    def history(since: str = "", source: str = "", top: int = 5) -> str:
        """Counts and the most anomalous verdicts; since: 'today', 'yesterday', 'last 3 hours'."""
        begin = parsing.since(since, datetime.now().astimezone()) if since else None
        return call("history", source=source or None, since=begin, top=max(1, min(50, top)), worst=True)

    def sources() -> str:
        """The sources, with their numbers of cases."""
        return call("sources")

    def trend(source: str = "") -> str:
        """Whether a source's share of anomalies changes."""
        return call("trend", source=source or None)

    def cases(words: str = "", source: str = "", label: Literal["normal", "anomalous", ""] = "") -> str:
        """Labelled cases that have these words."""
        return call("cases", source=source or None, label=label or None, words=words, top=5)

    functions = (judge, explain, precedents, what_if, correct, history, sources, trend, cases)
    return [StructuredTool.from_function(function) for function in functions]
