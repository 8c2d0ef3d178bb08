"""`precedent tune`: train models on a source's cases."""

from __future__ import annotations

from typing import Annotated

import typer

from agent.cli.options import ModelOption, SourceOption, open_context, print_status
from agent.core.errors import UsageError

tune_app = typer.Typer(
    help="Train a model on a source's cases; it becomes a detector of the source.", rich_markup_mode=None
)


@tune_app.callback()
def tune() -> None:  # noqa: D103
    pass


@tune_app.command("classifier")
def classifier(
    source: SourceOption,
    base: Annotated[
        str | None,
        typer.Option("--base", help="Model to begin with: a folder, or a name of the hub. [the embedding model]"),
    ] = None,
    freeze: Annotated[
        int, typer.Option("--freeze", min=0, help="Layers from the bottom that keep their weights; 0 trains all.")
    ] = 0,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Passes over the cases at most.")] = 3,
    folds: Annotated[
        int, typer.Option("--folds", min=2, help="Trainings beside the last one, for answers about unseen cases.")
    ] = 3,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a training that was stopped.")] = False,
) -> None:
    """Fine-tune a transformer on the source's cases, and add it to the source's signals by what it adds to them."""
    from agent.core import terminal
    from agent.scoring.fusion import SourceModel
    from agent.training.contrib_choice import notes_on_detectors
    from agent.training.refit import refit
    from agent.training.tune_classifier import default_options, remove_older, tune_classifier, with_tuned

    context = open_context(None)
    row = context.source(source)
    options = default_options(context, base, freeze=freeze, epochs=epochs)
    with terminal.progress() as progress:
        result = tune_classifier(
            context, source, options, folds=folds, resume=resume, progress=progress, notify=print_status
        )
        names = with_tuned(SourceModel.of(row.source_model, row.counts).contrib)
        refit(context, source, detectors=names, progress=progress)
    row = context.source(source)
    remove_older(context, row.name)
    typer.echo(
        f"tuned on {terminal.plural(result.cases, 'case')}, {result.anomalous:,} of them anomalous, "
        f"in {result.training_seconds:.0f} s ({result.seconds:.0f} s with {folds} folds) on {result.device}"
    )
    typer.echo(
        f"out of fold: accuracy {result.accuracy:.3f}, precision {result.precision:.3f}, recall {result.recall:.3f}, "
        f"F1 {result.f1:.3f}, AUC {result.roc_auc:.3f}, AP {result.average_precision:.3f}"
    )
    for note in notes_on_detectors(SourceModel.of(row.source_model, row.counts)):
        typer.echo(note)
    context.close()


@tune_app.command("lora")
def lora(
    source: SourceOption,
    base: Annotated[
        str | None,
        typer.Option(
            "--base", help="The judge's model in full precision: a folder, or a name of the hub. [the judge's own file]"
        ),
    ] = None,
    layers: Annotated[int, typer.Option("--layers", min=1, help="Layers that are adapted, from the top.")] = 8,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Passes over the cases.")] = 3,
    cases: Annotated[
        int, typer.Option("--cases", min=1, help="Cases at most; a third of them is held out to see if it helps.")
    ] = 300,
    model: ModelOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a training that was stopped.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Judge without the adapter that was trained.")] = False,
) -> None:
    """Train an adapter (LoRA) of the judge's embedded language model; it is kept if it helps on new kinds of cases."""
    from agent.cli import tune_view
    from agent.core import terminal
    from agent.detectors.lora import SourceAdapter
    from agent.training.language_trial import NOT_TUNED, TunedLanguage
    from agent.training.refit import refit
    from agent.training.tune_lora import default_options, remove_unused, tune_lora

    context = open_context(model)
    row = context.source(source)
    before = SourceAdapter.of(row.source_model)
    with terminal.progress() as progress:
        if remove:
            if before is None:
                raise UsageError(f"{source} has no adapter: nothing is removed")
            refit(context, source, tuned=NOT_TUNED, progress=progress)
            typer.echo(f"{source} is judged without an adapter; `precedent sources rollback {source}` brings it back")
        else:
            options = default_options(context, base, layers=layers, epochs=epochs)
            result = tune_lora(
                context, source, options, most_cases=cases, resume=resume, progress=progress, notify=print_status
            )
            if result.adapter is not None:
                refit(context, source, tuned=TunedLanguage(result.adapter), progress=progress)
    remove_unused(context, source)
    if not remove:
        tune_view.lora(source, result, context.source(source), had_one=before is not None)
    context.close()
