"""Requests to an Ollama server: which models it has, and a chat model that is set for verdicts."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import httpx
from langchain_ollama import ChatOllama

from llm.base import TOP_LOGPROBS
from llm.errors import ModelFailure
from llm.http_deadline import hooks
from llm.ollama.errors import mapped
from llm.ollama.urls import base_url

KEEP_ALIVE = "10m"
CONNECT_SECONDS = 3.0
_PROBE_SECONDS, _ANSWER_SECONDS = 0.5, 5.0
# in the Modelfile that a server shows, the adapter is a file named by its hash
_ADAPTER = re.compile(r"^ADAPTER .*sha256-([0-9a-f]{64})", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class OllamaModel:
    """A model on a server: its full name with tag, the digest of its manifest, and the context it was trained for.

    ``adapter_sha256`` is that of the adapter (LoRA) that is part of it.
    """

    name: str
    digest: str
    context_tokens: int | None = None
    adapter_sha256: str | None = None


def find_ollama(host: str, model: str) -> OllamaModel | None:
    """Return ``model`` as the server has it; None if it has not, or no Ollama answers within half a second."""
    url = base_url(host)
    try:
        return _named(model, _installed(url, _PROBE_SECONDS))
    except ModelFailure:
        return None


def require_ollama(host: str, model: str, timeout: float = _ANSWER_SECONDS) -> OllamaModel:
    """Return ``model`` as the server has it. Raises ModelFailure, whose hint says what to do."""
    url = base_url(host)
    installed = _installed(url, timeout)
    found = _named(model, installed)
    if found is None:
        names = ", ".join(other.name for other in installed) or "none"
        raise ModelFailure(f"{no_such_model(url, model)}; installed models: {names}", _how_to_get(model))
    return found


def no_such_model(url: str, model: str) -> str:
    """Return the message that the server does not have the model."""
    return f"Ollama at {url} has no model {model.removesuffix(':latest')!r}"


def _how_to_get(model: str) -> str:
    """Return the command that installs the model."""
    name = model.removesuffix(":latest")
    if name.startswith("precedent"):
        return f"`precedent ollama create --name {name}` creates it (--from llama3.2: from a model that Ollama has)"
    return f"`ollama pull {name}` fetches it"


def without_examples(host: str, model: OllamaModel) -> OllamaModel:
    """Return ``model``, or the model that it was made from, with its context.

    A model made for `ollama run` has MESSAGE examples, which Ollama puts before every conversation, even before a
    system message. The model that it was made from has the same weights and no examples.
    """
    url = base_url(host)
    shown = _shown(url, model.name)
    if shown.get("messages"):
        parent = _named(shown.get("details", {}).get("parent_model", ""), _installed(url, _ANSWER_SECONDS))
        if parent is not None:
            model, shown = parent, _shown(url, parent.name)
    info = shown.get("model_info") or {}
    context = next((value for key, value in info.items() if key.endswith(".context_length")), None)
    adapter = _ADAPTER.search(str(shown.get("modelfile", "")))
    return replace(model, context_tokens=context, adapter_sha256=adapter[1] if adapter else None)


@dataclass(frozen=True, slots=True)
class ModelTraits:
    """How many parameters a model has (None: the server does not tell), and whether its template calls tools."""

    parameters: int | None
    calls_tools: bool


def traits_of(host: str, model: str) -> ModelTraits:
    """Return what a server knows of a model. Raises ModelFailure."""
    shown = _shown(base_url(host), model)
    parameters = (shown.get("model_info") or {}).get("general.parameter_count")
    return ModelTraits(
        parameters if isinstance(parameters, int) else None, "tools" in (shown.get("capabilities") or ())
    )


def chat_ollama(host: str, name: str, *, context_tokens: int, timeout: float, threads: int | None = None) -> ChatOllama:
    """Return a chat model for verdicts: greedy, seeded, with log-probabilities.

    ``context_tokens`` are those of prompt and reply together, ``timeout`` is in seconds, ``threads`` are cores of the
    server (None: its own choice).
    """
    return ChatOllama(
        base_url=base_url(host),
        model=name,
        temperature=0.0,
        seed=0,
        num_ctx=context_tokens,
        num_thread=threads,
        keep_alive=KEEP_ALIVE,
        logprobs=True,
        top_logprobs=TOP_LOGPROBS,
        client_kwargs={
            "timeout": httpx.Timeout(timeout, connect=min(timeout, CONNECT_SECONDS)),
            # redirects would send records to a server that no setting names
            "follow_redirects": False,
        },
        sync_client_kwargs={"event_hooks": hooks()},
    )


def _shown(url: str, name: str) -> dict[str, Any]:
    with mapped(f"Ollama at {url} does not describe {name}"):
        reply = httpx.post(f"{url}/api/show", json={"model": name}, timeout=_ANSWER_SECONDS)
        shown = reply.raise_for_status().json()
    return shown if isinstance(shown, dict) else {}


def _installed(url: str, timeout: float) -> list[OllamaModel]:
    with mapped(f"no Ollama server at {url}", "`ollama serve` starts it"):
        reply = httpx.get(f"{url}/api/tags", timeout=timeout).raise_for_status()
        try:
            return [OllamaModel(entry["name"], entry["digest"]) for entry in reply.json()["models"]]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError("something other than Ollama answered") from error


def _named(model: str, installed: list[OllamaModel]) -> OllamaModel | None:
    # A registry's port has a colon too: only the last part of the name can have a tag.
    full = model if ":" in model.rpartition("/")[2] else f"{model}:latest"
    return next((other for other in installed if other.name == full), None)
