"""Ollama's Modelfile: what it holds, as text and as a model on a server."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import ollama

from llm.errors import ModelFailure
from llm.ollama.urls import base_url
from llm.weights.checksum import BLOCK, sha256_of

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Family:
    """A form of chat template: in Ollama's language, with the texts that end an answer, and what it is known by."""

    name: str
    marker: str
    template: str
    stop: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Modelfile:
    """``source``: a model on the server, or the path of a .gguf; ``family`` None leaves the source's own template."""

    source: str
    system: str
    family: Family | None = None
    parameters: Mapping[str, float] = field(default_factory=dict)
    messages: tuple[tuple[str, str], ...] = ()

    def render(self, comment: str = "") -> str:
        """The text that `ollama create -f` takes."""
        lines = [f"# {line}".rstrip() for line in comment.splitlines()] + [f"FROM {self.source}", ""]
        if self.family:
            lines += [f"TEMPLATE {_quoted(self.family.template)}", ""]
        lines += [f"SYSTEM {_quoted(self.system)}", ""]
        lines += [f"PARAMETER {name} {value:g}" for name, value in self.parameters.items()]
        lines += [f'PARAMETER stop "{stop}"' for stop in self._stop]
        lines += ["", *(f"MESSAGE {role} {_quoted(text)}" for role, text in self.messages)]
        return "\n".join(lines).rstrip() + "\n"

    def create(self, host: str, name: str, progress: Progress | None = None) -> None:
        """Make it on the server as ``name``.

        From a .gguf two models are made, which share the weights: `NAME:base` with the template alone, which the
        chain asks, and ``name`` with SYSTEM and MESSAGE on top of it, for `ollama run`.

        Raises:
            ModelFailure: the server refused, broke off or is not there.
        """
        client = ollama.Client(base_url(host))
        try:
            source = self.source
            if self.family:
                source = f"{name.partition(':')[0]}:base"
                files = {Path(self.source).name: _upload(base_url(host), Path(self.source), progress)}
                stop = {"stop": list(self._stop)}
                client.create(source, files=files, template=self.family.template, parameters=stop)
            client.create(
                name,
                from_=source,
                system=_plain(self.system),
                parameters={**self.parameters, **({"stop": list(self._stop)} if self._stop else {})},
                messages=[ollama.Message(role=role, content=_plain(text)) for role, text in self.messages],
            )
        except (httpx.ConnectError, ConnectionError) as error:
            raise ModelFailure(f"no Ollama server at {base_url(host)}: start it with `ollama serve`") from error
        except (httpx.HTTPError, ollama.ResponseError) as error:
            raise ModelFailure(f"Ollama at {base_url(host)} did not make {name}: {error}") from error

    @property
    def _stop(self) -> tuple[str, ...]:
        return self.family.stop if self.family else ()


@cache
def families() -> dict[str, Family]:
    """All known forms, by name."""
    read: dict[str, Any] = tomllib.loads(files("llm.ollama").joinpath("families.toml").read_text(encoding="utf-8"))
    return {name: Family(name, one["marker"], one["template"], tuple(one["stop"])) for name, one in read.items()}


def family_of(chat_template: str, name: str) -> Family:
    """The form that a model's own chat template (jinja) has; ``name`` is for the error.

    Raises:
        ModelFailure: it is none that is known here.
    """
    for family in families().values():
        if family.marker in chat_template:
            return family
    known = ", ".join(families())
    raise ModelFailure(f"the chat template of {name} is none of {known}: `ollama pull` a model and use --from")


def _upload(url: str, path: Path, progress: Progress | None) -> str:
    """Bring a file to the server, unless it has it; its digest."""
    size, read, name = path.stat().st_size, 0, f"sha256:{sha256_of(path)}"
    if httpx.head(f"{url}/api/blobs/{name}").is_success:
        return name

    def blocks() -> Any:
        nonlocal read
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                read += len(block)
                if progress:
                    progress("bringing the weights to Ollama", read >> 20, size >> 20)
                yield block

    httpx.post(f"{url}/api/blobs/{name}", content=blocks(), timeout=600).raise_for_status()
    return name


def _plain(text: str) -> str:
    """A Modelfile has no way to quote three quotation marks, so none is written anywhere."""
    return text.replace('"""', "'''")


def _quoted(text: str) -> str:
    return f'"""{_plain(text)}"""'
