"""`precedent tune`: train models on a source's cases."""

from __future__ import annotations

from typing import Annotated

import typer

from agent.cli.options import SourceOption, open_context, print_status

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
    remove_older(context.detector_resources(row))
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
