"""`precedent ollama`: create a model for `ollama run` from a source's brief and cases."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from agent.pipeline.context import AppContext
    from llm.ollama.modelfile import Modelfile

ollama_app = typer.Typer(help="Create a model for `ollama run`, here or on another machine.", rich_markup_mode=None)
GgufOption = Annotated[
    str | None, typer.Option("--gguf", help="Weights: a .gguf file or a name of the catalog. [the embedded default]")
]
FromOption = Annotated[str | None, typer.Option("--from", help="Weights: a model that Ollama has, such as llama3.2.")]
SourceOption = Annotated[
    str | None, typer.Option("--source", "-s", help="The source whose brief and cases go into it. [none]")
]
NameOption = Annotated[str | None, typer.Option("--name", help="The model's name. [precedent, or precedent-SOURCE]")]


@ollama_app.command("create")
def create_model(
    gguf: GgufOption = None, from_: FromOption = None, source: SourceOption = None, name: NameOption = None
) -> None:
    """Create the model on the Ollama server."""
    from agent.core import terminal
    from agent.pipeline.context import default_context
    from llm.ollama.urls import base_url, parse_hosts

    context = default_context()
    name = name or _name(source)
    with terminal.progress() as progress:
        modelfile = _compose(context, gguf, from_, source)
        for host in parse_hosts(context.settings.ollama_hosts):
            modelfile.create(host, name, progress)
            typer.echo(f'{name} is on {base_url(host)}: ollama run {name} "a record"')
    context.close()


@ollama_app.command("export")
def export_model(
    folder: Annotated[Path, typer.Argument(help="The folder to write; weights from a file are copied into it.")],
    gguf: GgufOption = None,
    from_: FromOption = None,
    source: SourceOption = None,
    name: NameOption = None,
) -> None:
    """Write a folder with the Modelfile, for a machine without Precedent."""
    from agent.pipeline.context import default_context
    from agent.training.ollama_export import export

    context = default_context()
    name = name or _name(source)
    export(_compose(context, gguf, from_, source), folder, name, source)
    context.close()
    typer.echo(f"{folder} is written; there: ollama create {name} -f Modelfile")


def _name(source: str | None) -> str:
    return f"precedent-{source}" if source else "precedent"


def _compose(context: AppContext, gguf: str | None, from_: str | None, source: str | None) -> Modelfile:
    from agent.core.errors import UsageError
    from agent.training.ollama_export import compose, of_gguf
    from llm.weights.catalog import default_model
    from llm.weights.resolver import resolve

    if gguf and from_:
        raise UsageError("--gguf and --from both name the weights: give one of them")
    casebook = context.casebook if source else None
    if from_:
        return compose(casebook, source, from_, None)
    path = resolve(gguf or default_model(), cache=context.settings.cache, offline=context.settings.offline).path
    return compose(casebook, source, str(path.resolve()), of_gguf(path))
