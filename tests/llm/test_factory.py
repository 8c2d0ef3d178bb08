"""Which model the settings name, and its identity without loading it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llm.base import ChatBackend
from llm.errors import ModelFailure
from llm.factory import choose_model, identity
from llm.llamacpp.backend import LlamaCppBackend
from llm.weights.catalog import catalog, default_model
from llm.weights.resolver import ResolvedModel

from .loopback import NOBODY

pytestmark = [pytest.mark.network, pytest.mark.enable_socket]
EMBEDDED = f"embedded:{default_model()}", catalog()[default_model()].weights.sha256


@pytest.fixture
def port() -> Iterator[int]:
    """One on which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def test_a_named_model_is_known_wherever_servers_are(port: int) -> None:
    address = f"127.0.0.1:{port}"
    assert identity("none", address) == ("none", None)
    assert identity(f"embedded:{default_model()}", address) == EMBEDDED
    assert identity("embedded:nothing-like-it", address) is None
    assert identity("/a/path.gguf", address) is None


def test_without_a_server_it_is_the_embedded_one(port: int) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = free.getsockname()[1]
        assert identity("auto", f"127.0.0.1:{nobody},http://127.0.0.1:{nobody}/") == EMBEDDED


@pytest.mark.parametrize("address", ["127.0.0.1:{}", "http://127.0.0.1:{}/", ":{}", "0.0.0.0:{}", "127.0.0.1:1, :{}"])
def test_where_a_server_listens_the_identity_is_unknown(port: int, address: str) -> None:
    assert identity("auto", address.format(port)) is None


def test_an_invalid_address_is_reported_by_choosing() -> None:
    assert identity("auto", "127.0.0.1:not-a-port") is None


def test_auto_takes_the_server_that_has_the_model(server: str, tmp_path: Path) -> None:
    chosen = choose("auto", tmp_path, ollama_hosts=server, ollama_model="llama3.2")
    assert (chosen.name, chosen.sha256) == ("ollama:llama3.2", "d1")
    assert chosen.clip("x" * 900, 100)[1] > 0


def test_a_named_model_with_a_tag_is_requested(server: str, tmp_path: Path) -> None:
    assert choose("ollama:llama3.1:8b", tmp_path, ollama_hosts=server).name == "ollama:llama3.1:8b"
    with pytest.raises(ModelFailure, match="no model 'absent'") as failure:
        choose("ollama:absent", tmp_path, ollama_hosts=server)
    assert failure.value.hint == "`ollama pull absent` fetches it"


def test_auto_is_embedded_when_the_server_lacks_the_model(server: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFailure, match=r"qwen2\.5-coder-0\.5b.*offline"):
        choose("auto", tmp_path, ollama_hosts=server, ollama_model="absent")


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
