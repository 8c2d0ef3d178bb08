"""`precedent ollama`: create a model for `ollama run` from a source's brief and cases."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.core.progress import Progress

if TYPE_CHECKING:
    from agent.core.settings import Settings
    from agent.pipeline.context import AppContext
    from agent.training.ollama_trial import Choice
    from llm.base import ChatBackend
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
ForceOption = Annotated[
    bool, typer.Option("--force", help="Make the model even if it is no better than always the same answer.")
]
BudgetOption = Annotated[
    int,
    typer.Option("--budget", min=0, help="Most calls of the model to fit and try it; 0: the usual prompt, untried."),
]


@dataclass(frozen=True)
class _Options:
    gguf: str | None
    from_: str | None
    source: str | None
    force: bool
    budget: int


@ollama_app.command("create")
def create_model(
    gguf: GgufOption = None,
    from_: FromOption = None,
    source: SourceOption = None,
    name: NameOption = None,
    force: ForceOption = False,
    budget: BudgetOption = 250,
) -> None:
    """Create the model on the Ollama server, with an adapter or the best of several prompts."""
    from agent.core import terminal
    from agent.pipeline.context import default_context
    from llm.ollama.urls import base_url, parse_hosts

    context = default_context()
    name = name or _name(source)
    with terminal.progress() as progress:
        modelfile, note = _compose(context, _Options(gguf, from_, source, force, budget), progress)
        typer.echo(note)
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
    force: ForceOption = False,
    budget: BudgetOption = 250,
) -> None:
    """Write a folder with the Modelfile, for a machine without Precedent; see `create`."""
    from agent.core import terminal
    from agent.pipeline.context import default_context
    from agent.training.ollama_export import export

    context = default_context()
    name = name or _name(source)
    with terminal.progress() as progress:
        modelfile, note = _compose(context, _Options(gguf, from_, source, force, budget), progress)
    export(modelfile, folder, name, source, note)
    context.close()
    typer.echo(note)
    typer.echo(f"{folder} is written; there: ollama create {name} -f Modelfile")


def _name(source: str | None) -> str:
    return f"precedent-{source}" if source else "precedent"


def _compose(context: AppContext, options: _Options, progress: Progress) -> tuple[Modelfile, str]:
    """The Modelfile, and how good its answers are."""
    from agent.core.errors import UsageError
    from agent.training.ollama_export import CONTEXT_TOKENS, LocalModel, compose, of_gguf
    from agent.training.ollama_lora import adapter_of, compose_adapted
    from llm.llamacpp.trial import try_out
    from llm.weights.catalog import default_model
    from llm.weights.resolver import resolve

    if options.gguf and options.from_:
        raise UsageError("--gguf and --from both name the weights: give one of them")
    casebook = context.casebook if options.source else None
    if options.from_:
        weights, family = options.from_, None
    else:
        settings = context.settings
        model = resolve(options.gguf or default_model(), cache=settings.cache, offline=settings.offline)
        path = model.path.resolve()
        if path.is_file():
            try_out(path, model.sha256, settings.cache)
        weights, family = str(path), of_gguf(path)
        adapter = adapter_of(context, options.source, path) if options.source else None
        if options.source and adapter:
            local = LocalModel(path, CONTEXT_TOKENS, settings.threads)
            return compose_adapted(context, options.source, adapter, local, family, options.budget, progress)
    choice, note = _tried(context, options, weights, progress)
    return compose(casebook, options.source, weights, family, choice), note


def _tried(context: AppContext, options: _Options, weights: str, progress: Progress) -> tuple[Choice | None, str]:
    """The choice of a prompt or an adapter, None if none was tried, and how good its answers are."""
    from agent.core.errors import UsageError
    from agent.training.ollama_export import CONTEXT_TOKENS, LocalModel, adaptable, adapted, tried
    from agent.training.ollama_trial import FORMS

    source, settings, budget = options.source, context.settings, options.budget
    if source is None:
        return None, "How good its answers are was not measured: that takes the cases of a --source."
    if options.from_ or not adaptable(Path(weights)):
        name = f"ollama:{weights}" if options.from_ else weights
        choice = tried(context.casebook, source, lambda: _model(settings, name), budget, progress)
        method = f"No adapter, but the best of {len(FORMS)} prompts ({choice.form})"
    else:
        model = LocalModel(Path(weights), CONTEXT_TOKENS, settings.threads)
        choice = adapted(context.casebook, source, model, budget, progress)
        method = "An adapter fitted to the cases"
    if choice.figures is None:
        return choice, f"How good its answers are could not be measured: {choice.why}."
    note = f"{method}: {choice.figures}{choice.why and f'; {choice.why}'}."
    if not choice.figures.better_than_one_label:
        if not options.force:
            raise UsageError(
                f"the model is no better than always the same answer. {note}",
                "another model, or --force to make it all the same",
            )
        note = f"No better than always the same answer. {note}"
    return choice, note


def _model(settings: Settings, model: str) -> ChatBackend:
    """The model that prompts are tried on, with the context that it will have."""
    from agent.training.ollama_export import CONTEXT_TOKENS
    from llm.factory import choose_model

    return choose_model(
        model,
        cache=settings.cache,
        offline=settings.offline,
        ollama_hosts=settings.ollama_hosts,
        ollama_model=settings.ollama_model,
        context_tokens=CONTEXT_TOKENS,
        threads=settings.threads,
        queue_size=settings.queue_size,
        timeout=settings.request_timeout,
    )
