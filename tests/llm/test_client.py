from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from llm.errors import ModelFailure
from llm.ollama.client import OllamaModel, chat_ollama, find_ollama, require_ollama

from .loopback import NOBODY, send, serving

network = [pytest.mark.network, pytest.mark.enable_socket]


class TestServer:
    pytestmark = network

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("llama3.2", OllamaModel("llama3.2:latest", "d1")),
            ("llama3.2:latest", OllamaModel("llama3.2:latest", "d1")),
            ("llama3.1:8b", OllamaModel("llama3.1:8b", "d2")),
            ("registry:5000/team/judge", OllamaModel("registry:5000/team/judge:latest", "d3")),
            ("llama3.1", None),
            ("llama3", None),
        ],
    )
    def test_names_match_with_or_without_latest(self, server: str, name: str, expected: OllamaModel | None) -> None:
        assert find_ollama(server, name) == expected

    def test_no_server_gives_none(self) -> None:
        assert find_ollama(NOBODY, "llama3.2") is None

    @pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"models": [{}]}', b'{"models": null}'])
    def test_something_else_there_is_none(self, body: bytes) -> None:
        with serving(lambda handler: send(handler, 200, body)) as address:
            assert find_ollama(address, "llama3.2") is None
            with pytest.raises(ModelFailure, match="something other"):
                require_ollama(address, "llama3.2")

    def test_a_missing_model_names_the_remedy_and_the_models_present(self, server: str) -> None:
        with pytest.raises(ModelFailure, match=r"no model 'qwen3'.*llama3\.2:latest, llama3\.1:8b") as failure:
            require_ollama(server, "qwen3")
        assert failure.value.hint == "`ollama pull qwen3` fetches it"

    def test_the_error_on_a_missing_server_names_the_remedy(self) -> None:
        with pytest.raises(ModelFailure, match=r"no Ollama server at http://127\.0\.0\.1:1: ") as failure:
            require_ollama(NOBODY, "qwen3")
        assert failure.value.hint == "`ollama serve` starts it"

    def test_verdict_calls_request_log_probabilities(self) -> None:
        requests: list[dict[str, Any]] = []
        logprobs = [{"token": "A", "logprob": -0.5, "top_logprobs": [{"token": "A", "logprob": -0.5}]}]

        def answer(handler: BaseHTTPRequestHandler) -> None:
            requests.append(json.loads(handler.rfile.read(int(handler.headers["Content-Length"]))))
            message = {"role": "assistant", "content": "A"}
            reply = {"model": "m", "message": message, "done": True, "done_reason": "stop", "logprobs": logprobs}
            send(handler, 200, json.dumps(reply).encode() + b"\n", Content_Type="application/x-ndjson")

        with serving(answer) as address:
            chat = chat_ollama(address, "m", context_tokens=2048, timeout=5)
            message = chat.invoke("judge")
        (request,) = requests
        # Ollama's client gives objects that are read like the dictionaries of the embedded model.
        (entry,) = message.response_metadata["logprobs"]
        assert (entry["token"], entry["logprob"], entry["top_logprobs"][0]["token"]) == ("A", -0.5, "A")
        assert (request["logprobs"], request["top_logprobs"], request["keep_alive"]) == (True, 20, "10m")
        assert request["options"]["num_ctx"] == 2048
        assert (request["options"]["temperature"], request["options"]["seed"]) == (0, 0)
