"""The entry of the chat: a conversation to the agent's answer, as LangServe, the console and the terminal call it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any, cast

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.runnables import Runnable, RunnableLambda
from pydantic import BaseModel, Field, ValidationError, WithJsonSchema, field_validator

from agent.chat.agent import Agent
from agent.chat.sentences import HELP
from agent.core.access import Role, require
from agent.core.cancellable_stream import stream_in_thread
from agent.core.errors import EXPECTED, Busy, describe
from agent.core.records import Verdict, clean_text
from agent.core.requests import JudgeRequest, format_validation_error
from agent.pipeline.context import AppContext

_MESSAGES: dict[str, type[BaseMessage]] = {
    "human": HumanMessage,
    "user": HumanMessage,
    "ai": AIMessage,
    "assistant": AIMessage,
    "system": SystemMessage,
}

# keys that clients send along
_UNREAD = (
    *((name, str, "a text") for name in ("id", "name")),
    *((name, dict, "an object") for name in ("additional_kwargs", "response_metadata")),
)
_WORDS_OF_JSON = {str: "string", dict: "object"}
# what is read of a message: of LangChain's own schemas most does not matter here
_MESSAGE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "type": {"enum": list(_MESSAGES)},
        "content": {
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": ["string", "object"]}}],
            "description": "A text, or its parts",
        },
        **{name: {"type": [_WORDS_OF_JSON[kind], "null"]} for name, kind, _ in _UNREAD},
    },
    "required": ["type", "content"],
}

__all__ = ["HELP", "ChatInput", "build_chat", "use_source"]


class ChatInput(BaseModel):
    """The conversation so far; its last message is answered."""

    messages: list[
        Annotated[
            HumanMessage | AIMessage | SystemMessage, Field(discriminator="type"), WithJsonSchema(_MESSAGE_SCHEMA)
        ]
    ] = Field(..., json_schema_extra={"widget": {"type": "chat", "input": "messages"}})

    @field_validator("messages", mode="before")
    @classmethod
    def _only_texts(cls, messages: Any) -> Any:
        """Messages by their type and content: LangChain's classes raise other errors on odd values of other keys."""
        if not isinstance(messages, list):
            return messages
        return [_message(message) if isinstance(message, dict) else message for message in messages]


def _message(message: dict[str, Any]) -> BaseMessage:
    kind = message.get("type", message.get("role"))
    made = _MESSAGES.get(kind) if isinstance(kind, str) else None
    content = message.get("content")
    if made is None or not isinstance(content, (str, list)):
        raise ValueError("a message has a type (human, ai or system) and a content")
    for name, kind_of, expected in _UNREAD:
        if not isinstance(message.get(name), (kind_of, type(None))):
            raise ValueError(f"the {name} of a message must be {expected}")
    return made(content=content)


def _in_one_line(text: str) -> str:
    """An error, whose parts may be a record's: a new line could look like one of the agent's marks."""
    return " ".join(text.split())


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
            require(Role.JUDGE)
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
            yield _in_one_line(describe(error))
        except EXPECTED as error:
            yield _in_one_line(describe(error))
        except ValidationError as error:
            yield _in_one_line(f"This is not a valid record: {format_validation_error(error)}.")

    async def answer_async(conversation: Any) -> AsyncIterator[str]:
        async for piece in stream_in_thread(answer(conversation)):
            yield piece

    runnable = RunnableLambda(answer, afunc=answer_async, name="chat")
    return cast(Runnable[ChatInput, str], runnable.with_types(input_type=ChatInput, output_type=str))
