"""Which model would answer, said without loading anything, where that can be."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from llm.catalog import catalog, default_model

_PATIENCE = 0.5
_OLLAMA_PORT = 11_434


def identity(spec: str, ollama_hosts: str) -> tuple[str, str | None] | None:
    """Name and SHA-256 of what `llm.choose.choose_model` makes of ``spec``; None where only choosing it tells.

    That is so for a path, and wherever an Ollama server listens that may have the model.
    """
    if spec == "none":
        return "none", None
    way, _, name = spec.partition(":")
    if spec == "auto" and not any(map(_listens, ollama_hosts.split(","))):
        way, name = "embedded", default_model()
    entry = catalog().get(name) if way == "embedded" else None
    return (f"embedded:{name}", entry.weights.sha256) if entry else None


def _listens(host: str) -> bool:
    host = host.strip()
    address = urlsplit(host if "://" in host else f"//{host}")
    try:
        with socket.create_connection((address.hostname or "127.0.0.1", address.port or _OLLAMA_PORT), _PATIENCE):
            return True
    except (OSError, ValueError):
        return False
