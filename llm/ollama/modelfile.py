"""Ollama's Modelfile, as text and as a model on a server."""

from __future__ import annotations

import hashlib
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

ADAPTER_FILE = "adapter.gguf"
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
    role and text of examples. ``adapter`` is the contents of an adapter's file, which `render` names `ADAPTER_FILE`;
    ``stop`` are texts that end a reply, beside the family's.
    """

    source: str
    system: str
    family: Family | None = None
    parameters: Mapping[str, float] = field(default_factory=dict)
    messages: tuple[tuple[str, str], ...] = ()
    adapter: bytes | None = None
    stop: tuple[str, ...] = ()

    def render(self, comment: str = "") -> str:
        """Return the text for `ollama create -f`, with ``comment`` at its top."""
        lines = [f"# {line}".rstrip() for line in comment.splitlines()] + [f"FROM {self.source}"]
        lines += [f"ADAPTER ./{ADAPTER_FILE}", ""] if self.adapter else [""]
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
                path = Path(self.source)
                digest = _upload(url, f"sha256:{sha256_of(path)}", lambda: _blocks(path, progress))
                uploaded = {path.name: digest}
                stop = {"stop": list(self.family.stop)}
                client.create(source, files=uploaded, template=self.family.template, parameters=stop)
            adapters = None
            if adapter := self.adapter:
                digest = f"sha256:{hashlib.sha256(adapter).hexdigest()}"
                adapters = {ADAPTER_FILE: _upload(url, digest, lambda: adapter)}
            client.create(
                name,
                from_=source,
                adapters=adapters,
                system=_plain(self.system),
                parameters={**self.parameters, **({"stop": list(self._stop)} if self._stop else {})},
                messages=[ollama.Message(role=role, content=_plain(text)) for role, text in self.messages],
            )

    @property
    def _stop(self) -> tuple[str, ...]:
        return (*(self.family.stop if self.family else ()), *self.stop)


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


def _upload(url: str, digest: str, content: Callable[[], bytes | Iterator[bytes]]) -> str:
    """Bring a file to the server unless it is there; return its digest."""
    if not httpx.head(f"{url}/api/blobs/{digest}").is_success:
        httpx.post(f"{url}/api/blobs/{digest}", content=content(), timeout=600).raise_for_status()
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
