"""Ollama's Modelfile, as text and as a model on a server."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path

import httpx
import ollama

from llm.errors import ModelFailure
from llm.ollama.errors import mapped
from llm.ollama.urls import base_url
from llm.weights.checksum import BLOCK, sha256_of

# Takes what is being done, how much is done, and how much there is to do.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of chat template: what identifies it in a model's own, its form for Ollama, the texts that end a reply."""

    name: str
    marker: str
    template: str
    stop: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Modelfile:
    """The contents of a Modelfile.

    ``source`` is a model on the server, or the path of a .gguf file, which needs a ``family``; ``messages`` are the
    role and text of examples.
    """

    source: str
    system: str
    family: Family | None = None
    parameters: Mapping[str, float] = field(default_factory=dict)
    messages: tuple[tuple[str, str], ...] = ()

    def render(self, comment: str = "") -> str:
        """Return the text for `ollama create -f`, with ``comment`` at its top."""
        lines = [f"# {line}".rstrip() for line in comment.splitlines()] + [f"FROM {self.source}", ""]
        if self.family:
            lines += [f"TEMPLATE {_quoted(self.family.template)}", ""]
        lines += [f"SYSTEM {_quoted(self.system)}", ""]
        lines += [f"PARAMETER {name} {value:g}" for name, value in self.parameters.items()]
        lines += [f'PARAMETER stop "{stop}"' for stop in self._stop]
        lines += ["", *(f"MESSAGE {role} {_quoted(text)}" for role, text in self.messages)]
        return "\n".join(lines).rstrip() + "\n"

    def create(self, host: str, name: str, progress: Progress | None = None) -> None:
        """Create the model ``name`` on a server.

        From a .gguf file two models are created, which share the weights: `NAME:base` with the template alone, for
        verdicts, and ``name`` with SYSTEM and MESSAGE on top of it, for `ollama run`. Raises ModelFailure when the
        server is not running, refuses or breaks off.
        """
        url = base_url(host)
        client = ollama.Client(url)
        with mapped(f"Ollama at {url} did not create {name}", "`ollama serve` starts the server"):
            source = self.source
            if self.family:
                source = f"{name.partition(':')[0]}:base"
                uploaded = {Path(self.source).name: _upload(url, Path(self.source), progress)}
                stop = {"stop": list(self._stop)}
                client.create(source, files=uploaded, template=self.family.template, parameters=stop)
            client.create(
                name,
                from_=source,
                system=_plain(self.system),
                parameters={**self.parameters, **({"stop": list(self._stop)} if self._stop else {})},
                messages=[ollama.Message(role=role, content=_plain(text)) for role, text in self.messages],
            )

    @property
    def _stop(self) -> tuple[str, ...]:
        return self.family.stop if self.family else ()


@cache
def families() -> dict[str, Family]:
    """Return all known kinds of chat template, by name."""
    read = tomllib.loads(files("llm.ollama").joinpath("families.toml").read_text(encoding="utf-8"))
    return {name: Family(name, **{**entry, "stop": tuple(entry["stop"])}) for name, entry in read.items()}


def family_of(chat_template: str, name: str) -> Family:
    """Return the kind of a model's own (jinja) template. Raises ModelFailure, which mentions ``name``, if unknown."""
    for family in families().values():
        if family.marker in chat_template:
            return family
    known = ", ".join(families())
    raise ModelFailure(f"the chat template of {name} is none of {known}", "`ollama pull` a model and use --from")


def _upload(url: str, path: Path, progress: Progress | None) -> str:
    """Bring a file to the server unless it is there; return its digest."""
    digest = f"sha256:{sha256_of(path)}"
    if not httpx.head(f"{url}/api/blobs/{digest}").is_success:
        httpx.post(f"{url}/api/blobs/{digest}", content=_blocks(path, progress), timeout=600).raise_for_status()
    return digest


def _blocks(path: Path, progress: Progress | None) -> Iterator[bytes]:
    size, read = path.stat().st_size, 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            read += len(block)
            if progress:
                progress("uploading the weights to Ollama", read >> 20, size >> 20)
            yield block


def _plain(text: str) -> str:
    """A Modelfile cannot quote three quotation marks."""
    return text.replace('"""', "'''")


def _quoted(text: str) -> str:
    return f'"""{_plain(text)}"""'
