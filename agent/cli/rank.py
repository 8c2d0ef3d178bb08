"""`precedent judge FILE` without a source: the file's events, ranked, and labels for them by single keys."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from agent.cli.options import print_status
from agent.core.errors import UsageError
from agent.core.terminal import escape_json

if TYPE_CHECKING:
    from agent.bulk.unlabelled.models import Event, Ranking
    from agent.core.records import Label
    from agent.data.read_options import ReadOptions
    from agent.pipeline.context import AppContext

_KEYS: dict[str, Label] = {"n": "normal", "a": "anomalous"}
_MOST_EVENTS = 200


def check_without_source(**options: object) -> None:
    """Refuse options of verdicts, which need a source."""
    for name, value in options.items():
        if value is not None:
            raise UsageError(f"--{name.replace('_', '-')} is for verdicts: name the source with --source")


def rank(
    context: AppContext,
    paths: Sequence[str],
    options: ReadOptions,
    *,
    against: Sequence[str],
    to: str,
    output: Path | None,
    report: Path | None,
) -> None:
    """Show the events of files without labels, and how to go on; in a terminal, take labels."""
    from agent.bulk.unlabelled.ranking import rank_templates
    from agent.bulk.unlabelled.show import note, write_page, write_ranking
    from agent.core import terminal

    if to not in ("table", "jsonl"):
        raise UsageError(f"--to {to} writes verdicts, which need a source: without one, events go to a table or jsonl")
    with terminal.progress() as progress:
        ranking = rank_templates(
            paths,
            options,
            against=against,
            limit=_MOST_EVENTS,
            max_chars=context.settings.max_record_chars,
            progress=progress,
        )
    for failure in ranking.unreadable:
        print_status(failure)
    if output is not None:
        with terminal.open_output(output) as stream:
            _write(ranking, to, stream)
        print_status(f"the events are in {output}. {note(ranking)}")
    elif to == "jsonl":
        sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
        _write(ranking, to, sys.stdout)
        print_status(note(ranking))
    else:
        write_ranking(ranking)
    if report is not None:
        write_page(ranking, report)
        print_status(f"the report is in {report}")
    _go_on(context, ranking, options, interactive=to == "table" and output is None and "-" not in paths)


def _write(ranking: Ranking, to: str, stream: Any) -> None:
    from agent.bulk.unlabelled.show import write_ranking

    if to == "table":
        write_ranking(ranking, stream)
        return
    for event in ranking.events:
        line = json.dumps(event.model_dump(mode="json"), ensure_ascii=False)
        print(escape_json(line, stream), file=stream)


def _go_on(context: AppContext, ranking: Ranking, options: ReadOptions, *, interactive: bool) -> None:
    """Take labels by keys where a person is at the terminal, and say what else makes a source."""
    if interactive and _is_terminal():
        labelled = _take_labels(ranking)
        if labelled:
            _make_source(context, ranking, options, labelled)
            return
    files = " ".join(ranking.files)
    print_status(
        f"next: `precedent judge {files}` in a terminal takes labels by single keys; if the file is known to be "
        f"normal, `precedent learn {files} --source NAME --all-normal` learns it; then `precedent judge FILE --source "
        "NAME` gives verdicts"
    )


def _is_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _take_labels(ranking: Ranking) -> list[tuple[Event, Label]]:
    import click

    from agent.bulk.unlabelled.show import ON_SCREEN, details
    from agent.core.terminal import print_line, truncate

    events, labelled = ranking.events[:ON_SCREEN], list[tuple["Event", "Label"]]()
    print_line("Label them, one key each: n normal, a anomalous, s skip, q quit (the labels make a source)", "bold")
    for event in events:
        print_line(f"{event.rank}/{len(events)}  {truncate(event.example.text, 300)}")
        for line in details(event):
            print_line(f"    {line}", "dim")
        while (key := click.getchar().casefold()) not in (*_KEYS, "s", "q"):
            pass
        if key == "q":
            break
        if key in _KEYS:
            labelled.append((event, _KEYS[key]))
        print_line(f"    {_KEYS.get(key, 'skipped')}")
    return labelled


def _make_source(
    context: AppContext, ranking: Ranking, options: ReadOptions, labelled: list[tuple[Event, Label]]
) -> None:
    from agent.bulk.unlabelled.labelling import learn_labels
    from agent.core import terminal

    stem = re.sub(r"[^A-Za-z0-9]+", "-", Path(ranking.files[0]).name.split(".")[0]).strip("-") or "log"
    name = typer.prompt("Name of the source", default=stem[:60])
    with terminal.progress() as progress:
        added = learn_labels(context, name, options, labelled, progress)
    print_status(f"source {name}: {terminal.plural(added, 'new case')}")
    print_status(f"next: `precedent judge {' '.join(ranking.files)} --source {name}` gives verdicts")
