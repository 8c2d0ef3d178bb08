"""Which language model answers: one setting, one place that reads it."""

from __future__ import annotations

from pathlib import Path

from llm.addresses import hosts
from llm.catalog import catalog, default_model
from llm.chosen import ChosenModel
from llm.failures import ModelFailure
from llm.resolver import resolve


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
) -> ChosenModel:
    """The model that ``spec`` asks for: `auto`, `embedded:NAME`, `ollama:NAME`, `none`, or a path to a .gguf.

    `auto` is Ollama if a server answers and has ``ollama_model``, else the embedded default. ``timeout`` is the
    longest wait in seconds for a place in the embedded engine's queue, or for an answer of Ollama. Raises
    ModelFailure when the model cannot be had, when it is no language model, and for `none`.
    """

    # what is not chosen is not imported: that takes longer than a verdict
    def embedded(name: str) -> ChosenModel:
        from llm.embedded import EmbeddedChatModel
        from llm.in_process import EmbeddedModel

        entry = catalog().get(name)
        if entry is not None and entry.kind != "language":
            raise ModelFailure(f"{name!r} is an {entry.kind} model, it cannot give a verdict")
        found = resolve(name, cache=cache, offline=offline)
        if found.path.is_dir():
            raise ModelFailure(f"{found.path} is a folder: the embedded engine needs a .gguf file")
        return EmbeddedModel(
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

    def served(name: str) -> ChosenModel:
        from llm.served import ServedModel

        return ServedModel.connect(
            hosts(ollama_hosts), name, context_tokens=context_tokens, timeout=timeout, threads=threads
        )

    way, _, name = spec.partition(":")
    if spec == "none":
        raise ModelFailure("the language model is switched off (model = none)")
    if spec == "auto":
        from llm.ollama import find_ollama

        there = any(find_ollama(host, ollama_model) for host in hosts(ollama_hosts))
        return served(ollama_model) if there else embedded(default_model())
    if way == "ollama":
        return served(name)
    return embedded(name if way == "embedded" else spec)
