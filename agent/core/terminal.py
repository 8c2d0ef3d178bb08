"""Helpers for terminal output: escaping, styles, plurals, a progress bar, output files."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from agent.core.writing import writing

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text


# control characters; invisible ones that reorder, hide or join what is shown (but the joiners of scripts and emoji,
# U+200C and U+200D, which texts need); and tags, which spell invisible texts
_CONTROL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    r"\ufff9-\ufffb\U000e0000-\U000e007f]"
)
# columns where there is no terminal
_UNBOUNDED = 10_000
STYLES = {"anomalous": "bold red", "unsure": "yellow", "normal": "green"}


def escape_controls(text: str) -> str:
    r"""Replace control characters, which could steer a terminal, and invisible ones by visible escapes.

    >>> escape_controls("a\x1b[2J \u202eb")
    'a\\x1b[2J \\u202eb'
    """
    return _CONTROL.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def rich_text(text: str, style: str = "") -> Text:
    """Escaped text for a terminal, see `escape_controls`."""
    from rich.text import Text

    return Text(escape_controls(text), style=style)


def is_terminal(stream: Any) -> bool:
    """Whether a person looks at what is written to the stream."""
    return bool(stream.isatty())


def escape_json(text: str, stream: Any) -> str:
    r"""JSON for a stream: what could steer a terminal is escaped, as JSON has it, if the stream is one.

    >>> terminal = type("Terminal", (), {"isatty": lambda self: True})()
    >>> escape_json('{"text": "a‮b"}', terminal)
    '{"text": "a\\u202eb"}'
    """
    return _CONTROL.sub(_escaped_in_json, text) if is_terminal(stream) else text


def _escaped_in_json(match: re.Match[str]) -> str:
    # a character beyond U+FFFF is a pair of surrogates
    return json.dumps(match.group())[1:-1] if match.group() > "\x7f" else f"\\u{ord(match.group()):04x}"


def console(stream: Any = None) -> Console:
    """A console on a stream, or on standard output; where that is no terminal, it is as wide as what is written.

    A reader that closes its end raises `BrokenPipeError`.
    """
    from rich.console import Console

    class OutputConsole(Console):
        def on_broken_pipe(self) -> None:
            raise

    stream = stream or sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else _UNBOUNDED
    return OutputConsole(file=stream, highlight=False, width=width)


def print_line(text: str, style: str = "") -> None:
    """Print an escaped line without wrapping it, so that it can be copied or read by a program."""
    console().print(rich_text(text, style), soft_wrap=True)


@contextmanager
def progress() -> Iterator[Callable[..., None]]:
    """Show a progress bar on standard error if that is a terminal.

    Yields
    ------
    callable
        Takes the name of a task, the number of items done, their total (0 if unknown) and, optionally, a note.
    """
    if not sys.stderr.isatty():
        yield lambda task, done, total, note="": None
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

        def show(task: str, done: int, total: int, note: str = "") -> None:
            if task not in tasks:
                tasks[task] = bar.add_task(task, total=total or None)
            bar.update(tasks[task], completed=done, total=total or None, description=f"{task} {note}".strip())

        yield show


def open_output(output: Path) -> TextIO:
    """Open a file for writing; its previous content is lost.

    Raises
    ------
    UsageError
        The file cannot be written.
    """
    with writing(output):
        return output.open("w", encoding="utf-8", newline="")


def truncate(text: str, max_chars: int) -> str:
    """The text on one line of at most ``max_chars`` characters."""
    text = " ".join(text.split())
    return text if len(text) <= max_chars else text[: max_chars - 1] + "…"


def unfamiliar_records_warning(source: str, far: int, records: int) -> str:
    """The warning that most records are far from the source's cases."""
    return (
        f"{far:,} of {plural(records, 'record')} are farther from every case of {source} than nearly all cases are "
        "from each other: are they records of this source? Their verdicts rest on little evidence "
        f"(precedent sources propose {source} says what to do)"
    )


def plural(count: int, noun: str) -> str:
    """The number and its noun: ``1 record``, ``2,000 records``."""
    return f"{count:,} {noun if count == 1 else noun + 's'}"
