"""A real server on a real socket: real clients, streams both ways, and clients that disconnect."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import socket
import threading
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from langchain_core.messages import AIMessage, HumanMessage

from agent.chat.commands import ChatInput, build_chat
from agent.chat.language_model import ChatModelTraits
from agent.core.settings import Settings
from agent.pipeline.context import AppContext
from agent.pipeline.pipeline import build
from agent.pipeline.service import judge_one
from llm.llamacpp.chat_model import EmbeddedChatModel
from tests.served import Served, running
from tests.shop import ANOMALOUS, NEW, NORMAL

pytestmark = [
    pytest.mark.network,
    pytest.mark.enable_socket,
    pytest.mark.filterwarnings("ignore:astream_log is deprecated"),  # what LangServe's playgrounds read
]
ROOT = Path(__file__).resolve().parents[2]
NDJSON = "application/x-ndjson"


@pytest.fixture(scope="module")
def served(copy_of: Callable[..., Settings]) -> Iterator[Served]:
    made = Served(copy_of())
    try:
        made.wait()
        yield made
    finally:
        errors = made.stop()
    assert "Traceback" not in errors
    # uvicorn raises the signal again when it has shut down, so that a supervisor sees it
    assert made.process.returncode == -signal.SIGTERM


def same(verdict: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in verdict.items() if name != "elapsed_ms"}


def test_rest(served: Served) -> None:
    response = httpx.post(f"{served.url}/v1/verdicts", json={"text": ANOMALOUS})
    assert response.status_code == 200
    assert response.json()["label"] == "anomalous"
    assert httpx.get(f"{served.url}/v1/verdicts/{response.json()['id']}").json() == response.json()
    assert httpx.get(f"{served.url}/v1/sources").json()[0]["name"] == "shop"
    wrong_host = httpx.get(f"{served.url}/v1/sources", headers={"host": "evil.example"})
    assert (wrong_host.status_code, "Host" in wrong_host.json()["detail"]) == (400, True)
    oversized = httpx.post(
        f"{served.url}/v1/verdicts", content=b" " * (16 * 1024 * 1024 + 1), headers={"content-type": "application/json"}
    )
    assert oversized.status_code == 413


def remote(url: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from langserve import RemoteRunnable
    return RemoteRunnable(url)


def test_langserves_client_judges(served: Served) -> None:
    rest = httpx.post(
        f"{served.url}/v1/verdicts", json=[{"text": text} for text in (NORMAL, ANOMALOUS, NEW)], timeout=60
    )
    judge = remote(f"{served.url}/verdict/")
    assert [same(judge.invoke({"text": text})) for text in (NORMAL, NEW)] == [same(rest.json()[at]) for at in (0, 2)]
    batch = judge.batch([{"text": text} for text in (NORMAL, ANOMALOUS, NEW)])
    assert [same(verdict) for verdict in batch] == [same(verdict) for verdict in rest.json()]
    assert [same(verdict) for verdict in judge.stream({"text": ANOMALOUS})] == [same(rest.json()[1])]
    assert same(asyncio.run(judge.ainvoke({"text": NORMAL}))) == same(rest.json()[0])
    for call in (judge.invoke, lambda bad: list(judge.stream(bad))):
        with pytest.raises(httpx.HTTPStatusError) as refused:
            call({"text": "a", "source": "nowhere"})
        assert refused.value.response.status_code == 404


def test_langserves_client_chats(served: Served) -> None:
    chat = remote(f"{served.url}/chain/")
    first = chat.invoke({"messages": [HumanMessage(NORMAL)]})
    assert re.match(r"verdict v[0-9a-f]{32} \(source shop\): Normal, ", first)
    pieces = list(chat.stream({"messages": [HumanMessage(NORMAL), AIMessage(first), HumanMessage("precedents")]}))
    assert len(pieces) > 1
    assert all(piece.startswith("- c") for piece in pieces)


class Duplex:
    """A client that writes the request's body and reads the answer's at the same time, which httpx does not."""

    def __init__(self, served: Served) -> None:
        self.socket = socket.create_connection(("127.0.0.1", served.port), timeout=60)
        head = (
            f"POST /v1/verdicts HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nContent-Type: {NDJSON}\r\n"
            "Transfer-Encoding: chunked\r\n\r\n"
        )
        self.socket.sendall(head.encode())
        self.received = self.socket.makefile("rb")

    def send(self, piece: bytes) -> None:
        self.socket.sendall(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")

    def end(self) -> None:
        self.socket.sendall(b"0\r\n\r\n")

    def head(self) -> int:
        """The answer's status, its header having been read."""
        status = int(self.received.readline().split()[1])
        while self.received.readline().strip():
            pass
        return status

    def chunks(self) -> Iterator[dict[str, Any]]:
        """What is answered, line by line; the server sends whole lines as a chunk."""
        while length := int(self.received.readline(), 16):
            yield from map(json.loads, self.received.read(length).splitlines())
            self.received.readline()

    def close(self) -> None:
        self.received.close()
        self.socket.close()


def test_a_server_that_stops_names_the_line_of_the_stream(copy_of: Callable[..., Settings]) -> None:
    served = Served(copy_of(model="none"))
    try:
        served.wait()
        with contextlib.closing(Duplex(served)) as client:
            client.send(b"".join(json.dumps({"text": text}).encode() + b"\n" for text in (NORMAL, ANOMALOUS)))
            assert client.head() == 200
            answers = client.chunks()
            assert [next(answers)["label"] for _ in range(2)] == ["normal", "anomalous"]
            served.process.send_signal(signal.SIGINT)
            assert [answer["error"] for answer in answers] == ["the server stops: lines from 3 on were not judged"]
        assert served.process.wait(timeout=30) == 0
    finally:
        errors = served.stop()
    assert "Traceback" not in errors


def test_answers_come_before_the_body_is_finished(served: Served) -> None:
    client = Duplex(served)
    with contextlib.closing(client):
        answers = client.chunks()
        for number, text in enumerate([NORMAL, ANOMALOUS, NORMAL, "a brand new thing", NORMAL]):
            line = json.dumps({"text": text, "line": number + 1}).encode() + b"\n"
            client.send(line[:10])
            time.sleep(0.05)
            client.send(line[10:])
            if not number:
                assert client.head() == 200
            answer = next(answers)
            assert (answer["record"]["text"], answer["record"]["line"]) == (text, number + 1)
        client.send(b'"the last one has no line break"')
        client.end()
        assert next(answers)["record"]["text"] == "the last one has no line break"
        assert next(answers, None) is None


def test_a_stream_is_judged_in_memory_that_does_not_grow(served: Served) -> None:
    """100 MB go through; one line in 100 is a record, the others are longer than a record may be."""
    client = Duplex(served)
    long = json.dumps({"text": "x" * 70_000}).encode() + b"\n"
    many = 1_500

    def write() -> None:
        for number in range(many):
            client.send(
                json.dumps({"text": NORMAL, "line": number + 1}).encode() + b"\n" if number % 100 == 0 else long
            )
        client.end()

    with contextlib.closing(client):
        before = served.resident_bytes()
        writer = threading.Thread(target=write)
        writer.start()
        assert client.head() == 200
        most, labels = before, list[str]()
        for number, answer in enumerate(client.chunks()):
            labels.append(answer.get("label", "error"))
            if number % 50 == 0:
                most = max(most, served.resident_bytes())
        writer.join()
    assert labels == ["normal" if number % 100 == 0 else "error" for number in range(many)]
    assert most - before < 40_000_000


def test_a_stream_that_breaks_off_leaves_the_server_well(served: Served) -> None:
    for _ in range(3):
        client = Duplex(served)
        client.send(json.dumps({"text": NORMAL}).encode() + b"\n" + b'{"text": "half a li')
        client.head()
        client.close()
    assert httpx.post(f"{served.url}/v1/verdicts", json={"text": NORMAL}).json()["label"] == "normal"


class Tokens:
    """Counts the tokens of the language model while clients come and go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        chunk = EmbeddedChatModel._chunk

        def counted(model: EmbeddedChatModel, event: Any) -> Any:
            self.count += 1
            return chunk(model, event)

        monkeypatch.setattr(EmbeddedChatModel, "_chunk", counted)

    def at_least(self, count: int) -> None:
        deadline = time.monotonic() + 60
        while self.count < count:
            assert time.monotonic() < deadline, f"only {self.count} tokens came"
            time.sleep(0.01)

    def settled(self) -> int:
        """How many there are once no more come."""
        seen = -1
        while seen != self.count:
            seen = self.count
            time.sleep(1.0)
        return seen


def test_a_client_that_leaves_stops_the_model(
    copy_of: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by `stream_log`, which is what the playground reads."""
    # the chat lets only large models write
    monkeypatch.setattr(ChatModelTraits, "of", lambda _: ChatModelTraits(writes_reliably=True))
    tokens = Tokens(monkeypatch)
    with running(copy_of()) as url:
        verdict = httpx.post(f"{url}/v1/verdicts", json={"text": ANOMALOUS}, timeout=60).json()
        before = f"verdict {verdict['id']} (source shop): {verdict['explanation']}"
        messages = [{"type": "human", "content": ANOMALOUS}, {"type": "ai", "content": before}]
        body = {"input": {"messages": [*messages, {"type": "human", "content": "Why? Please explain."}]}}
        with httpx.stream("POST", f"{url}/chain/stream", json=body, timeout=60) as whole:
            assert "event: end" in whole.read().decode()
        in_all = tokens.count
        assert in_all > 20
        for method in ("stream", "stream_log"):
            tokens.count = 0
            with httpx.stream("POST", f"{url}/chain/{method}", json=body, timeout=60) as half:
                arriving = half.iter_lines()
                while verdict["id"] not in next(arriving):
                    pass
                tokens.at_least(3)
                left_at = tokens.count
            assert tokens.settled() < left_at + 10 < in_all, method
        assert httpx.post(f"{url}/v1/verdicts", json={"text": NEW}, timeout=60).status_code == 200


def test_a_client_that_disconnects_stops_the_model(
    copy_of: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = Tokens(monkeypatch)
    # a model that writes sentences in the chat
    monkeypatch.setattr(ChatModelTraits, "of", lambda _: ChatModelTraits(writes_reliably=True))
    context = AppContext(copy_of())
    chat = build_chat(context, partial(judge_one, context, build(context)))
    judged = chat.invoke(ChatInput(messages=[HumanMessage(ANOMALOUS)]))
    asked = ChatInput(messages=[HumanMessage(ANOMALOUS), AIMessage(judged), HumanMessage("why?")])

    async def read_all(answer: AsyncIterator[str]) -> None:
        async for _ in answer:
            pass

    async def stop_reading_early() -> int:
        waiting = asyncio.ensure_future(read_all(chat.astream(asked)))
        await asyncio.to_thread(tokens.at_least, 3)
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
        return tokens.count

    try:
        assert tokens.settled() < asyncio.run(stop_reading_early()) + 10
        again = tokens.count
        assert chat.invoke(ChatInput(messages=[HumanMessage(NORMAL)])).startswith("verdict")
        assert tokens.count == again
    finally:
        context.close()


def test_several_processes_serve_as_one(copy_of: Callable[..., Settings]) -> None:
    """Each has the cases and the counts of the others."""
    made = Served(copy_of(model="none"), "--workers", "2")
    try:
        made.wait()
        requests = 0

        def judge_text(text: str) -> dict[str, Any]:
            nonlocal requests
            requests += 1
            # a connection of its own, so that either process may take it
            answer: dict[str, Any] = httpx.post(f"{made.url}/v1/verdicts", json={"text": text}, timeout=60).json()
            return answer

        first = [judge_text(NORMAL) for _ in range(20)]
        assert {verdict["label"] for verdict in first} == {"normal"}
        corrected = httpx.post(f"{made.url}/v1/verdicts/{first[0]['id']}/feedback", json={"label": "anomalous"})
        assert corrected.status_code == 200
        assert {judge_text(NORMAL)["label"] for _ in range(20)} == {"anomalous"}
        for _ in range(4):
            counts = re.findall(r"precedent_verdicts_total\{[^}]*\} (\d+)", httpx.get(f"{made.url}/metrics").text)
            assert sum(map(int, counts)) == requests
    finally:
        errors = made.stop()
    assert "Traceback" not in errors
