"""What `precedent tune` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from agent.core.terminal import plural
from agent.scoring.fusion import SourceModel

if TYPE_CHECKING:
    from agent.training.lora_evidence import AnswerFigures
    from agent.training.tune_lora import LoraResult
    from retrieval.casebook import SourceSnapshot


def lora(source: str, result: LoraResult, row: SourceSnapshot, *, had_one: bool) -> None:
    """Print what the adapter was trained on, answers with and without it, and whether it is used."""
    found = result.evidence
    typer.echo(
        f"an adapter of {result.model}, trained on {plural(result.trained, 'case')} in {result.training_seconds:.0f} s "
        f"({result.seconds:.0f} s in all, {plural(result.steps, 'step')}) on {result.device}"
    )
    kinds = "of kinds that it was not trained on" if result.by_kind else "(they are of too few kinds to hold one out)"
    typer.echo(f"{plural(found.cases, 'held-out case')} {kinds}, {found.anomalous:,} of them anomalous:")
    typer.echo(f"{'':16}accuracy     F1    AUC  log-loss")
    for name, figures in (("without it", found.before), ("with it", found.after)):
        typer.echo(f"{name:16}{_row(figures)}")
    change = f"the log-loss is {found.gain:+.3f} better, give or take {found.standard_error:.3f}"
    if result.adapter is None:
        kept = "the adapter that the source had stays" if had_one else "the source is judged without one"
        typer.echo(f"it does not help ({change}; it must be by more than chance, with no lower AUC): {kept}")
        return
    typer.echo(f"it helps ({change}): {source} is judged with it, SHA-256 {result.adapter.sha256}")
    model = SourceModel.of(row.source_model, row.counts)
    if model.language_note:
        typer.echo(model.language_note)


def _row(figures: AnswerFigures) -> str:
    return f"{figures.accuracy:8.3f}{figures.f1:7.3f}{figures.roc_auc:7.3f}{figures.log_loss:10.3f}"
