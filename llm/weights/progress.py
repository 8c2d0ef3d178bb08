"""How a download is told to the person who waits: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Protocol, Self

MEGABYTE = 1_000_000


class Progress(Protocol):
    """What a download reports to; a context manager that is open while bytes flow."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def at(self, done: int) -> None:
        """``done`` bytes of the total are here; called often."""

    def note(self, line: str) -> None:
        """Something worth one line: a part is complete, another way is tried."""


class ProgressLines:
    """Plain lines on stderr, for logs and pipes: notes only."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total, self._done = what, total, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def at(self, done: int) -> None:
        self._done = done

    def note(self, line: str) -> None:
        here = f"{self._done / MEGABYTE:.0f} of {self._total / MEGABYTE:.0f} MB"
        print(f"{self._what}: {line} ({here})", file=sys.stderr, flush=True)


class Bar:
    """A rich progress bar on stderr with bytes, speed and time left."""

    def __init__(self, what: str, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn, TransferSpeedColumn
        from rich.progress import Progress as RichProgress

        self._rich = RichProgress(
            "{task.description}",
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task = self._rich.add_task(what, total=total)

    def __enter__(self) -> Self:
        self._rich.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rich.stop()

    def at(self, done: int) -> None:
        self._rich.update(self._task, completed=done)

    def note(self, line: str) -> None:
        self._rich.console.print(line, markup=False, highlight=False)


def progress_for(what: str, total: int) -> Progress:
    """A bar if stderr is a terminal, lines otherwise; ``total`` in bytes."""
    return Bar(what, total) if sys.stderr.isatty() else ProgressLines(what, total)
