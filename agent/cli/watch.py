"""`precedent watch`: verdicts on what is written, as it is written."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from agent.cli.judge import parse_labels
from agent.cli.judge_options import Detail, OnlyOption
from agent.cli.options import (
    ColumnsOption,
    FormatOption,
    ModelOption,
    MultilineOption,
    SourceOption,
    TextOption,
    open_context,
    print_status,
    read_options,
)
from agent.core.errors import UsageError

if TYPE_CHECKING:
    from agent.bulk.alerts import Alerter
    from agent.bulk.watch import Watch
    from retrieval.store.watch import LiveGroup

_LINE_SECONDS, _TEXT_CHARS = 30.0, 160

NamesArgument = Annotated[
    list[str],
    typer.Argument(metavar="FILE…", help="Files, folders or patterns to follow; - is standard input."),
]
WatchOutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", help="Append a line for each verdict (JSON lines).")
]
WatchDetailOption = Annotated[
    Detail, typer.Option("--detail", help="The whole verdict of each record, or a short line.")
]
NotifyOption = Annotated[
    list[str] | None,
    typer.Option("--notify", metavar="URL", help="Send alerts there, by apprise (mailto://, slack://, …); repeat it."),
]
QuietOption = Annotated[
    list[str] | None,
    typer.Option("--quiet", metavar="HH:MM-HH:MM", help="Hours (local time) without alerts; repeat it."),
]
ConsoleOption = Annotated[
    str | None, typer.Option("--console", metavar="URL", help="The console, for links in alerts.")
]
FromOption = Annotated[
    Literal["start", "end"],
    typer.Option("--from", help="Where to begin in files that no watch has read: at their start, or their end."),
]
OnceOption = Annotated[bool, typer.Option("--once", help="Judge what is there, and end.")]


def watch(
    names: NamesArgument,
    source: SourceOption,
    output: WatchOutputOption = None,
    detail: WatchDetailOption = "compact",
    only: OnlyOption = None,
    notify: NotifyOption = None,
    quiet: QuietOption = None,
    console: ConsoleOption = None,
    begin: FromOption = "start",
    once: OnceOption = False,
    format: FormatOption = None,
    text: TextOption = None,
    multiline: MultilineOption = None,
    columns: ColumnsOption = None,
    model: ModelOption = None,
) -> None:
    """Follow files as they grow and judge each record once, across rotation, restarts and crashes. Ctrl-C ends it."""
    from agent.bulk.watch import Watch, WatchOptions

    labels = parse_labels(only)
    context = open_context(model)
    options = read_options(context.source(source), format, text, None, None, multiline, columns)
    if options.series is not None:
        raise UsageError(f"{source} is of time series: watch follows records; judge reads series from whole files")
    wanted = WatchOptions(
        names=tuple(names),
        source=source,
        output=output,
        detail=detail,
        only=labels,
        at_end=begin == "end",
        once=once,
    )
    alerter = _alerter(notify, quiet, console)
    watching = Watch(context, options, wanted, print_status, alerter)

    def stop(number: int, _: object) -> None:
        watching.stop()
        # the next one ends the process at once, which loses nothing
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    with _shown(watching):
        watching.run()
    print_status(_counts(watching) + ("" if "-" in names else "; the same command goes on from here"))
    context.close()
    if watching.exit_code:
        raise typer.Exit(watching.exit_code)


def _alerter(notify: list[str] | None, quiet: list[str] | None, console: str | None) -> Alerter | None:
    from agent.bulk.alerts import Alerter, QuietHours, apprise_sender

    if not notify:
        if quiet or console:
            raise UsageError("--quiet and --console are for alerts: say where to send them with --notify URL")
        return None
    hours = tuple(map(QuietHours.parse, quiet or []))
    return Alerter(apprise_sender(notify), print_status, console, hours)


def _counts(watching: Watch) -> str:
    from agent.core.terminal import plural

    counts = watching.counts
    labels = ", ".join(f"{counts[label]:,} {label}" for label in ("anomalous", "unsure", "normal"))
    failed = f", {watching.failures:,} not judged" if watching.failures else ""
    return f"{plural(counts.total(), 'record')}: {labels}{failed}"


@contextmanager
def _shown(watching: Watch) -> Iterator[None]:
    """Show new anomalous and unsure templates as lines, and below them how it goes: in place where that is possible."""
    from rich.console import Console
    from rich.live import Live

    from agent.core.terminal import STYLES, rich_text, truncate

    started, console = time.monotonic(), Console(stderr=True, highlight=False)
    last = [started]

    def on_group(group: LiveGroup) -> None:
        text = rich_text(f"{group.label} {group.probability:.2f} {group.first_seen} ", STYLES[group.label])
        text.append(truncate(group.text, _TEXT_CHARS))
        text.append(f"  ({truncate(group.why, _TEXT_CHARS)})", style="dim")
        console.print(text, soft_wrap=True)

    watching.on_group = on_group
    if not sys.stderr.isatty():

        def show_line(_: Any) -> None:
            if time.monotonic() - last[0] >= _LINE_SECONDS:
                last[0] = time.monotonic()
                print_status(_counts(watching))

        watching.show = show_line
        yield
        return
    with Live(console=console, refresh_per_second=4, transient=True) as live:

        def show(_: Any) -> None:
            seconds = max(time.monotonic() - started, 1e-9)
            rate = watching.counts.total() / seconds
            live.update(rich_text(f"watching {', '.join(watching.options.names)}: {_counts(watching)} ({rate:,.0f}/s)"))

        watching.show = show
        yield
