"""The language model that the settings name."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from llm.base import ChatBackend
from llm.errors import ModelFailure
from llm.openai.address import PREFIX, parse_spec
from llm.weights.catalog import catalog, default_model

_CONNECT_SECONDS = 0.5


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
    openai_api_key: str | None = None,
    gpu_layers: int | None = None,
) -> ChatBackend:
    """Return the language model that the settings ask for.

    Parameters
    ----------
    spec : str
        ``auto``, ``embedded:NAME``, ``ollama:NAME``, ``openai:NAME@URL``, ``none``, or the path of a .gguf file.
        ``auto`` is Ollama if a server answers and has ``ollama_model``, else the embedded default.
    cache : Path
        The folder for downloaded models.
    offline : bool
        Download nothing.
    ollama_hosts : str
        Addresses of Ollama servers, separated by commas.
    ollama_model : str
        The model that ``auto`` looks for.
    context_tokens : int
        Tokens of prompt and reply together.
    threads : int or None
        Processor cores to use; None: all that are available (embedded), or the server's choice.
    queue_size : int
        Calls that may wait for the embedded engine.
    timeout : float
        Seconds that a call waits for a place in that queue, or for a reply of a server.
    openai_api_key : str or None
        The key of the server of ``openai:NAME@URL``.
    gpu_layers : int or None
        Layers of the embedded model on a GPU; None: all where llama.cpp was built for one.

    Raises
    ------
    ModelFailure
        The model is missing or is not a language model, or ``spec`` is ``none``.
    """
    if spec == "none":
        raise ModelFailure("the language model is switched off (model = none)")
    if spec.startswith(PREFIX):
        return _openai(spec, openai_api_key, context_tokens, timeout)
    from llm.ollama.urls import parse_hosts

    hosts = parse_hosts(ollama_hosts)
    kind, _, name = spec.partition(":")
    if spec == "auto":
        from llm.ollama.client import find_ollama

        is_served = any(find_ollama(host, ollama_model) for host in hosts)
        kind, name = ("ollama", ollama_model) if is_served else ("embedded", default_model())
    # The other engine is not imported: that takes longer than a verdict.
    if kind == "ollama":
        from llm.ollama.backend import OllamaBackend

        return OllamaBackend.connect(hosts, name, context_tokens=context_tokens, timeout=timeout, threads=threads)
    options = {
        "context_tokens": context_tokens,
        "threads": threads,
        "queue_size": queue_size,
        "queue_timeout": timeout,
        "gpu_layers": gpu_layers,
    }
    return _embedded(name if kind == "embedded" else spec, cache, offline, options)


def _openai(spec: str, key: str | None, context_tokens: int, timeout: float) -> ChatBackend:
    try:
        model = parse_spec(spec)
    except ValueError as error:
        raise ModelFailure(str(error)) from error
    if find_spec("langchain_openai") is None:
        raise ModelFailure(
            f"{model.spec} needs the package langchain-openai",
            "pip install 'precedent-agent[openai]' (in a clone: make extras)",
        )
    from llm.openai.backend import OpenAIBackend

    return OpenAIBackend.connect(model, key, context_tokens=context_tokens, timeout=timeout)


def _embedded(name: str, cache: Path, offline: bool, options: Mapping[str, Any]) -> ChatBackend:
    from llm.llamacpp.backend import LlamaCppBackend
    from llm.llamacpp.chat_model import EmbeddedChatModel
    from llm.llamacpp.trial import try_out

    entry = catalog().get(name)
    if entry is not None and entry.kind != "language":
        raise ModelFailure(f"{name!r} is an {entry.kind} model, it cannot give a verdict")
    # imported late: it imports an HTTP client, which takes longer than telling which model is meant
    from llm.weights.resolver import resolve

    resolved = resolve(name, cache=cache, offline=offline)
    if resolved.path.is_dir():
        raise ModelFailure(f"{resolved.path} is a folder: the embedded engine needs a .gguf file")
    try_out(resolved.path, resolved.sha256, cache)
    return LlamaCppBackend(
        EmbeddedChatModel(model_path=resolved.path, model_sha256=resolved.sha256, model=resolved.name, **options)
    )


def identity(spec: str, ollama_hosts: str) -> tuple[str, str | None] | None:
    """Return name and SHA-256 of the model that `choose_model` returns for ``spec``, without loading it.

    None where only choosing it tells: for a path, for Ollama, and for ``auto`` while a server listens.
    """
    if spec == "none":
        return "none", None
    if spec.startswith(PREFIX):
        with suppress(ValueError):
            return parse_spec(spec).spec, None
        return None
    kind, _, name = spec.partition(":")
    if spec == "auto" and not _any_listens(ollama_hosts):
        kind, name = "embedded", default_model()
    entry = catalog().get(name) if kind == "embedded" else None
    return (f"embedded:{name}", entry.weights.sha256) if entry else None


def _any_listens(addresses: str) -> bool:
    """Whether a server accepts connections at one of the addresses; True for an invalid one (choosing reports it)."""
    import httpx

    from llm.ollama.urls import base_url, parse_hosts

    try:
        urls = [httpx.URL(base_url(host)) for host in parse_hosts(addresses)]
    except ModelFailure:
        return True
    return any(_listens(url.host, url.port or (443 if url.scheme == "https" else 80)) for url in urls)


def _listens(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), _CONNECT_SECONDS):
            return True
    except OSError:
        return False
