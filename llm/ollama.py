"""A real Ollama server: is it there, does it have the model, and how it is asked for verdicts."""

from __future__ import annotations

from dataclasses import dataclass

import httpx
from langchain_ollama import ChatOllama

from llm.failures import ModelFailure

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 11434
KEEP_ALIVE = "10m"
TOP_LOGPROBS = 20


@dataclass(frozen=True, slots=True)
class OllamaModel:
    """A model on a server: its full name with tag, and the digest of its manifest."""

    name: str
    digest: str


def base_url(host: str) -> str:
    """What OLLAMA_HOST may hold (`host`, `host:port`, `:port`, `[v6]:port`, a URL) as a URL without a final slash.

    Without a scheme the port defaults to Ollama's; with one, to that scheme's, as Ollama's own client has it. A server
    that listens on all addresses (`0.0.0.0`) is asked on the loopback. Raises ModelFailure for what is no address.
    """
    host = host.strip().rstrip("/")
    bare = "://" not in host
    if bare and host.startswith(":") and not host.startswith("::"):
        host = DEFAULT_HOST + host
    try:
        url = httpx.URL(f"http://{host or DEFAULT_HOST}" if bare else host)
        port = url.port or (DEFAULT_PORT if bare else None)
        url = url.copy_with(port=port, host=DEFAULT_HOST if url.host in ("", "0.0.0.0") else url.host)
    except httpx.InvalidURL as error:
        raise ModelFailure(f"{host!r} is no address of an Ollama server: {error}") from error
    return str(url).rstrip("/")


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
        raise ModelFailure(
            f"Ollama at {url} has no model {model!r}: `ollama pull {model}` fetches it; models there: {names}"
        )
    return found


def chat_ollama(host: str, name: str, *, context_tokens: int, timeout: float) -> ChatOllama:
    """A chat model on the server, set for verdicts: greedy, seeded, with log-probabilities; ``timeout`` in seconds."""
    return ChatOllama(
        base_url=base_url(host),
        model=name,
        temperature=0.0,
        seed=0,
        num_ctx=context_tokens,
        keep_alive=KEEP_ALIVE,
        logprobs=True,
        top_logprobs=TOP_LOGPROBS,
        client_kwargs={"timeout": timeout},
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
