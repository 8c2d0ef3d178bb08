"""Which model would answer: known without loading it, unless a server may have it."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from llm.factory import identity
from llm.weights.catalog import catalog, default_model

pytestmark = [pytest.mark.network, pytest.mark.enable_socket]
EMBEDDED = f"embedded:{default_model()}", catalog()[default_model()].weights.sha256


@pytest.fixture
def port() -> Iterator[int]:
    """One on which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def test_a_named_model_is_known_wherever_servers_are(port: int) -> None:
    there = f"127.0.0.1:{port}"
    assert identity("none", there) == ("none", None)
    assert identity(f"embedded:{default_model()}", there) == EMBEDDED
    assert identity("embedded:nothing-like-it", there) is None
    assert identity("/a/path.gguf", there) is None


def test_without_a_server_it_is_the_embedded_one(port: int) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = free.getsockname()[1]
        assert identity("auto", f"127.0.0.1:{nobody},http://127.0.0.1:{nobody}/") == EMBEDDED


@pytest.mark.parametrize("address", ["127.0.0.1:{}", "http://127.0.0.1:{}/", ":{}", "0.0.0.0:{}", "127.0.0.1:1, :{}"])
def test_where_a_server_listens_only_choosing_tells(port: int, address: str) -> None:
    assert identity("auto", address.format(port)) is None


def test_what_is_no_address_is_said_by_choosing() -> None:
    assert identity("auto", "127.0.0.1:not-a-port") is None
