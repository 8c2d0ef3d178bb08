"""`precedent sources forget`: erase what a source holds on some records."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from agent.cli.options import open_context, print_status
from agent.core.errors import UsageError


def forget(
    name: Annotated[str, typer.Argument(metavar="SOURCE", help="The source.")],
    matching: Annotated[
        str, typer.Option("--matching", metavar="PATTERN", help="A text that the records hold, whatever its case.")
    ],
    regex: Annotated[bool, typer.Option("--regex", help="PATTERN is a regular expression.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be erased, and change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Erase all that a source holds on records: cases, corrections, verdicts, caches, their traces in its fit."""
    from agent.core import terminal
    from agent.training.forget import Forgotten
    from agent.training.forget import forget as forget_records

    def run(*, dry_run: bool) -> Forgotten:
        with terminal.progress() as progress:
            return forget_records(context, name, matching, by_regex=regex, dry_run=dry_run, progress=progress)

    context = open_context(None)
    result = run(dry_run=True)
    if not dry_run:
        if result.found and not yes:
            if not sys.stdin.isatty():
                raise UsageError("nothing was erased: give --yes, or --dry-run to see what would be")
            _show(result)
            typer.confirm("erase it? It cannot be undone", abort=True)
        # where nothing is found it completes a run that was stopped
        result = run(dry_run=False)
    kept_as = [] if result.found else _as_kept(context.source(name).reading, matching)
    context.close()
    for note in kept_as:
        print_status(note)
    if as_json:
        print(terminal.escape_json(json.dumps(result.to_json(), ensure_ascii=False), sys.stdout))
    else:
        _show(result)


def _as_kept(reading: dict[str, Any] | None, matching: str) -> list[str]:
    """How the text is kept where it is a number or a time of a column."""
    from agent.data.read_options import ReadOptions
    from agent.data.readers.values import spell_value

    notations = ReadOptions.model_validate(reading or {}).table.notations
    numbers = {name: notation.number(matching) for name, notation in notations.items()}
    return [
        f"{matching} is kept as {spell_value(number)} in column {name}: --matching with that finds it"
        for name, number in numbers.items()
        if number is not None and spell_value(number) != matching
    ]


def _show(result: object) -> None:
    from agent.core.terminal import print_line, truncate
    from agent.training.forget import Forgotten

    assert isinstance(result, Forgotten)
    found = ", ".join(f"{count:,} {kind.replace('_', ' ')}" for kind, count in result.erased.items() if count)
    print_line(f"{result.source}: {'would be erased' if result.dry_run else 'erased'}: {found or 'nothing matches'}")
    if result.dry_run:
        for text in result.examples:
            print_line(f"  {truncate(text, 100)}")
    if result.refitted:
        print_line("the source was fitted again without them")
    if result.not_erased:
        print_line("not erased, or by others to erase:")
    for place in result.not_erased:
        print_line(f"  {place}")
