"""Conversations that survive a restart: each session's messages in the store, bounded."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.runnables.history import RunnableWithMessageHistory
from sqlalchemy import delete, func, select

from agent.chat.commands import ChatInput
from agent.chat.redaction import redacted_message
from agent.pipeline.context import AppContext

with warnings.catch_warnings():
    # it warns on import that the package is no longer developed
    warnings.simplefilter("ignore")
    from langchain_community.chat_message_histories import SQLChatMessageHistory

TABLE = "chat_messages"
# newest messages of a session that the agent gets; messages of all sessions that are kept
REMEMBERED, KEPT = 60, 20_000


class SessionHistory(SQLChatMessageHistory):
    """The messages of one session, in the table `TABLE` of the store."""

    def __init__(self, context: AppContext, session_id: str) -> None:
        super().__init__(session_id, TABLE, connection=context.casebook.engine)
        self._context = context

    @property
    def messages(self) -> list[BaseMessage]:  # type: ignore[override]
        """The newest messages of the session, oldest first."""
        row = self.sql_model_class
        newest = select(row).where(row.session_id == self.session_id).order_by(row.id.desc()).limit(REMEMBERED)
        with self.session_maker() as session:
            return [self.converter.from_sql_model(stored) for stored in session.scalars(newest)][::-1]

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Append messages with placeholders, and remove the oldest of all sessions beyond `KEPT`."""
        row = self.sql_model_class
        messages = [_redacted(self._context, message) for message in messages]
        with self.session_maker() as session:
            session.add_all([self.converter.to_sql_model(message, self.session_id) for message in messages])
            session.flush()
            session.execute(delete(row).where(row.id <= select(func.max(row.id)).scalar_subquery() - KEPT))
            session.commit()


def with_memory(chat: Runnable[ChatInput, str], context: AppContext) -> RunnableWithMessageHistory:
    """The chat with the messages of each session remembered.

    It takes the user's message, and the configuration ``{"configurable": {"session_id": "…"}}``.
    """

    def as_input(messages: Any) -> ChatInput:
        return ChatInput(messages=list(messages))

    def history(session_id: str) -> SessionHistory:
        return SessionHistory(context, session_id)

    with warnings.catch_warnings():
        # LangGraph's persistence, which replaces it, would need a store of its own
        warnings.simplefilter("ignore")
        return RunnableWithMessageHistory(RunnableLambda(as_input) | chat, history)


def remember(context: AppContext, session_id: str, message: AIMessage) -> None:
    """Add a message of the agent to a session, such as the one that chooses a source."""
    SessionHistory(context, session_id).add_messages([message])


def _redacted(context: AppContext, message: BaseMessage) -> BaseMessage:
    text = redacted_message(context, str(message.text))
    return message if text == message.text else message.model_copy(update={"content": text})
