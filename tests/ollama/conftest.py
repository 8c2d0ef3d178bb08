"""A real Ollama server with the real models: SmolLM2 for plumbing, the 0.5B where the verdict matters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.core.settings import Settings, settings
from agent.pipeline.context import AppContext
from agent.training.ollama_export import compose, of_gguf
from benchmarks.private_ollama import PrivateOllama, binary
from llm.weights.resolver import resolve
from tests.conftest import make_settings, missing

BRIEF = "A queue of jobs. Normal: jobs queued, started, done. Anomalous: jobs that fail, crash or lose data."


def gguf(name: str) -> Path:
    return resolve(name, cache=settings().cache, offline=True).path


@pytest.fixture(scope="session")
def ollama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where servers of these tests keep their models: any of them, at any time, serves the same ones."""
    if binary() is None:
        missing("ollama", "no Ollama: set OLLAMA_BIN, put it on PATH, or run .ci/ollama, which builds one")
    folder = tmp_path_factory.mktemp("ollama")
    with PrivateOllama(folder) as server:
        for name in ("smollm2-135m", "qwen2.5-coder-0.5b"):
            path = gguf(name)
            compose(None, None, str(path), of_gguf(path)).create(server.host, name.partition("-")[0])
    return folder


@pytest.fixture(scope="session")
def server(ollama_folder: Path) -> Iterator[PrivateOllama]:
    """One that lives as long as the tests; whoever wants to kill one takes `mortal`."""
    with PrivateOllama(ollama_folder) as made:
        yield made


@pytest.fixture
def mortal(ollama_folder: Path) -> Iterator[PrivateOllama]:
    with PrivateOllama(ollama_folder) as made:
        yield made


@pytest.fixture
def parts_on(tmp_path: Path) -> Iterator[Callable[..., AppContext]]:
    """Parts that ask Ollama, with a source `jobs` that has a brief and no cases, so that the model is always asked."""
    made: list[AppContext] = []

    def make(hosts: str, model: str = "ollama:smollm2", **values: object) -> AppContext:
        chosen: Settings = make_settings(
            tmp_path / f"home{len(made)}", **{"model": model, "ollama_hosts": hosts, "request_timeout": 60, **values}
        )
        context = AppContext(chosen)
        context.casebook.create("jobs")
        context.casebook.set("jobs", brief=BRIEF, brief_by="person")
        made.append(context)
        return context

    yield make
    for context in made:
        context.close()
