"""What a real Ollama hardly ever does: no log-probabilities, garbage, a full queue. Played by a small fake."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from agent.core.prompts import PromptVariant
from agent.detectors.language import LanguageDetector
from llm.errors import ModelFailure
from llm.ollama.backend import OllamaBackend
from retrieval.store.caches import LLMCache
from retrieval.store.engine import open_store

from .loopback import send, serving

HEARD = PromptVariant(reference=0.0)
pytestmark = [pytest.mark.network, pytest.mark.enable_socket]
Chat = Callable[[BaseHTTPRequestHandler, dict[str, Any]], None]


def send_answer(handler: BaseHTTPRequestHandler, content: str, **more: Any) -> None:
    reply = {"model": "m", "message": {"role": "assistant", "content": content}, "done": True, "done_reason": "stop"}
    send(handler, 200, json.dumps({**reply, **more}).encode() + b"\n", Content_Type="application/x-ndjson")


@contextmanager
def fake(chat: Chat) -> Iterator[OllamaBackend]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        size = int(handler.headers.get("Content-Length") or 0)
        body = json.loads(handler.rfile.read(size)) if size else {}
        if handler.path == "/api/chat":
            chat(handler, body)
            return
        listed = {"models": [{"name": "m:latest", "digest": "d"}]}
        shown = {"details": {}, "model_info": {"llama.context_length": 4096}}
        send(handler, 200, json.dumps(listed if handler.path == "/api/tags" else shown).encode())

    with serving(answer) as address:
        yield OllamaBackend.connect([address], "m", context_tokens=4096, timeout=5)


def language_detector(model: OllamaBackend, folder: Path) -> LanguageDetector:
    return LanguageDetector(model, LLMCache(open_store(f"sqlite:///{folder / 'store.db'}")), 1024)


def test_without_log_probabilities_the_answer_is_bound_to_a_schema(tmp_path: Path) -> None:
    requests: list[dict[str, Any]] = []

    def chat(handler: BaseHTTPRequestHandler, request: dict[str, Any]) -> None:
        requests.append(request)
        send_answer(
            handler, json.dumps({"verdict": "anomalous", "certainty": 0.9}) if "format" in request else "anomalous"
        )

    with fake(chat) as model:
        detector = language_detector(model, tmp_path)
        signal = detector.query("A log.", "disk full", HEARD)
        assert signal.log_odds == pytest.approx(math.log(9))
        assert signal.degraded is None
        assert requests[-1]["format"]["properties"]["verdict"]["enum"] == ["normal", "anomalous"]
        before = len(requests)
        detector.query("A log.", "disk half full", HEARD)
        assert len(requests) == before + 1, "log-probabilities are not requested again"


def test_an_invalid_reply_is_retried_once_then_degraded(tmp_path: Path) -> None:
    requests: list[dict[str, Any]] = []

    def chat(handler: BaseHTTPRequestHandler, request: dict[str, Any]) -> None:
        requests.append(request)
        send_answer(handler, '{"verdict": "perhaps"}')

    with fake(chat) as model:
        signal = language_detector(model, tmp_path).query("A log.", "disk full", HEARD)
    assert signal.log_odds is None
    assert "did not keep to the schema" in str(signal.degraded)
    seeds = [request["options"]["seed"] for request in requests if "format" in request]
    assert seeds == [0, 1]


@pytest.mark.parametrize(
    "body", [b"<html>busy</html>", b'{"error": "out of memory"}\n', b""], ids=["html", "error", "empty"]
)
def test_an_answer_that_is_none_is_degraded(tmp_path: Path, body: bytes) -> None:
    with fake(lambda handler, _: send(handler, 200, body)) as model:
        signal = language_detector(model, tmp_path).query("A log.", "disk full", HEARD)
    assert signal.log_odds is None
    assert signal.degraded


def test_a_full_queue_is_retried() -> None:
    refused = 0

    def chat(handler: BaseHTTPRequestHandler, request: dict[str, Any]) -> None:
        nonlocal refused
        if refused < 3:
            refused += 1
            send(handler, 503, b'{"error": "server busy, please try again.  maximum pending requests exceeded"}')
        else:
            send_answer(handler, "normal", logprobs=[{"token": "normal", "logprob": -0.1, "top_logprobs": []}])

    with fake(chat) as model:
        assert model.first_token([HumanMessage("x")])["logprobs"]
    assert refused == 3


def test_a_request_that_is_refused_opens_no_breaker() -> None:
    def chat(handler: BaseHTTPRequestHandler, request: dict[str, Any]) -> None:
        send(handler, 400, b'{"error": "invalid options"}')

    with fake(chat) as model:
        for _ in range(4):
            with pytest.raises(ModelFailure, match=r"refused.*invalid options"):
                model.first_token([HumanMessage("x")])


def test_a_server_that_fails_is_left_alone_for_a_while() -> None:
    calls = 0

    def chat(handler: BaseHTTPRequestHandler, request: dict[str, Any]) -> None:
        nonlocal calls
        calls += 1
        send(handler, 500, b'{"error": "runner has died"}')

    with fake(chat) as model:
        for _ in range(6):
            with pytest.raises(ModelFailure, match=r"runner has died|failed before"):
                model.first_token([HumanMessage("x")])
    assert calls == 2


def test_a_prompt_that_was_cut_is_no_answer() -> None:
    def chat(handler: BaseHTTPRequestHandler, request: dict[str, Any]) -> None:
        send_answer(handler, "normal", prompt_eval_count=4096, logprobs=[{"token": "normal", "logprob": -0.1}])

    with fake(chat) as model, pytest.raises(ModelFailure, match="truncated the prompt"):
        model.first_token([HumanMessage("x")])
