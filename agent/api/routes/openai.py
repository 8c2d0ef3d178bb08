"""The chat agent by OpenAI's chat completions, for the clients that speak that protocol.

A model is the agent: ``precedent``, or ``precedent:SOURCE``, which judges records as that source. The agent's answers
do not depend on chance, so that what OpenAI's clients send to steer it (``temperature``, ``seed``, …) has no effect;
what would change the answer (tools, other formats, several choices) is refused.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, field_validator
from starlette.concurrency import run_in_threadpool

from agent.api.bodies import JsonRoute, cancel_on_disconnect
from agent.api.openai_errors import OpenAIProblem, error_object
from agent.api.roles import needs
from agent.api.state import ServerState, State
from agent.chat.commands import ChatInput, use_source
from agent.core.access import Role
from agent.core.errors import EXPECTED, InputError, UsageError, translate
from agent.core.records import clean_text

MODEL = "precedent"
# when the protocol was added; a model of OpenAI has a date, the agent has none
_CREATED = 1_764_115_200
_EVENT_STREAM = "text/event-stream"
_MESSAGE_TYPES = {"user": HumanMessage, "assistant": AIMessage, "system": SystemMessage, "developer": SystemMessage}

_TEXT_FORMAT: dict[str, Any] = {"type": "object", "properties": {"type": {"const": "text"}}, "required": ["type"]}
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": OpenAIProblem, "description": "What is wrong, in OpenAI's shape"} for status in ("4XX", 503, 507)
}
router = APIRouter(prefix="/v1", tags=["OpenAI"], route_class=JsonRoute, responses=_PROBLEMS)


class TextPart(BaseModel):
    """A part of a message; others than texts are refused."""

    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    """A message of the conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart] | None = None

    @property
    def text(self) -> str:
        """The text of the message, parts joined."""
        if isinstance(self.content, list):
            return clean_text("\n".join(part.text for part in self.content))
        return clean_text(self.content or "")


class StreamOptions(BaseModel):
    """Options of a streamed answer."""

    include_usage: bool = False


class ChatCompletionRequest(BaseModel):
    """A conversation, whose last message is answered; keys that have no effect here may be sent."""

    model_config = ConfigDict(extra="allow")

    model: str
    messages: list[ChatMessage] = Field(min_length=1)
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=1)] | None = 1
    logprobs: Literal[False] | None = None
    tools: Annotated[list[Any], Field(max_length=0)] | None = None
    response_format: Annotated[dict[str, Any], WithJsonSchema(_TEXT_FORMAT)] | None = None

    @field_validator("response_format")
    @classmethod
    def _is_text(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value is not None and value.get("type") != "text":
            raise ValueError("the agent answers in text; POST /v1/verdicts gives verdicts as JSON")
        return value


class Model(BaseModel):
    """The agent, as one of OpenAI's models."""

    id: str
    object: Literal["model"] = "model"
    created: int = _CREATED
    owned_by: str = MODEL


class ModelList(BaseModel):
    """All models."""

    object: Literal["list"] = "list"
    data: list[Model]


class _UnknownModel(Exception):
    """There is no model of that id."""


@router.get("/models")
@needs(Role.READ)
def get_models(state: State) -> ModelList:
    """The agent, and the agent for each source."""
    names = state.context.casebook.names()
    return ModelList(data=[Model(id=MODEL), *(Model(id=f"{MODEL}:{name}") for name in names)])


@router.get("/models/{model}", response_model=Model)
@needs(Role.READ)
def get_model(model: str, state: State) -> Model | Response:
    """One model."""
    try:
        _source_of(state, model)
    except _UnknownModel as error:
        return _model_not_found(error)
    return Model(id=model)


@router.post("/chat/completions", response_model=None)
@needs(Role.JUDGE)
async def post_chat_completion(chat: ChatCompletionRequest, request: Request, state: State) -> Response:
    """Answer the last message; with `stream`, in pieces as server-sent events."""
    try:
        source = await run_in_threadpool(_source_of, state, chat.model)
    except _UnknownModel as error:
        return _model_not_found(error)
    state.batcher.check_room()
    pieces = state.chat.astream(_conversation(chat.messages, source))
    answer = _Answer(state, chat)
    if not chat.stream:
        text = "".join(await cancel_on_disconnect(request, _all(pieces)))
        return JSONResponse(await answer.whole(text))
    # an error before the first piece has a status of its own
    first = await cancel_on_disconnect(request, anext(pieces, None))
    return StreamingResponse(_events(answer, first, pieces), media_type=_EVENT_STREAM)


def _source_of(state: ServerState, model: str) -> str | None:
    name, _, source = model.partition(":")
    if name != MODEL or (":" in model and source not in state.context.casebook.names()):
        raise _UnknownModel(model)
    return source or None


def _model_not_found(error: _UnknownModel) -> JSONResponse:
    message = f"the model {str(error)!r} does not exist; GET /v1/models lists those there are"
    return JSONResponse(error_object(404, clean_text(message), "model_not_found", "model"), 404)


def _conversation(messages: Sequence[ChatMessage], source: str | None) -> ChatInput:
    """The conversation as the agent reads it, beginning with the choice of the source where the model names one."""
    if messages[-1].role != "user":
        raise InputError("the last message must be the user's")
    chosen = [use_source(source)] if source else []
    return ChatInput(messages=[*chosen, *(_MESSAGE_TYPES[message.role](message.text) for message in messages)])


async def _all(pieces: AsyncIterator[str]) -> list[str]:
    return [piece async for piece in pieces]


class _Answer:
    """The parts of an answer that are the same in all of its chunks."""

    def __init__(self, state: ServerState, chat: ChatCompletionRequest) -> None:
        self._state, self._chat = state, chat
        self._head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": chat.model}
        self.has_usage = chat.stream_options is not None and chat.stream_options.include_usage

    async def whole(self, text: str) -> dict[str, Any]:
        """The answer that is not streamed."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        return {**self._head, "object": "chat.completion", "choices": [choice], "usage": await self.usage(text)}

    def chunk(self, delta: dict[str, str], finish_reason: str | None = None) -> bytes:
        """An event with a piece of the answer."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return self._event([choice], None)

    async def usage_chunk(self, text: str) -> bytes:
        """The event with the usage, the last one."""
        return self._event([], await self.usage(text))

    def _event(self, choices: list[dict[str, Any]], usage: dict[str, int] | None) -> bytes:
        body = {**self._head, "object": "chat.completion.chunk", "choices": choices}
        return event({**body, "usage": usage} if self.has_usage else body)

    async def usage(self, text: str) -> dict[str, int]:
        """Tokens of the conversation and of the answer, as the embedding model's tokenizer counts them."""
        texts = [*(message.text for message in self._chat.messages), text]
        *sent, answered = await run_in_threadpool(lambda: self._state.context.embedder().count_tokens(texts))
        return {"prompt_tokens": sum(sent), "completion_tokens": answered, "total_tokens": sum(sent) + answered}


async def _events(answer: _Answer, first: str | None, pieces: AsyncIterator[str]) -> AsyncIterator[bytes]:
    yield answer.chunk({"role": "assistant", "content": ""})
    texts = [] if first is None else [first]
    try:
        if first is not None:
            yield answer.chunk({"content": first})
        async for piece in pieces:
            texts.append(piece)
            yield answer.chunk({"content": piece})
        yield answer.chunk({}, "stop")
        if answer.has_usage:
            yield await answer.usage_chunk("".join(texts))
    except EXPECTED as error:
        expected = translate(error) or UsageError(str(error))
        yield event(error_object(expected.http_status, str(expected)))
        return
    yield b"data: [DONE]\n\n"


def event(body: dict[str, Any]) -> bytes:
    """A server-sent event with a JSON object."""
    return b"data: %s\n\n" % json.dumps(body, ensure_ascii=False).encode()
