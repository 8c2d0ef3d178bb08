"""Which language model answers: one setting, one place that reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import ollama
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable
from langchain_ollama import ChatOllama

from llm.catalog import catalog, default_model
from llm.clipping import clip_by_estimate
from llm.embedded import EmbeddedChatModel
from llm.failures import ModelFailure
from llm.ollama import TOP_LOGPROBS, OllamaModel, chat_ollama, find_ollama, require_ollama
from llm.resolver import resolve


@dataclass(frozen=True, slots=True)
class ChosenModel:
    """A chat model, and what a verdict's provenance says of it.

    ``clip(text, max_tokens)`` shortens a text and tells how many tokens were dropped: exact for an embedded
    model, by a careful estimate for Ollama. ``limited(n)`` is the model that stops after n tokens. ``sha256`` is
    that of the weights, or Ollama's digest.
    """

    chat: BaseChatModel
    name: str
    sha256: str | None
    clip: Callable[[str, int], tuple[str, int]]
    close: Callable[[], None]
    limited: Callable[[int], Runnable[Any, BaseMessage]]

    def first_token(self, messages: Sequence[BaseMessage]) -> Mapping[str, Any]:
        """The response's metadata after one token, its ``logprobs`` among it. Raises ModelFailure, EngineBusy."""
        with _failures(self.name):
            return self.limited(1).invoke(list(messages), logprobs=True, top_logprobs=TOP_LOGPROBS).response_metadata

    def stream(self, messages: Sequence[BaseMessage], max_tokens: int) -> Iterator[str]:
        """Pieces of the answer's text; closing the iterator stops the model. Raises ModelFailure, EngineBusy."""
        with _failures(self.name):
            for chunk in self.limited(max_tokens).stream(list(messages)):
                yield str(chunk.content)


def choose_model(
    spec: str,
    *,
    cache: Path,
    offline: bool,
    ollama_host: str,
    ollama_model: str,
    context_tokens: int,
    threads: int | None,
    queue_size: int,
    timeout: float,
) -> ChosenModel:
    """The model that ``spec`` asks for: `auto`, `embedded:NAME`, `ollama:NAME`, `none`, or a path to a .gguf.

    `auto` is the Ollama server if it answers and has ``ollama_model``, else the embedded default. ``timeout`` is the
    longest wait in seconds for a place in the embedded engine's queue, or for an answer of Ollama. Raises
    ModelFailure when the model cannot be had, when it is no language model, and for `none`.
    """

    def embedded(name: str) -> ChosenModel:
        entry = catalog().get(name)
        if entry is not None and entry.kind != "language":
            raise ModelFailure(f"{name!r} is an {entry.kind} model, it cannot give a verdict")
        found = resolve(name, cache=cache, offline=offline)
        if found.path.is_dir():
            raise ModelFailure(f"{found.path} is a folder: the embedded engine needs a .gguf file")
        chat = EmbeddedChatModel(
            model_path=found.path,
            model_sha256=found.sha256,
            model=found.name,
            context_tokens=context_tokens,
            threads=threads,
            queue_size=queue_size,
            queue_timeout=timeout,
        )
        return ChosenModel(
            chat,
            f"embedded:{found.name}",
            found.sha256,
            chat.clip,
            chat.close,
            lambda tokens: chat.bind(max_tokens=tokens),
        )

    def served(model: OllamaModel) -> ChosenModel:
        chat = chat_ollama(ollama_host, model.name, context_tokens=context_tokens, timeout=timeout)
        name = model.name.removesuffix(":latest")

        def limited(tokens: int) -> ChatOllama:
            # an option of the call would replace all others, the context's size among them
            return chat.model_copy(update={"num_predict": tokens})

        return ChosenModel(chat, f"ollama:{name}", model.digest, clip_by_estimate, _nothing_to_close, limited)

    way, _, name = spec.partition(":")
    if spec == "none":
        raise ModelFailure("the language model is switched off (model = none)")
    if spec == "auto":
        found = find_ollama(ollama_host, ollama_model)
        return embedded(default_model()) if found is None else served(found)
    if way == "ollama":
        return served(require_ollama(ollama_host, name))
    return embedded(name if way == "embedded" else spec)


@contextmanager
def _failures(name: str) -> Iterator[None]:
    try:
        yield
    except (httpx.HTTPError, ollama.ResponseError, ConnectionError) as error:
        raise ModelFailure(f"{name} did not answer: {error}") from error


def _nothing_to_close() -> None:
    """The server keeps its model by its own clock."""
