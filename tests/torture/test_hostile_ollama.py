"""An Ollama that hangs, resets, is slow or answers garbage: a verdict comes in time, and says what it lacks."""

from __future__ import annotations

import json
import random
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Event

import pytest

from agent.core.records import Record, Verdict
from agent.core.requests import JudgeRequest
from agent.pipeline.context import AppContext
from agent.pipeline.pipeline import build
from tests.conftest import make_settings
from tests.llm.loopback import send, serving
from tests.torture.conftest import Figures

pytestmark = [pytest.mark.network, pytest.mark.enable_socket]
# the limit of one call, and what a loaded machine may add to it
_LIMIT, _GRACE = 1.0, 10.0


def reset(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


class Hostile:
    """What a server may do with a call, by name."""

    def __init__(self) -> None:
        self.ended = Event()
        self.kinds: dict[str, Callable[[BaseHTTPRequestHandler], object]] = {
            "hangs": lambda handler: self.ended.wait(60),
            "resets": reset,
            "closes": lambda handler: handler.connection.shutdown(socket.SHUT_RDWR),
            "drips": self.drip,
            "breaks off": lambda handler: send(handler, 200, b'{"mess', Content_Length="400"),
            "is garbage": lambda handler: send(handler, 200, random.Random(1).randbytes(5_000)),
            "is another page": lambda handler: send(handler, 200, b"<html>hello</html>", Content_Type="text/html"),
            "is null": lambda handler: send(handler, 200, b"null\n"),
            "lacks all": lambda handler: send(handler, 200, b"{}\n"),
            "has wrong types": lambda handler: send(
                handler, 200, json.dumps({"message": {"role": 5, "content": {"a": []}}, "done": "x"}).encode()
            ),
            "has wrong figures": lambda handler: send(
                handler,
                200,
                b'{"model":"m","message":{"role":"assistant","content":"no"},"done":true,"logprobs":[{"token":5,'
                b'"logprob":"x","top_logprobs":[{"token":"a","logprob":NaN}]}]}\n',
            ),
            "says another word": lambda handler: send(
                handler, 200, b'{"model":"m","message":{"role":"assistant","content":"perhaps"},"done":true}\n'
            ),
            "fails": lambda handler: send(handler, 500, b'{"error":"out of memory"}'),
            "is full": lambda handler: send(handler, 503, b'{"error":"server busy"}'),
            "has no such model": lambda handler: send(handler, 404, b'{"error":"model not found"}'),
        }

    def drip(self, handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not self.ended.wait(0.2):
            handler.wfile.write(b" ")
            handler.wfile.flush()


def test_a_verdict_is_given_whatever_ollama_does(
    tmp_path: Path, is_long: bool, figures: Figures, monkeypatch: pytest.MonkeyPatch
) -> None:
    # otherwise the server would soon be left alone
    monkeypatch.setattr("llm.host_pool.FAILURES", 1 << 30)
    hostile, calls = Hostile(), Counter[str]()
    kinds, count = list(hostile.kinds), 1_000 if is_long else 60

    def answer(handler: BaseHTTPRequestHandler) -> None:
        size = int(handler.headers.get("Content-Length") or 0)
        handler.rfile.read(size)
        if handler.path != "/api/chat":
            listed = {"models": [{"name": "m:latest", "digest": "d"}]}
            shown = {"details": {}, "model_info": {"llama.context_length": 4096}}
            send(handler, 200, json.dumps(listed if handler.path == "/api/tags" else shown).encode())
            return
        kind = kinds[calls.total() % len(kinds)]
        calls[kind] += 1
        with suppress(OSError):
            hostile.kinds[kind](handler)
        handler.close_connection = True

    with serving(answer) as address:
        chosen = make_settings(tmp_path / "home", model="ollama:m", ollama_hosts=address, request_timeout=_LIMIT)
        context = AppContext(chosen)
        context.casebook.create("s")
        context.casebook.set("s", brief="a log of machines: what fails is anomalous")
        chain = build(context)

        def judged(number: int) -> tuple[Verdict, float]:
            record = Record(text=f"unit {'abcdefghij'[number % 10]}{number}x said {random.Random(number).random()}")
            started = time.monotonic()
            verdict = chain.invoke(JudgeRequest.about(record, "s", "none"))
            return verdict, time.monotonic() - started

        with ThreadPoolExecutor(8) as threads:
            found = list(threads.map(judged, range(count)))
        hostile.ended.set()
        context.close()
    assert set(calls) == set(kinds)
    for verdict, _ in found:
        assert verdict.signals["language"] is None, verdict
        assert any(reason.startswith("language: ") for reason in verdict.degraded), verdict
        assert verdict.label == "unsure", "nothing else speaks"
    longest = max(seconds for _, seconds in found)
    assert longest < 8 * _LIMIT + _GRACE, "a call that waits for its turn waits for those before it"
    figures("ollama", verdicts=count, calls=calls.total(), longest_seconds=longest, without_a_word_in_degraded=0)
