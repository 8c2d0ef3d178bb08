"""The commands for feedback: which verdicts to correct, and correcting one."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from agent.cli.options import VerdictArgument, print_status


def review(
    source: Annotated[str, typer.Option("--source", "-s", help="The source whose verdicts are considered.")],
    n: Annotated[int, typer.Option("-n", min=1, max=200, help="How many at most.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON array.")] = False,
) -> None:
    """List the verdicts whose correction would improve the source most, the best first."""
    from agent.cli import render
    from agent.pipeline.context import default_context
    from agent.training.active_learning import select_for_review

    context = default_context()
    render.candidates(select_for_review(context, source, n), source, as_json)
    context.close()


def correct(
    reference: VerdictArgument,
    label: Annotated[Literal["normal", "anomalous"], typer.Argument(help="What the record really is.")],
) -> None:
    """Correct a verdict: its record becomes a case, and verdicts on records like it follow."""
    from agent.core import terminal
    from agent.pipeline.context import default_context
    from agent.pipeline.verdict_reference import find_verdict
    from agent.training import feedback

    context = default_context()
    verdict = find_verdict(context, reference)
    verdict_id = verdict.id
    case = feedback.correct(context, verdict_id, label, "command line")
    assert case.held is None, "the command line needs no second person"
    typer.echo(f"the record of {verdict_id} is now case {case.case_id} of source {verdict.source}, {label}")
    if verdict_id != reference:
        typer.echo(terminal.escape_controls(f"it says: {terminal.truncate(case.record.text, 200)}"))
    if contradicted := case.contradicts:
        first, others = contradicted[0], len(contradicted) - 1
        more = f" and {terminal.plural(others, 'other')}" if others else ""
        text = terminal.truncate(first.text, 100)
        print_status(
            f"this contradicts case {first.case_id}{more}, alike in all that is compared: {first.label}, {text}"
        )
    with terminal.progress() as progress:
        changes = feedback.refit_if_due(context, verdict_id, progress)
    if changes:
        typer.echo(f"the source was refitted: {terminal.plural(changes, 'change')} of its casebook since the last fit")
    context.close()
