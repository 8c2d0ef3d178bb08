"""The entry of the chat: a conversation to the agent's answer, as LangServe, the console and the terminal call it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, cast

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.runnables import Runnable, RunnableLambda
from pydantic import BaseModel, Field, ValidationError

from agent.chat.agent import Agent
from agent.chat.reply import HELP
from agent.core.cancellable_stream import stream_in_thread
from agent.core.errors import EXPECTED, Busy, describe
from agent.core.records import Verdict, clean_text
from agent.core.requests import JudgeRequest, format_validation_error
from agent.pipeline.context import AppContext

__all__ = ["HELP", "ChatInput", "build_chat", "use_source"]


class ChatInput(BaseModel):
    """The conversation so far; its last message is answered."""

    messages: list[HumanMessage | AIMessage | SystemMessage] = Field(
        ..., json_schema_extra={"widget": {"type": "chat", "input": "messages"}}
    )


def use_source(name: str) -> AIMessage:
    """The message at the beginning of a conversation that makes the agent judge records as that source."""
    return AIMessage(f"records are now judged as source {name}")


def build_chat(
    context: AppContext, judge: Callable[[JudgeRequest], Verdict], *, local_files: bool = False
) -> Runnable[ChatInput, str]:
    """Build the agent, which maps a conversation to its answer, streamed in pieces.

    Parameters
    ----------
    context : AppContext
    judge : callable
        Judges a record, and keeps the verdict in the history.
    local_files : bool
        Whether a message may name a file of this machine to be judged; only where its user writes the messages.

    Returns
    -------
    Runnable
        It keeps no state: everything it needs is in the conversation.
    """
    agent = Agent(context, judge, local_files=local_files)

    def answer(conversation: Any) -> Iterator[str]:
        """The answer to the last message; expected errors are part of the conversation."""
        answered = False
        try:
            if not isinstance(conversation, ChatInput):
                conversation = ChatInput.model_validate(conversation)
            *history, last = conversation.messages or [HumanMessage("help")]
            for piece in agent.answer(clean_text(str(last.text)), history):
                answered = True
                yield piece
        except Busy as error:
            if not answered:
                # it becomes the status of the response
                raise
            yield describe(error)
        except EXPECTED as error:
            yield describe(error)
        except ValidationError as error:
            yield f"This is not a valid record: {format_validation_error(error)}."

    async def answer_async(conversation: Any) -> AsyncIterator[str]:
        async for piece in stream_in_thread(answer(conversation)):
            yield piece

    runnable = RunnableLambda(answer, afunc=answer_async, name="chat")
    return cast(Runnable[ChatInput, str], runnable.with_types(input_type=ChatInput, output_type=str))
