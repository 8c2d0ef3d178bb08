"""`precedent sources`: list, show, describe, propose, refit, rebuild, roll back, prune and remove sources."""

from __future__ import annotations

import shutil
from datetime import datetime
from typing import Annotated

import typer

from agent.cli.forget import forget
from agent.cli.options import open_context, read_brief

sources_app = typer.Typer(
    help="List the sources; show, brief, propose, refit, rebuild, roll back or remove one; forget records; prune.",
    invoke_without_command=True,
    rich_markup_mode=None,
)


sources_app.command("forget")(forget)


@sources_app.callback()
def sources(context: typer.Context) -> None:  # noqa: D103
    if context.invoked_subcommand is None:
        list_sources()


@sources_app.command("list")
def list_sources() -> None:
    """List the sources with their numbers of cases."""
    from agent.cli import render

    context = open_context(None)
    render.sources([row for name in context.casebook.names() if (row := context.casebook.source(name))])
    context.close()


@sources_app.command("show")
def show_source(
    name: Annotated[str, typer.Argument(help="The source.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show a source: its brief, cases and fitted model, and whether recent records still fit it."""
    from agent.cli import source_view
    from agent.training.drift import measure_drift

    context = open_context(None)
    source_view.source(context.source(name), measure_drift(context, name), as_json)
    context.close()


@sources_app.command("brief")
def brief_source(
    name: Annotated[str, typer.Argument(help="The source.")],
    text: Annotated[str | None, typer.Argument(help="The new brief; @FILE reads it from a file. [show it]")] = None,
) -> None:
    """Show or set the brief of a source, new or not; setting it fits the source again."""
    from agent.core import terminal
    from agent.training.learn import check_name
    from agent.training.refit import refit

    context = open_context(None)
    if text is None:
        typer.echo(context.source(name).brief)
        context.close()
        return
    context.casebook.create(check_name(name))
    context.casebook.set(name, brief=read_brief(text), brief_by="person")
    if any(context.source(name).counts.values()):
        with terminal.progress() as progress:
            refit(context, name, progress=progress)
    context.close()


@sources_app.command("rebuild")
def rebuild_source(name: Annotated[str, typer.Argument(help="The source.")]) -> None:
    """Compute the vectors and the fitted model again from the cases."""
    from agent.core import terminal
    from agent.training.refit import refit

    context = open_context(None)
    context.source(name)
    with terminal.progress() as progress:
        context.casebook.rebuild(name, progress)
        refit(context, name, progress=progress)
    context.close()


@sources_app.command("propose")
def propose_for_source(
    name: Annotated[str, typer.Argument(help="The source.")],
    last: Annotated[int, typer.Option("--last", min=1, help="How many of the newest verdicts are recent.")] = 1_000,
    since: Annotated[
        datetime | None, typer.Option("--since", help="Only verdicts given since then (UTC) are recent.")
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Refit if that is proposed; the new fit must not be worse, see `refit`.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Propose what to do about a source: refit it, label some records, tune a model, or nothing; with the evidence."""
    from agent.cli import monitoring_view
    from agent.core import terminal
    from agent.training.challenge import challenge
    from agent.training.proposal import propose

    context = open_context(None)
    found = propose(context, name, last, since)
    result = None
    if apply and any(proposal.action == "refit" for proposal in found.proposals):
        with terminal.progress() as progress:
            result = challenge(context, name, progress=progress)
    monitoring_view.proposals(found, result, as_json, applied=apply)
    context.close()


@sources_app.command("refit")
def refit_source(
    name: Annotated[str, typer.Argument(help="The source.")],
    detector: Annotated[
        list[str] | None,
        typer.Option("--detector", help="A detector beside the built-in signals, as of `learn`; repeat it."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Fit a source again; the new fit replaces the present one unless it is worse on the newest cases."""
    from agent.cli import monitoring_view
    from agent.core import terminal
    from agent.training.challenge import challenge
    from agent.training.contrib_choice import check_names

    context = open_context(None)
    detectors = None if detector is None else check_names(detector)
    with terminal.progress() as progress:
        result = challenge(context, name, detectors=detectors, progress=progress)
    monitoring_view.challenge(result, as_json)
    context.close()


@sources_app.command("rollback")
def rollback_source(name: Annotated[str, typer.Argument(help="The source.")]) -> None:
    """Judge with the fit before the present one again; the cases stay. Once more undoes it."""
    from agent.core import terminal
    from agent.training.refit import rollback

    context = open_context(None)
    with terminal.progress() as progress:
        row = rollback(context, name, progress)
    fitted_on = (row.source_model or {}).get("fitted_on")
    typer.echo(f"{name}: judged with the fit of casebook version {fitted_on} again, the casebook is at {row.version}")
    context.close()


@sources_app.command("remove")
def remove_source(
    name: Annotated[str, typer.Argument(help="The source.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a source with all its cases and verdicts."""
    from agent.core.terminal import plural

    context = open_context(None)
    row = context.source(name)
    if not yes:
        typer.confirm(f"delete {name} with {plural(sum(row.counts.values()), 'case')} and all verdicts?", abort=True)
    folder = context.detector_resources(row).folder
    context.casebook.remove(name)
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
    context.close()


@sources_app.command("prune")
def prune() -> None:
    """Remove old verdicts and cached answers of the language model, by the settings history_* and llm_cache_rows.

    A server does it every hour.
    """
    from agent.core.logs import configure_logging
    from agent.core.terminal import plural
    from agent.pipeline.history import prune as prune_history

    context = open_context(None)
    configure_logging(context.settings.log_level, context.settings.log_format)
    verdicts, answers = prune_history(context)
    typer.echo(f"removed {plural(verdicts, 'verdict')} and {plural(answers, 'cached answer')} of the language model")
    context.close()
