from __future__ import annotations

import pytest

from llm.errors import ModelFailure
from llm.ollama.urls import base_url


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
