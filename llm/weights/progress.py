"""The progress of a download on stderr: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn


class DownloadProgress:
    """A context manager that shows how much of a download is done.

    Parameters
    ----------
    title : str
        What is downloaded.
    total : int
        Its size in bytes.
    """

    def __init__(self, title: str, total: int) -> None:
        console = Console(stderr=True)
        columns = BarColumn(), DownloadColumn(), TimeRemainingColumn(), TransferSpeedColumn()
        self._bar = Progress("{task.description}", *columns, console=console, disable=not console.is_terminal)
        self._title, self._total, self._done = title, total, 0
        self._task = self._bar.add_task(title, total=total)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def update(self, done: int, total: int | None = None) -> None:
        """Set the number of downloaded bytes, and their total where it was not known before; called often."""
        self._done, self._total = done, self._total if total is None else total
        self._bar.update(self._task, completed=done, total=self._total or None)

    def note(self, line: str) -> None:
        """Print a line, such as that a part is complete."""
        share = f"{self._done / 1e6:.0f} of {self._total / 1e6:.0f} MB"
        console = self._bar.console
        console.print(f"{self._title}: {line} ({share})", markup=False, highlight=False, soft_wrap=True)
