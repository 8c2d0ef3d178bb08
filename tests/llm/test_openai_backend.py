"""A model server with OpenAI's interface, played by a small fake: what is sent, and every way in which it can fail."""

from __future__ import annotations

import importlib.util
import json
import math
import re
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.messages import HumanMessage

from agent.core.prompts import PromptVariant
from agent.core.records import Signal
from agent.detectors.language import LanguageDetector
from llm.base import ChatBackend
from llm.errors import ModelFailure
from llm.openai.address import parse_spec
from retrieval.store.caches import LLMCache
from retrieval.store.engine import open_store
from tests.conftest import missing
from tests.llm.loopback import NOBODY, send, serving

if TYPE_CHECKING:
    from llm.openai.backend import OpenAIBackend

pytestmark = [pytest.mark.extras, pytest.mark.network, pytest.mark.enable_socket]
KEY = "sk-very-secret"
QUERIED = PromptVariant(reference=0.0)
Body = dict[str, Any]
Chat = Callable[[BaseHTTPRequestHandler, Body], None]
MODELS = {"data": [{"id": "m", "max_model_len": 4096}, {"id": "other"}]}


@pytest.fixture(autouse=True)
def _has_extra() -> None:
    if importlib.util.find_spec("langchain_openai") is None:
        missing("openai", "langchain-openai is not installed: make extras")


def reply(content: str, **choice: Any) -> bytes:
    message = {"role": "assistant", "content": content}
    choices = [{"index": 0, "message": message, "finish_reason": "length", **choice}]
    return json.dumps({"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": choices}).encode()


def token(text: str, logprob: Any, *others: tuple[str, Any]) -> Body:
    listed = [{"token": name, "logprob": value, "bytes": None} for name, value in ((text, logprob), *others)]
    return {"logprobs": {"content": [{**listed[0], "top_logprobs": listed}]}}


LEANS = token("anom", math.log(0.6), ("normal", math.log(0.3)))


def send_json(handler: BaseHTTPRequestHandler, body: bytes, status: int = 200, **headers: str) -> None:
    send(handler, status, body, Content_Type="application/json", **headers)


@contextmanager
def fake(
    chat: Chat, models: Any = MODELS, key: str | None = KEY, timeout: float = 5.0, context: int = 4096
) -> Iterator[OpenAIBackend]:
    from llm.openai.backend import OpenAIBackend

    def answer(handler: BaseHTTPRequestHandler) -> None:
        size = int(handler.headers.get("Content-Length") or 0)
        body = json.loads(handler.rfile.read(size)) if size else {}
        with suppress(ConnectionError):
            if handler.path == "/v1/chat/completions":
                chat(handler, body)
            elif isinstance(models, int):
                send_json(handler, b'{"error": "no"}', models)
            else:
                send_json(handler, models if isinstance(models, bytes) else json.dumps(models).encode())

    with serving(answer) as address:
        model = parse_spec(f"openai:m@{address}")
        backend = OpenAIBackend.connect(model, key, context_tokens=context, timeout=timeout)
        yield backend
        backend.close()


def query(model: ChatBackend, folder: Path, text: str = "disk full") -> Signal:
    detector = LanguageDetector(model, LLMCache(open_store(f"sqlite:///{folder / 'store.db'}")), 1024)
    return detector.query("A log.", text, QUERIED)


def test_the_answer_is_read_from_the_first_tokens_log_probabilities(tmp_path: Path) -> None:
    requests: list[tuple[Body, str]] = []

    def chat(handler: BaseHTTPRequestHandler, body: Body) -> None:
        requests.append((body, handler.headers["Authorization"]))
        send_json(handler, reply("anom", **LEANS))

    with fake(chat) as model:
        signal = query(model, tmp_path, "disk <|im_end|> full")
        assert model.name.startswith("openai:m@http://127.0.0.1:")
        assert model.sha256 is None
    assert signal.log_odds == pytest.approx(math.log(2))
    assert signal.degraded is None
    ((body, authorization),) = requests
    asked = {name: body[name] for name in ("model", "max_tokens", "logprobs", "top_logprobs", "temperature", "seed")}
    assert asked == {"model": "m", "max_tokens": 1, "logprobs": True, "top_logprobs": 20, "temperature": 0, "seed": 0}
    assert "max_completion_tokens" not in body
    assert "<|im_end|>" not in json.dumps(body["messages"])
    assert authorization == f"Bearer {KEY}"


def test_fewer_alternatives_are_requested_where_twenty_are_refused(tmp_path: Path) -> None:
    requested: list[int | None] = []

    def chat(handler: BaseHTTPRequestHandler, body: Body) -> None:
        requested.append(body.get("top_logprobs"))
        if body["top_logprobs"] > 5:
            send_json(handler, b'{"error": {"message": "top_logprobs must be at most 5"}}', 400)
        else:
            send_json(handler, reply("anom", **LEANS))

    with fake(chat) as model:
        assert query(model, tmp_path).log_odds == pytest.approx(math.log(2))
        assert query(model, tmp_path, "disk half full").log_odds == pytest.approx(math.log(2))
    assert requested == [20, 5, 5]


@pytest.mark.parametrize("refuses", [True, False], ids=["refused", "left out"])
def test_without_log_probabilities_the_answer_is_bound_to_a_schema(tmp_path: Path, refuses: bool) -> None:
    def chat(handler: BaseHTTPRequestHandler, body: Body) -> None:
        if "response_format" in body:
            schema = body["response_format"]["json_schema"]["schema"]
            assert schema["properties"]["verdict"]["enum"] == ["normal", "anomalous"]
            send_json(handler, reply('{"verdict": "anomalous", "certainty": 0.9}'))
        elif refuses:
            send_json(handler, b'{"error": {"message": "logprobs are not supported"}}', 400)
        else:
            send_json(handler, reply("anomalous"))

    with fake(chat) as model:
        assert query(model, tmp_path).log_odds == pytest.approx(math.log(9))


def test_neither_log_probabilities_nor_the_schema_is_degraded(tmp_path: Path) -> None:
    with fake(lambda handler, _: send_json(handler, reply("perhaps"))) as model:
        signal = query(model, tmp_path)
    assert signal.log_odds is None
    assert "did not keep to the schema" in str(signal.degraded)


_OF_BODY = {
    "html": (b"<html>busy</html>", "not of OpenAI's form"),
    "cut JSON": (b'{"choices": [{"mess', "."),
    "an error": (b'{"error": {"message": "out of memory"}}', "out of memory"),
    "null choices": (b'{"choices": null}', "."),
    "no choices": (b'{"choices": []}', "."),
    "a list": (b"[1]", "."),
    "a message that is text": (b'{"choices": [{"message": "x"}]}', "."),
    "empty": (b"", "."),
    "null probability": (reply("anom", **token("anom", None)), "log-probabilities .* not valid"),
    "infinite probability": (reply("anom", **token("anom", math.inf)), "log-probabilities .* not valid"),
    "positive probability": (reply("anom", **token("anom", 3.0)), "log-probabilities .* not valid"),
    "no token": (reply("anom", logprobs={"content": [{"logprob": -1}]}), "log-probabilities .* not valid"),
    "another answer": (reply("<think>", **token("<think>", -0.1)), "begins with '<think>'"),
}


@pytest.mark.parametrize(("body", "said"), _OF_BODY.values(), ids=_OF_BODY)
@pytest.mark.parametrize("kind", ["application/json", "text/plain"])
def test_a_reply_that_is_none_is_degraded(tmp_path: Path, body: bytes, said: str, kind: str) -> None:
    with fake(lambda handler, _: send(handler, 200, body, Content_Type=kind)) as model:
        signal = query(model, tmp_path)
    assert signal.log_odds is None
    assert signal.degraded
    if kind == "application/json":
        assert re.search(said, signal.degraded)


_OF_STATUS = {
    401: r"does not accept the key .*PRECEDENT_OPENAI_API_KEY",
    403: r"does not accept the key",
    404: r"has no model 'm'",
    400: r"refused: .*400",
    422: r"refused: .*422",
    429: r"did not answer: .*429",
    500: r"did not answer: .*500",
    503: r"did not answer: .*503",
    307: r"30[17]",
}


@pytest.mark.parametrize(("status", "said"), _OF_STATUS.items(), ids=map(str, _OF_STATUS))
def test_an_error_is_degraded_in_time_without_the_key(tmp_path: Path, status: int, said: str) -> None:
    error = {"error": {"message": f"bad\x1b[31m {KEY} " + "x" * 5000}}

    def chat(handler: BaseHTTPRequestHandler, _: Body) -> None:
        elsewhere = {"Location": "http://127.0.0.1:9/v1/chat/completions"} if status == 307 else {}
        send_json(handler, json.dumps(error).encode(), status, **elsewhere)

    started = time.monotonic()
    with fake(chat, timeout=1.0) as model:
        signal = query(model, tmp_path)
    assert time.monotonic() - started < 3
    assert signal.log_odds is None
    text = str(signal.degraded)
    assert re.search(said, text)
    assert KEY not in text
    assert "\x1b" not in text
    assert len(text) < 500


def test_a_full_queue_is_retried(tmp_path: Path) -> None:
    refused = 0

    def chat(handler: BaseHTTPRequestHandler, _: Body) -> None:
        nonlocal refused
        if refused < 2:
            refused += 1
            send_json(handler, b'{"error": {"message": "rate limit"}}', 429)
        else:
            send_json(handler, reply("anom", **LEANS))

    with fake(chat) as model:
        assert query(model, tmp_path).log_odds == pytest.approx(math.log(2))
    assert refused == 2


def test_a_server_that_fails_is_left_alone_for_a_while(tmp_path: Path) -> None:
    calls = 0

    def chat(handler: BaseHTTPRequestHandler, _: Body) -> None:
        nonlocal calls
        calls += 1
        send_json(handler, b'{"error": {"message": "the engine is dead"}}', 500)

    with fake(chat) as model:
        for number in range(5):
            assert re.search(
                "engine is dead|failed before", str(query(model, tmp_path, f"disk {number} full").degraded)
            )
    assert calls == 2


def _silent(handler: BaseHTTPRequestHandler, _: Body) -> None:
    time.sleep(1.5)


def _dribbling(handler: BaseHTTPRequestHandler, _: Body) -> None:
    body = reply("anom", **LEANS)
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    for place in range(20):
        handler.wfile.write(body[place : place + 1])
        time.sleep(0.1)


@pytest.mark.parametrize("chat", [_silent, _dribbling])
def test_a_slow_server_costs_the_time_limit(tmp_path: Path, chat: Chat) -> None:
    with fake(chat, timeout=0.5) as model:
        started = time.monotonic()
        signal = query(model, tmp_path)
        assert time.monotonic() - started < 1.2
    assert "no answer in time" in str(signal.degraded)


def _cut(handler: BaseHTTPRequestHandler, _: Body) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"id"')
    handler.wfile.flush()
    handler.connection.shutdown(socket.SHUT_RDWR)


def test_a_connection_that_is_cut_is_degraded(tmp_path: Path) -> None:
    with fake(_cut) as model:
        assert "did not answer" in str(query(model, tmp_path).degraded)


def _chunks(words: Sequence[str]) -> bytes:
    chunks = [{"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"} for _ in words]
    lines = [
        {**chunk, "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]}
        for chunk, word in zip(chunks, words, strict=True)
    ]
    return b"".join(b"data: " + json.dumps(line).encode() + b"\n\n" for line in lines)


@pytest.mark.parametrize("is_cut", [False, True])
def test_a_text_is_streamed_and_one_that_is_cut_is_an_error(is_cut: bool) -> None:
    def chat(handler: BaseHTTPRequestHandler, body: Body) -> None:
        assert body["max_tokens"] == 7
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Content-Length", "100000" if is_cut else str(len(_chunks(["a", "b"])) + 14))
        handler.end_headers()
        handler.wfile.write(_chunks(["a", "b"]) + (b"" if is_cut else b"data: [DONE]\n\n"))
        handler.close_connection = True

    words: list[str] = []
    with fake(chat) as model:
        if is_cut:
            with pytest.raises(ModelFailure, match="broke off"):
                words.extend(model.stream([HumanMessage("x")], 7))
        else:
            words.extend(model.stream([HumanMessage("x")], 7))
    assert "".join(words) == "ab"


@pytest.mark.parametrize(
    ("models", "said"),
    [
        (401, "does not accept the key"),
        (500, "500"),
        ({"data": [{"id": "other"}]}, "has no model 'm'; its models: other"),
        ({"data": []}, "its models: none"),
        ({"models": []}, "not of OpenAI's form"),
        (b"<html>", "no model server with OpenAI's interface"),
        ({"data": [1]}, "not of OpenAI's form"),
    ],
    ids=str,
)
def test_a_server_without_the_model_is_reported_when_it_is_chosen(models: Any, said: str) -> None:
    with pytest.raises(ModelFailure, match=said), fake(_silent, models):
        pass


def test_nobody_listens() -> None:
    from llm.openai.backend import OpenAIBackend

    with pytest.raises(ModelFailure, match=f"no model server with OpenAI's interface at http://{NOBODY}/v1: "):
        OpenAIBackend.connect(parse_spec(f"openai:m@{NOBODY}"), None, context_tokens=512, timeout=2)


def test_a_server_that_lists_no_models_and_needs_no_key_is_used(tmp_path: Path) -> None:
    with fake(lambda handler, _: send_json(handler, reply("anom", **LEANS)), models=404, key=None) as model:
        assert query(model, tmp_path).log_odds == pytest.approx(math.log(2))


def test_the_context_is_the_servers_and_a_prompt_that_does_not_fit_is_not_sent() -> None:
    with fake(_silent, {"data": [{"id": "m", "max_model_len": 512}]}) as model:
        assert model.room([HumanMessage("x")]) < 512
        with pytest.raises(ModelFailure, match="too long for the context of 512 tokens"):
            model.answer_log_probabilities([HumanMessage("word " * 5000)], ("normal", "anomalous"))
