"""What any terminal output needs: escaping, styles, a progress bar."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from agent.core.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
STYLES = {"anomalous": "bold red", "unsure": "yellow", "normal": "green"}


def escape_controls(rich_text: str) -> str:
    """Text that a terminal only shows: control characters, which could steer it, made visible."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found.group()):02x}", rich_text)


def rich_text(said: str, style: str = "") -> Text:
    """Text for a terminal, see `escape_controls`."""
    from rich.text import Text

    return Text(escape_controls(said), style=style)


def console() -> Console:
    from rich.console import Console

    return Console(highlight=False)


def print_line(line: Text) -> None:
    """A line as long as it is: it may be copied, or read by a program."""
    console().print(line, soft_wrap=True)


@contextmanager
def progress() -> Iterator[Callable[..., None]]:
    """A bar on standard error, where that is a terminal.

    The callback takes what is done, how many, of how many (0: nobody knows) and, if there is more to say, a note.
    """
    if not sys.stderr.isatty():
        yield lambda doing, done, total, note="": None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, Any] = {}

        def show(doing: str, done: int, total: int, note: str = "") -> None:
            if doing not in tasks:
                tasks[doing] = bar.add_task(doing, total=total or None)
            bar.update(tasks[doing], completed=done, total=total or None, description=f"{doing} {note}".strip())

        yield show


def open_output(output: Path) -> TextIO:
    """The file, to be written anew.

    Raises:
        UsageError: it cannot be.
    """
    try:
        return output.open("w", encoding="utf-8", newline="")
    except OSError as error:
        raise UsageError(f"{output} cannot be written: {error.strerror}") from error


def truncate(said: str, most: int) -> str:
    """On one line, of at most so many characters."""
    said = " ".join(said.split())
    return said if len(said) <= most else said[: most - 1] + "…"


def unfamiliar_records_warning(source: str, far: int, records: int) -> str:
    return (
        f"{far:,} of {records:,} records are farther from every case of {source} than nearly all cases are from each "
        "other: are they records of this source? Verdicts on them rest on little"
    )


def plural(count: int, noun: str, many: str | None = None) -> str:
    """The number and its noun: ``1 record``, ``2,000 records``."""
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"
