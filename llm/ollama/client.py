"""A real Ollama server: is it there, does it have the model, and how it is asked for verdicts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import httpx
from langchain_ollama import ChatOllama

from llm.base import TOP_LOGPROBS
from llm.errors import ModelFailure
from llm.ollama.urls import base_url

KEEP_ALIVE = "10m"
CONNECT_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class OllamaModel:
    """A model on a server: its full name with tag, the digest of its manifest, and the context it was trained for."""

    name: str
    digest: str
    context_tokens: int | None = None


def find_ollama(host: str, model: str, timeout: float = 0.5) -> OllamaModel | None:
    """``model`` on the server at ``host``; None if no Ollama answers in ``timeout`` seconds or has no such model."""
    there = _installed(base_url(host), timeout)
    return None if isinstance(there, str) else _named(model, there)


def require_ollama(host: str, model: str, timeout: float = 5.0) -> OllamaModel:
    """``model`` on the server at ``host``; raises ModelFailure that says what is missing and what to do."""
    url = base_url(host)
    there = _installed(url, timeout)
    if isinstance(there, str):
        raise ModelFailure(f"no Ollama server at {url}: {there}. Start it with `ollama serve`")
    found = _named(model, there)
    if found is None:
        names = ", ".join(other.name for other in there) or "none"
        raise ModelFailure(f"{how_to_get(url, model)}; models there: {names}")
    return found


def how_to_get(url: str, model: str) -> str:
    """That a server has no such model, and the command that brings it there."""
    name = model.removesuffix(":latest")
    if name.startswith("precedent"):
        way = f"`precedent ollama create --name {name}` makes one (--from llama3.2: of a model that Ollama has)"
    else:
        way = f"`ollama pull {name}` fetches it"
    return f"Ollama at {url} has no model {name!r}: {way}"


def without_examples(host: str, model: OllamaModel, timeout: float = 5.0) -> OllamaModel:
    """The model to ask for verdicts, its context known: ``model``, or the one it was made from.

    A model made for `ollama run` carries MESSAGE examples, which Ollama puts before every conversation: they would
    come before the chain's own system prompt. The model that it was made from has the same weights and none of them.
    """
    url = base_url(host)
    shown = _shown(url, model.name, timeout)
    if shown.get("messages"):
        there = _installed(url, timeout)
        parent = _named(shown.get("details", {}).get("parent_model", ""), [] if isinstance(there, str) else there)
        if parent is not None:
            model, shown = parent, _shown(url, parent.name, timeout)
    info = shown.get("model_info") or {}
    context = next((value for key, value in info.items() if key.endswith(".context_length")), None)
    return replace(model, context_tokens=context)


def _shown(url: str, name: str, timeout: float) -> dict[str, Any]:
    try:
        answer = httpx.post(f"{url}/api/show", json={"model": name}, timeout=timeout)
        answer.raise_for_status()
        shown = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise ModelFailure(f"Ollama at {url} does not say what {name} is: {error}") from error
    return shown if isinstance(shown, dict) else {}


def chat_ollama(host: str, name: str, *, context_tokens: int, timeout: float, threads: int | None = None) -> ChatOllama:
    """A chat model on the server, set for verdicts: greedy, seeded, with log-probabilities.

    ``timeout`` in seconds; ``threads`` None leaves it to the server, which takes its physical cores.
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
        client_kwargs={"timeout": httpx.Timeout(timeout, connect=min(timeout, CONNECT_SECONDS))},
    )


def _installed(url: str, timeout: float) -> list[OllamaModel] | str:
    """The server's models, or why it did not say."""
    try:
        answer = httpx.get(f"{url}/api/tags", timeout=timeout)
        answer.raise_for_status()
        return [OllamaModel(entry["name"], entry["digest"]) for entry in answer.json()["models"]]
    except httpx.HTTPError as error:
        return str(error) or type(error).__name__
    except (ValueError, KeyError, TypeError):
        return "something else than Ollama answered"


def _named(model: str, there: list[OllamaModel]) -> OllamaModel | None:
    # A registry's port has a colon too, so only the last part of the name can have a tag.
    full = model if ":" in model.rpartition("/")[2] else f"{model}:latest"
    return next((other for other in there if other.name == full), None)
