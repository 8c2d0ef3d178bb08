"""`precedent backup` and `precedent restore`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agent.cli.options import open_context, print_status
from agent.core.errors import UsageError


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.")],
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there already.")] = False,
) -> None:
    """Write cases, verdicts, fits and detectors' files to one file; a server may go on meanwhile."""
    from agent.core import terminal
    from agent.pipeline import backup as backups

    if str(file) == "-":
        raise UsageError("a backup is written to a file, not to standard output: name one")
    context = open_context(None)
    with terminal.progress() as progress:
        summary = backups.backup(context, file, overwrite=force, progress=progress)
    context.close()
    size = file.stat().st_size
    terminal.print_line(f"{_described(summary)} are in {file} ({size / 1e6:,.1f} MB)")


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that `precedent backup` wrote.")],
    force: Annotated[
        bool, typer.Option("--force", help="Replace what is there already, and keep it in a folder beside.")
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="Check the file, and change nothing.")] = False,
) -> None:
    """Put a backup back, checked before anything is changed; the index is then made again."""
    from agent.core import terminal
    from agent.core.settings import settings
    from agent.pipeline import backup as backups
    from agent.pipeline import restore as restoring

    if check:
        with terminal.progress() as progress:
            summary = backups.check_backup(file, progress)
        terminal.print_line(f"{file} is whole: {_described(summary)}, of {summary.created_at}")
        return
    with terminal.progress() as progress:
        summary, kept = restoring.restore(settings(), file, overwrite=force, progress=progress)
        context = open_context(None)
        later = restoring.index_again(context, progress)
    context.close()
    for name, reason in later:
        print_status(f"the index of {name} is made at its first use: {reason}")
    terminal.print_line(f"{_described(summary)} of {summary.created_at} are restored in {settings().home}")
    if kept is not None:
        terminal.print_line(f"what was there before is in {kept}")


def _described(summary: object) -> str:
    from agent.core.terminal import plural
    from agent.pipeline.backup import BackupSummary

    assert isinstance(summary, BackupSummary)
    cases = sum(summary.sources.values())
    return f"{plural(len(summary.sources), 'source')} with {plural(cases, 'case')}"
