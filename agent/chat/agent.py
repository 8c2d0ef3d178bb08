"""The agent that needs no large model: understands a message, calls a tool, and answers by templates in the language.

Nothing becomes a case without a confirmation that quotes the record. Texts of records stand on one line each, within a
line of the agent's: see `agent.chat.conversation`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage

from agent.chat.action import Action
from agent.chat.conversation import Conversation
from agent.chat.language_model import tool_model
from agent.chat.redaction import redacted_message
from agent.chat.reply import Reply
from agent.chat.tools import Tools
from agent.chat.understanding import Understanding
from agent.core.errors import describe
from agent.core.locale import translator
from agent.core.records import Verdict
from agent.core.requests import JudgeRequest
from agent.explain.headline import quoted
from agent.pipeline.context import AppContext
from llm.errors import ModelFailure

# what a large model is not queried for: records, which it must not read as a message, and changes
_BY_RULE = frozenset(
    {"judge", "judge_file", "confirm", "decline", "undo", "use", "ask_case", "help", "greet", "language"}
)


class Agent:
    """Answers messages, and keeps no state.

    Parameters
    ----------
    context : AppContext
    judge : callable
        Judges a record, and keeps the verdict in the history.
    local_files : bool
        Whether a message may be the path of a file.
    model : BaseChatModel, optional
        A model that calls tools; by default that of the settings, if it is a large one on Ollama.
    """

    def __init__(
        self,
        context: AppContext,
        judge: Callable[[JudgeRequest], Verdict],
        *,
        local_files: bool = False,
        model: BaseChatModel | None = None,
    ) -> None:
        self._context, self.tools, self._model = context, Tools(context, judge), model
        self._understanding = Understanding(self.tools, local_files=local_files)

    def understand(self, message: str, history: Sequence[BaseMessage]) -> Action:
        """The tool that a message asks for, and its arguments."""
        return self._understanding.action(message, Conversation(history))

    def answer(self, message: str, history: Sequence[BaseMessage]) -> Iterator[str]:
        """The answer to a message, in pieces."""
        action = self.understand(message, history)
        if action.tool not in _BY_RULE and (model := self._model or tool_model(self._context)):
            from agent.chat.tool_agent import ToolAgent

            def perform(chosen: Action) -> str:
                return "".join(self.perform(chosen, message, history))

            try:
                pieces = list(
                    ToolAgent(model).answer(redacted_message(self._context, message), Conversation(history), perform)
                )
            except ModelFailure as error:
                pieces = []
                yield f"({quoted(describe(error), 500)})\n"
            if pieces:
                yield from pieces
                return
        yield from self.perform(action, message, history)

    def perform(self, action: Action, message: str, history: Sequence[BaseMessage]) -> Iterator[str]:
        """The answer to a message that asks for this."""
        conversation = Conversation(history)
        judged = action.tool in ("judge", "judge_file")
        language = conversation.language(_own_words(message, action), is_talk=not judged)
        if action.tool == "language":
            language = action.arguments["language"] or language
        _ = translator(language)
        reply = Reply(self._context, self.tools, conversation, _)
        yield from getattr(reply, action.tool)(**action.arguments)


def _own_words(message: str, action: Action) -> str:
    """The part of a message that is not a record."""
    text = action.arguments.get("text")
    return message.replace(text, " ") if isinstance(text, str) and text in message else message
