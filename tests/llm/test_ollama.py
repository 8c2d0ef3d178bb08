from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from llm.base import ChatBackend
from llm.errors import ModelFailure
from llm.factory import choose_model
from llm.llamacpp.backend import LlamaCppBackend
from llm.ollama.client import OllamaModel, chat_ollama, find_ollama, require_ollama
from llm.ollama.urls import base_url
from llm.weights.resolver import ResolvedModel

from .loopback import send, serving

network = [pytest.mark.network, pytest.mark.enable_socket]
TAGS = {
    "models": [
        {"name": "llama3.2:latest", "digest": "d1"},
        {"name": "llama3.1:8b", "digest": "d2"},
        {"name": "registry:5000/team/judge:latest", "digest": "d3"},
    ]
}
NOBODY = "127.0.0.1:1"


def tags(handler: BaseHTTPRequestHandler) -> None:
    said = {"/api/tags": TAGS, "/api/show": {"details": {}, "model_info": {"llama.context_length": 8192}}}[handler.path]
    send(handler, 200, json.dumps(said).encode(), Content_Type="application/json")


@pytest.fixture
def server() -> Iterator[str]:
    with serving(tags) as address:
        yield address


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("", "http://127.0.0.1:11434"),
        ("10.0.0.5", "http://10.0.0.5:11434"),
        ("10.0.0.5:8080", "http://10.0.0.5:8080"),
        (":8080", "http://127.0.0.1:8080"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("http://0.0.0.0:8080/", "http://127.0.0.1:8080"),
        ("http://127.0.0.1:11434", "http://127.0.0.1:11434"),
        ("https://models.example", "https://models.example"),
        ("http://models.example/ollama/", "http://models.example/ollama"),
        (" models.example:99 ", "http://models.example:99"),
        ("[::1]", "http://[::1]:11434"),
        ("[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_the_forms_of_an_address(host: str, url: str) -> None:
    assert base_url(host) == url


@pytest.mark.parametrize("host", ["http://127.0.0.1:port", "a b:1:2"])
def test_what_is_no_address_is_an_error(host: str) -> None:
    with pytest.raises(ModelFailure, match="not an address"):
        base_url(host)


class TestServer:
    pytestmark = network

    @pytest.mark.parametrize(
        ("asked", "found"),
        [
            ("llama3.2", OllamaModel("llama3.2:latest", "d1")),
            ("llama3.2:latest", OllamaModel("llama3.2:latest", "d1")),
            ("llama3.1:8b", OllamaModel("llama3.1:8b", "d2")),
            ("registry:5000/team/judge", OllamaModel("registry:5000/team/judge:latest", "d3")),
            ("llama3.1", None),
            ("llama3", None),
        ],
    )
    def test_names_match_with_or_without_latest(self, server: str, asked: str, found: OllamaModel | None) -> None:
        assert find_ollama(server, asked) == found

    def test_nobody_there_is_none(self) -> None:
        assert find_ollama(NOBODY, "llama3.2") is None

    @pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"models": [{}]}', b'{"models": null}'])
    def test_something_else_there_is_none(self, body: bytes) -> None:
        with serving(lambda handler: send(handler, 200, body)) as address:
            assert find_ollama(address, "llama3.2") is None
            with pytest.raises(ModelFailure, match="something other"):
                require_ollama(address, "llama3.2")

    def test_a_missing_model_says_how_to_get_it_and_what_is_there(self, server: str) -> None:
        with pytest.raises(ModelFailure, match=r"`ollama pull qwen3`.*llama3\.2:latest, llama3\.1:8b"):
            require_ollama(server, "qwen3")

    def test_a_missing_server_says_how_to_start_it(self) -> None:
        with pytest.raises(ModelFailure, match=r"127\.0\.0\.1:1.*ollama serve"):
            require_ollama(NOBODY, "qwen3")

    def test_auto_takes_the_server_that_has_the_model(self, server: str, tmp_path: Path) -> None:
        chosen = choose("auto", tmp_path, ollama_hosts=server, ollama_model="llama3.2")
        assert (chosen.name, chosen.sha256) == ("ollama:llama3.2", "d1")
        assert chosen.clip("x" * 900, 100)[1] > 0

    def test_a_named_model_with_a_tag_is_asked_for(self, server: str, tmp_path: Path) -> None:
        assert choose("ollama:llama3.1:8b", tmp_path, ollama_hosts=server).name == "ollama:llama3.1:8b"
        with pytest.raises(ModelFailure, match="ollama pull absent"):
            choose("ollama:absent", tmp_path, ollama_hosts=server)

    def test_auto_is_embedded_when_the_server_lacks_the_model(self, server: str, tmp_path: Path) -> None:
        with pytest.raises(ModelFailure, match=r"qwen2\.5-coder-0\.5b.*offline"):
            choose("auto", tmp_path, ollama_hosts=server, ollama_model="absent")

    def test_verdict_calls_ask_for_log_probabilities(self) -> None:
        asked: list[dict[str, Any]] = []
        logprobs = [{"token": "A", "logprob": -0.5, "top_logprobs": [{"token": "A", "logprob": -0.5}]}]

        def answer(handler: BaseHTTPRequestHandler) -> None:
            asked.append(json.loads(handler.rfile.read(int(handler.headers["Content-Length"]))))
            message = {"role": "assistant", "content": "A"}
            reply = {"model": "m", "message": message, "done": True, "done_reason": "stop", "logprobs": logprobs}
            send(handler, 200, json.dumps(reply).encode() + b"\n", Content_Type="application/x-ndjson")

        with serving(answer) as address:
            chat = chat_ollama(address, "m", context_tokens=2048, timeout=5)
            message = chat.invoke("judge")
        (request,) = asked
        # Ollama's client gives objects that are read like the dictionaries of the embedded model.
        (entry,) = message.response_metadata["logprobs"]
        assert (entry["token"], entry["logprob"], entry["top_logprobs"][0]["token"]) == ("A", -0.5, "A")
        assert (request["logprobs"], request["top_logprobs"], request["keep_alive"]) == (True, 20, "10m")
        assert request["options"]["num_ctx"] == 2048
        assert (request["options"]["temperature"], request["options"]["seed"]) == (0, 0)


def choose(spec: str, cache: Path, **settings: Any) -> ChatBackend:
    defaults: dict[str, Any] = {
        "offline": True,
        "ollama_hosts": NOBODY,
        "ollama_model": "precedent",
        "context_tokens": 512,
        "threads": None,
        "queue_size": 4,
        "timeout": 5.0,
    }
    return choose_model(spec, cache=cache, **(defaults | settings))


def test_none_is_switched_off(tmp_path: Path) -> None:
    with pytest.raises(ModelFailure, match="switched off"):
        choose("none", tmp_path)


def test_an_embedding_model_gives_no_verdict(tmp_path: Path) -> None:
    with pytest.raises(ModelFailure, match="embedding model"):
        choose("embedded:all-MiniLM-L6-v2", tmp_path)


@pytest.mark.parametrize("by", [lambda path: str(path), lambda path: f"embedded:{path}"], ids=["path", "prefix"])
def test_a_path_is_embedded(tmp_path: Path, smollm: ResolvedModel, by: Callable[[Path], str]) -> None:
    chosen = choose(by(smollm.path), tmp_path)
    assert isinstance(chosen, LlamaCppBackend)
    assert (chosen.name, chosen.sha256) == (f"embedded:{smollm.path.name}", smollm.sha256)
    assert chosen.chat.context_tokens == 512
    assert chosen.clip("word " * 500, 50)[1] > 400
    chosen.close()
    with pytest.raises(ModelFailure, match="closed"):
        chosen.chat.invoke("x")
