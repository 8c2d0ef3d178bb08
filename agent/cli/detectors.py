"""`precedent detectors`: which detectors can be added to a source."""

from __future__ import annotations

import json
from typing import Annotated

import typer

detectors_app = typer.Typer(
    help="List the detectors that `learn --detector NAME` adds to a source.",
    invoke_without_command=True,
    rich_markup_mode=None,
)
AsJson = Annotated[bool, typer.Option("--json", help="One JSON array.")]


@detectors_app.callback()
def detectors(context: typer.Context) -> None:  # noqa: D103
    if context.invoked_subcommand is None:
        list_detectors()


@detectors_app.command("list")
def list_detectors(as_json: AsJson = False) -> None:
    """List them: name, what they need, the extra that they take, and whether it is installed."""
    from agent.core.terminal import print_line
    from agent.detectors.contrib.catalog import CATALOG, ON_TEXT, hint_of, is_installed
    from agent.detectors.registry import installed_packages

    if as_json:
        print(json.dumps([entry.to_json() for entry in CATALOG.values()]))
        return
    for entry in CATALOG.values():
        extra = f"[{entry.extra}]{' not' if entry.missing else ''} installed" if entry.extra else ""
        needs = "any record" if len(entry.needs) > 1 else next(iter(entry.needs))
        print_line(f"{entry.name:<19}{extra:<27}{needs:<12}{entry.summary}", "dim" if entry.missing else "")
    on_text = ", ".join(entry.name for entry in CATALOG.values() if entry.on_text)
    print_line(f"NAME{ON_TEXT}: the same on embeddings of texts, in sources of tables too: {on_text}")
    if not is_installed("tune"):
        print_line(f"`precedent tune classifier` takes the extra [tune]: {hint_of('tune')}")
    for hint in sorted({entry.hint for entry in CATALOG.values() if entry.missing and entry.hint}):
        print_line(f"to install: {hint}")
    for name, package in installed_packages():
        print_line(f"{name}: of the package {package}, in every source")
