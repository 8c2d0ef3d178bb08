"""`precedent cases`: list, show, relabel and delete cases, and undo a change."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Literal

import typer

from agent.cli.options import SourceOption

cases_app = typer.Typer(
    help="List the cases of a source; show, relabel or delete one; undo that; confirm corrections that wait.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
CaseArgument = Annotated[str, typer.Argument(metavar="ID", help="The case's id, such as c212.")]
HeldArguments = Annotated[list[str], typer.Argument(metavar="ID…", help="Ids of corrections, such as h3.")]
LabelName = Literal["normal", "anomalous"]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON.")]
_BY = "command line"


@cases_app.command("list")
def list_cases_command(
    source: SourceOption,
    label: Annotated[LabelName | None, typer.Option("--label", help="Only cases of this label.")] = None,
    text: Annotated[str, typer.Option("--text", help="Only cases whose text has these words.")] = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="How many at most.")] = 50,
    offset: Annotated[int, typer.Option("--offset", min=0, help="How many to leave out first.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """List the cases of a source, the newest first."""
    from agent.cli import render
    from agent.core.terminal import escape_json, plural, print_line
    from agent.pipeline.context import default_context
    from agent.training.cases import list_cases

    context = default_context()
    page = list_cases(context, source, label, text, limit, offset)
    context.close()
    if as_json:
        print(escape_json(page.model_dump_json(), sys.stdout))
        return
    render.cases(page.cases)
    shown = f"{offset + 1:,} to {offset + len(page.cases):,} of " if page.cases else ""
    print_line(f"{shown}{plural(page.total, 'case')}")


@cases_app.command("show")
def show_case_command(case_id: CaseArgument, as_json: JsonOption = False) -> None:
    """Show a case, and who labelled it what when."""
    from agent.core.terminal import escape_json, print_line
    from agent.pipeline.context import default_context
    from agent.training.cases import show_case

    context = default_context()
    case = show_case(context, case_id)
    context.close()
    if as_json:
        print(escape_json(case.model_dump_json(), sys.stdout))
        return
    record = case.record
    place = f"{record.file}:{record.line}" if record.file else None
    shown = {"case": case.case_id, "source": case.source, "label": case.label, "label value": case.label_value}
    shown |= {"given by": case.given_by, "given at": f"{case.given_at:%Y-%m-%d %H:%M:%S} UTC", "read from": place}
    shown |= {"occurrences": str(case.occurrences), "text": record.text}
    shown |= {"fields": json.dumps(record.fields, ensure_ascii=False) if record.fields else None}
    for name, value in shown.items():
        if value is not None:
            print_line(f"{name}: {value}")
    for change in case.history:
        labels = f"{change.label_before or 'no case'} -> {change.label_after or 'no case'}"
        undone = " (undone since)" if change.undone else ""
        print_line(
            f"{change.changed_at:%Y-%m-%d %H:%M:%S} UTC {change.action}: {labels}, by {change.changed_by}{undone}"
            f" [{change.change_id}]"
        )


@cases_app.command("relabel")
def relabel_case_command(
    case_id: CaseArgument, label: Annotated[LabelName, typer.Argument(help="What the record really is.")]
) -> None:
    """Give a case another label; verdicts on records like it follow."""
    from agent.pipeline.context import default_context
    from agent.training.cases import relabel_case

    context = default_context()
    case = relabel_case(context, case_id, label, _BY)
    typer.echo(f"case {case.case_id} is {case.label}")
    _refit(case.source)


@cases_app.command("delete")
def delete_case_command(
    case_id: CaseArgument, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False
) -> None:
    """Remove a case; `precedent cases undo` brings it back."""
    from agent.core.terminal import escape_controls, truncate
    from agent.pipeline.context import default_context
    from agent.training.cases import delete_case, show_case

    context = default_context()
    case = show_case(context, case_id)
    if not yes:
        text = escape_controls(truncate(case.record.text, 100))
        typer.confirm(f"delete case {case.case_id} of {case.source}, {case.label}: {text}?", abort=True)
    delete_case(context, case_id, _BY)
    typer.echo(f"case {case.case_id} is deleted; precedent cases undo {case.case_id} brings it back")
    _refit(case.source)


@cases_app.command("undo")
def undo_command(
    changed: Annotated[
        str, typer.Argument(metavar="ID", help="The id of a change, a case or a corrected verdict, or FILE:LINE.")
    ],
) -> None:
    """Undo a change, or the last one that the command line made of a case or of a verdict."""
    from agent.pipeline.context import default_context
    from agent.pipeline.verdict_reference import find_verdict
    from agent.training.feedback import undo_correction

    context = default_context()
    changed = find_verdict(context, changed).id if ":" in changed else changed
    change = undo_correction(context, changed, _BY)
    state = f"case {change.case_id} is {change.label_before}" if change.label_before else "its record is no case"
    typer.echo(
        f"undone: {change.action} by {change.changed_by} on {change.changed_at:%Y-%m-%d %H:%M:%S} UTC; {state} again"
    )
    _refit(change.source)


@cases_app.command("held")
def list_held_command(
    source: SourceOption,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="How many at most.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List the corrections with API keys that wait for a second person, the oldest first."""
    from agent.cli.held_view import print_held
    from agent.core.terminal import escape_json, plural, print_line
    from agent.pipeline.context import default_context
    from agent.training.held_corrections import list_held

    context = default_context()
    page = list_held(context, source, limit)
    context.close()
    if as_json:
        print(escape_json(page.model_dump_json(), sys.stdout))
        return
    print_held(page.held)
    print_line(f"{plural(page.total, 'correction')} waiting for a second person")


@cases_app.command("confirm")
def confirm_held_command(held_ids: HeldArguments) -> None:
    """Have corrections that wait take effect."""
    from agent.pipeline.context import default_context
    from agent.training.held_corrections import confirm_held

    sources = []
    for held_id in held_ids:
        held = confirm_held(default_context(), held_id, _BY)
        sources.append(held.source)
        typer.echo(f"{held_id} is confirmed: the record of {held.verdict_id or held.case_id} is {held.label}")
    for source in dict.fromkeys(sources):
        _refit(source)


@cases_app.command("reject")
def reject_held_command(held_ids: HeldArguments) -> None:
    """Drop corrections that wait."""
    from agent.pipeline.context import default_context
    from agent.training.held_corrections import reject_held

    context = default_context()
    for held_id in held_ids:
        reject_held(context, held_id, _BY)
        typer.echo(f"{held_id} is rejected")
    context.close()


def _refit(source: str) -> None:
    from agent.core import terminal
    from agent.pipeline.context import default_context
    from agent.training.feedback import refit_source_if_due

    context = default_context()
    with terminal.progress() as progress:
        changes = refit_source_if_due(context, source, progress)
    if changes:
        typer.echo(f"the source was refitted: {terminal.plural(changes, 'change')} of its casebook since the last fit")
    context.close()
