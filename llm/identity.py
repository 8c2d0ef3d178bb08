"""Which model would answer, said without loading anything, where that can be."""

from __future__ import annotations

import socket

from llm.catalog import catalog, default_model
from llm.failures import ModelFailure

_PATIENCE = 0.5


def identity(spec: str, ollama_hosts: str) -> tuple[str, str | None] | None:
    """Name and SHA-256 of what `llm.choose.choose_model` makes of ``spec``; None where only choosing it tells.

    That is so for a path, and wherever an Ollama server listens that may have the model.
    """
    if spec == "none":
        return "none", None
    way, _, name = spec.partition(":")
    if spec == "auto" and not _any_listens(ollama_hosts):
        way, name = "embedded", default_model()
    entry = catalog().get(name) if way == "embedded" else None
    return (f"embedded:{name}", entry.weights.sha256) if entry else None


def _any_listens(addresses: str) -> bool:
    """Whether a server is at one of them; True where one is no address, which choosing a model says."""
    # whoever named a model need not wait for its import
    import httpx

    from llm.addresses import base_url, hosts

    try:
        urls = [httpx.URL(base_url(host)) for host in hosts(addresses)]
    except ModelFailure:
        return True
    return any(_listens(url.host, url.port or (443 if url.scheme == "https" else 80)) for url in urls)


def _listens(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), _PATIENCE):
            return True
    except OSError:
        return False
