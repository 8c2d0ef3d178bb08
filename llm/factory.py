"""Choosing a language model by the settings."""

from __future__ import annotations

import socket
from pathlib import Path

from llm.base import ChatBackend
from llm.errors import ModelFailure
from llm.ollama.urls import parse_hosts
from llm.weights.catalog import catalog, default_model
from llm.weights.resolver import resolve


def choose_model(
    spec: str,
    *,
    cache: Path,
    offline: bool,
    ollama_hosts: str,
    ollama_model: str,
    context_tokens: int,
    threads: int | None,
    queue_size: int,
    timeout: float,
) -> ChatBackend:
    """The model that ``spec`` asks for: `auto`, `embedded:NAME`, `ollama:NAME`, `none`, or a path to a .gguf.

    `auto` is Ollama if a server answers and has ``ollama_model``, else the embedded default. ``timeout`` is the
    longest wait in seconds for a place in the embedded engine's queue, or for an answer of Ollama. Raises
    ModelFailure when the model cannot be had, when it is no language model, and for `none`.
    """

    # what is not chosen is not imported: that takes longer than a verdict
    def embedded(name: str) -> ChatBackend:
        from llm.llamacpp.backend import LlamaCppBackend
        from llm.llamacpp.chat_model import EmbeddedChatModel

        entry = catalog().get(name)
        if entry is not None and entry.kind != "language":
            raise ModelFailure(f"{name!r} is an {entry.kind} model, it cannot give a verdict")
        found = resolve(name, cache=cache, offline=offline)
        if found.path.is_dir():
            raise ModelFailure(f"{found.path} is a folder: the embedded engine needs a .gguf file")
        return LlamaCppBackend(
            EmbeddedChatModel(
                model_path=found.path,
                model_sha256=found.sha256,
                model=found.name,
                context_tokens=context_tokens,
                threads=threads,
                queue_size=queue_size,
                queue_timeout=timeout,
            )
        )

    def served(name: str) -> ChatBackend:
        from llm.ollama.backend import OllamaBackend

        return OllamaBackend.connect(
            parse_hosts(ollama_hosts), name, context_tokens=context_tokens, timeout=timeout, threads=threads
        )

    way, _, name = spec.partition(":")
    if spec == "none":
        raise ModelFailure("the language model is switched off (model = none)")
    if spec == "auto":
        from llm.ollama.client import find_ollama

        there = any(find_ollama(host, ollama_model) for host in parse_hosts(ollama_hosts))
        return served(ollama_model) if there else embedded(default_model())
    if way == "ollama":
        return served(name)
    return embedded(name if way == "embedded" else spec)


_PATIENCE = 0.5


def identity(spec: str, ollama_hosts: str) -> tuple[str, str | None] | None:
    """Name and SHA-256 of what `llm.factory.choose_model` makes of ``spec``; None where only choosing it tells.

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

    from llm.ollama.urls import base_url, parse_hosts

    try:
        urls = [httpx.URL(base_url(host)) for host in parse_hosts(addresses)]
    except ModelFailure:
        return True
    return any(_listens(url.host, url.port or (443 if url.scheme == "https" else 80)) for url in urls)


def _listens(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), _PATIENCE):
            return True
    except OSError:
        return False
