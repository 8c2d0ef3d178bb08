"""The time limit of a request: a plain answer, a stream, and the work behind both."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from agent.api.middleware import TimeoutMiddleware
from agent.core.settings import Settings
from llm.llamacpp.chat_model import EmbeddedChatModel
from server import create_app
from tests.served import HOST, eventually
from tests.shop import ANOMALOUS, NEW

LIMIT = 0.2
LINE = json.dumps({"text": NEW}).encode() + b"\n"


class Slow:
    """An application whose answers take the seconds that the path names."""

    def __init__(self, content_type: str = "text/plain") -> None:
        self.content_type = content_type
        self.ended = list[str]()
        routes = [Route("/wait/{seconds:float}", self.wait), Route("/stream/{seconds:float}", self.stream)]
        routes.append(Route("/background", self.background))
        self.app = TimeoutMiddleware(Starlette(routes=routes), LIMIT)

    async def work(self, seconds: float) -> None:
        try:
            await asyncio.sleep(seconds)
            self.ended.append("done")
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            raise

    async def wait(self, request: Any) -> PlainTextResponse:
        await self.work(request.path_params["seconds"])
        return PlainTextResponse("ok")

    async def stream(self, request: Any) -> StreamingResponse:
        async def pieces() -> Any:
            for number in range(4):
                yield f"{number}\n"
                await self.work(request.path_params["seconds"])

        return StreamingResponse(pieces(), media_type=self.content_type)

    async def background(self, request: Any) -> PlainTextResponse:
        return PlainTextResponse("ok", background=BackgroundTask(self.work, 2 * LIMIT))

    def get(self, path: str) -> httpx.Response:
        return TestClient(self.app).get(path)


def test_an_answer_in_time_is_given() -> None:
    slow = Slow()
    assert slow.get("/wait/0.01").text == "ok"
    assert slow.ended == ["done"]


def test_a_request_over_the_limit_is_a_504_and_its_work_is_cancelled() -> None:
    slow = Slow()
    answer = slow.get("/wait/30")
    assert answer.status_code == 504
    assert answer.json()["detail"].startswith("the request took longer than 0.2 seconds and was cancelled; what it had")
    assert slow.ended == ["cancelled"]


def test_a_stream_may_take_longer_in_all() -> None:
    slow = Slow()
    assert slow.get("/stream/0.1").text == "0\n1\n2\n3\n"
    assert slow.ended == ["done"] * 4


@pytest.mark.parametrize(
    ("content_type", "last"),
    [
        ("text/plain", "(no progress for 0.2 seconds: the rest was cancelled)\n"),
        ("application/x-ndjson", '{"error": "no progress for 0.2 seconds: the rest was cancelled"}\n'),
        ("text/html", ""),
    ],
)
def test_a_stream_that_stands_still_ends_and_says_so(content_type: str, last: str) -> None:
    slow = Slow(content_type)
    assert slow.get("/stream/30").text == f"0\n{last}"
    assert slow.ended == ["cancelled"]


def test_background_tasks_may_take_longer() -> None:
    slow = Slow()
    assert slow.get("/background").text == "ok"
    assert slow.ended == ["done"]


def test_a_verdict_over_the_limit_stops_the_language_model(
    copy_of: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = 0
    chunk = EmbeddedChatModel._chunk

    def counted(model: EmbeddedChatModel, event: Any) -> Any:
        nonlocal tokens
        tokens += 1
        return chunk(model, event)

    with TestClient(create_app(copy_of(request_timeout=0.05)), base_url=HOST) as client:
        assert eventually(lambda: client.get("/readyz").status_code == 200)
        monkeypatch.setattr(EmbeddedChatModel, "_chunk", counted)
        answers = [client.post("/v1/verdicts", json={"text": text, "explain": "llm"}) for text in (NEW, ANOMALOUS)]
    assert [answer.status_code for answer in answers] == [504, 504]
    assert "longer than 0.05 seconds" in answers[0].json()["detail"]
    assert tokens < 30, "an explanation has about a hundred"


def test_an_idle_ndjson_stream_ends_and_says_so(copy_of: Callable[..., Settings]) -> None:
    pieces = streamed(copy_of(model="none", request_timeout=1.0), LINE)
    lines = [json.loads(line) for line in b"".join(pieces).splitlines()]
    assert lines[0]["record"]["text"] == NEW
    assert lines[1:] == [{"error": "no progress for 1 seconds: the rest was cancelled"}]


def test_answers_are_sent_in_pieces_that_a_slow_client_takes_within_the_limit(copy_of: Callable[..., Settings]) -> None:
    """A thousand known answers are one batch; as one piece they would be megabytes, with one limit for all of them."""
    pieces = streamed(copy_of(model="none", request_timeout=1.0), LINE, LINE * 1_000)
    lines = b"".join(pieces).splitlines()
    assert len(lines) == 1_002, "and the end of the idle stream"
    assert len(b"".join(pieces)) > 512 * 1024
    assert max(map(len, pieces)) <= 64 * 1024


def streamed(settings: Settings, *parts: bytes) -> list[bytes]:
    """The pieces of the answer to a body of NDJSON that is left open, over ASGI, where it can be.

    Each part arrives when there is an answer to the one before.
    """
    app = create_app(settings)
    sent = list[dict[str, Any]]()

    async def send_and_wait() -> None:
        messages = iter(parts)

        async def receive() -> dict[str, Any]:
            if (body := next(messages, None)) is not None:
                while body != parts[0] and not any(message.get("body") for message in sent):
                    await asyncio.sleep(0.01)
                return {"type": "http.request", "body": body, "more_body": True}
            await asyncio.sleep(60)
            raise AssertionError

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/x-ndjson")]
        scope = {"type": "http", "method": "POST", "path": "/v1/verdicts", "raw_path": b"/v1/verdicts"}
        rest = {"headers": headers, "query_string": b"", "scheme": "http", "http_version": "1.1", "root_path": ""}
        async with app.router.lifespan_context(app):
            await asyncio.to_thread(eventually, lambda: app.state.server.not_ready is None)
            await app({**scope, **rest, "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1)}, receive, send)

    asyncio.run(send_and_wait())
    return [message.get("body", b"") for message in sent]
