"""The chat agent by OpenAI's own client, over a real socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import openai
import pytest

from agent.api.openai_errors import _reshaped
from agent.api.routes.openai import ChatCompletionRequest, ChatMessage, _Answer, _events
from agent.core.errors import ModelUnavailable
from tests.served import Address
from tests.shop import ANOMALOUS, NORMAL

pytestmark = [pytest.mark.network, pytest.mark.enable_socket]


@pytest.fixture
def client(address: Address) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{address.url}/v1", api_key=address.key or "any", max_retries=0)


def said(text: str) -> list[openai.types.chat.ChatCompletionMessageParam]:
    return [{"role": "user", "content": text}]


def test_the_agent_judges_a_record(client: openai.OpenAI, address: Address) -> None:
    answer = client.chat.completions.create(model="precedent", messages=said(ANOMALOUS))
    (choice,) = answer.choices
    assert (choice.message.role, choice.finish_reason) == ("assistant", "stop")
    assert choice.message.content
    verdict_id = choice.message.content.split()[1]
    verdict = httpx.get(f"{address.url}/v1/verdicts/{verdict_id}", headers=address.headers).json()
    assert (verdict["label"], verdict["record"]["text"]) == ("anomalous", ANOMALOUS)
    assert answer.usage
    assert answer.usage.prompt_tokens > 10
    assert answer.usage.completion_tokens > answer.usage.prompt_tokens
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_conversation_goes_on(client: openai.OpenAI) -> None:
    first = client.chat.completions.create(model="precedent:shop", messages=said(NORMAL)).choices[0].message.content
    assert first
    content = [{"type": "text", "text": "show me the precedents"}]
    followed = client.chat.completions.create(
        model="precedent:shop",
        messages=[*said(NORMAL), {"role": "assistant", "content": first}, {"role": "user", "content": content}],  # type: ignore[list-item]
        temperature=0.3,
    )
    assert "similarity" in (followed.choices[0].message.content or "")


def test_the_answer_is_streamed(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="precedent", messages=said(ANOMALOUS))
    stream = client.chat.completions.create(
        model="precedent", messages=said(ANOMALOUS), stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = list(stream)
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.choices[0].message.content
    assert (last.choices, last.usage) == ([], whole.usage)
    unused = client.chat.completions.create(model="precedent", messages=said(NORMAL), stream=True)
    assert all(chunk.usage is None for chunk in unused)


def test_a_model_for_each_source(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["precedent", "precedent:shop"]
    assert client.models.retrieve("precedent:shop").id == "precedent:shop"
    for ask in (
        lambda: client.models.retrieve("precedent:bank"),
        lambda: client.chat.completions.create(model="gpt-5", messages=said(NORMAL)),
        lambda: client.chat.completions.create(model="precedent:", messages=said(NORMAL)),
    ):
        with pytest.raises(openai.NotFoundError, match="does not exist") as raised:
            ask()
        assert raised.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        ({"messages": []}, "messages"),
        ({"n": 2}, "n"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"logprobs": True}, "logprobs"),
        ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]}, "messages.0.role"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, None),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]},
            "messages.0.content",
        ),
    ],
)
def test_what_the_agent_cannot_do_is_refused(client: openai.OpenAI, sent: dict[str, object], param: str | None) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(**{"model": "precedent", "messages": said(NORMAL), **sent})  # type: ignore[call-overload]
    assert raised.value.type == "invalid_request_error"
    assert raised.value.param == param or (param and (raised.value.param or "").startswith(param))
    assert "message" in raised.value.body  # type: ignore[operator]


def test_errors_of_the_server_have_openais_shape(address: Address) -> None:
    url = f"{address.url}/v1/chat/completions"
    no_json = httpx.post(url, content=b"{", headers={**address.headers, "content-type": "application/json"})
    assert (no_json.status_code, no_json.json()["error"]["type"]) == (400, "invalid_request_error")
    wrong_type = httpx.post(url, content=b"{}", headers={**address.headers, "content-type": "text/plain"})
    assert (wrong_type.status_code, "content type" in wrong_type.json()["error"]["message"]) == (415, True)
    foreign = httpx.get(f"{address.url}/v1/models", headers={**address.headers, "host": "evil.example"})
    assert (foreign.status_code, "Host" in foreign.json()["error"]["message"]) == (400, True)
    # other routes keep theirs
    assert "detail" in httpx.get(f"{address.url}/v1/verdicts/v0", headers=address.headers).json()


def test_a_key_is_required_where_there_is_one(address: Address) -> None:
    wrong = openai.OpenAI(base_url=f"{address.url}/v1", api_key="wrong", max_retries=0)
    if address.key is None:
        assert wrong.models.list().data
        return
    with pytest.raises(openai.AuthenticationError) as raised:
        wrong.models.list()
    assert raised.value.code == "invalid_api_key"


def test_an_odd_text_is_no_failure(client: openai.OpenAI, address: Address) -> None:
    """A text of nothing, and one that UTF-8 cannot hold, which JSON can spell."""
    for text in ("", "   ", "a\x00b"):
        assert client.chat.completions.create(model="precedent", messages=said(text)).choices[0].message.content
    body = json.dumps({"model": "precedent", "messages": [{"role": "user", "content": "\ud800 failed"}]})
    sent = {**address.headers, "content-type": "application/json"}
    assert httpx.post(f"{address.url}/v1/chat/completions", content=body, headers=sent).status_code == 200


def test_an_error_after_the_answer_has_begun_is_the_last_event() -> None:
    chat = ChatCompletionRequest(model="precedent", messages=[ChatMessage(role="user", content=NORMAL)], stream=True)

    async def broken() -> AsyncIterator[str]:
        yield "and then"
        raise ModelUnavailable("the model server does not answer")

    async def collect() -> list[bytes]:
        return [sent async for sent in _events(_Answer(None, chat), "at first", broken())]  # type: ignore[arg-type]

    *_, piece, error = asyncio.run(collect())
    assert b"and then" in piece
    assert json.loads(error.removeprefix(b"data: "))["error"]["type"] == "server_error"


@pytest.mark.parametrize(
    ("status", "kind"), [(401, "authentication_error"), (429, "rate_limit_error"), (503, "server_error")]
)
def test_each_status_has_openais_type(status: int, kind: str) -> None:
    error = json.loads(_reshaped(status, b'{"detail": "try again later"}'))["error"]
    assert (error["type"], error["message"], error["param"]) == (kind, "try again later", None)
