"""The files that are written: rows as CSV or JSON lines, each complete or not there."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from agent.core.errors import InputError
from agent.data.datasets.catalog import Layout
from agent.data.datasets.rows import NORMAL, LeftOut, Row, RowSet

LABEL = "label"
_REPORTED_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A file that was written, with its rows by label."""

    path: Path
    labels: Mapping[str, int]

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return sum(self.labels.values())

    @property
    def anomalous(self) -> int:
        """How many of them are anomalous."""
        return sum(count for label, count in self.labels.items() if label not in ("", NORMAL))


def counted(rows: Iterator[Row | LeftOut], progress: Callable[..., None], task: str) -> Iterator[Row | LeftOut]:
    """The rows, while ``progress`` gets their number."""
    for number, row in enumerate(rows, start=1):
        if not number % _REPORTED_ROWS:
            progress(task, number, 0)
        yield row


def write_files(
    rows: RowSet,
    parts: NDArray[np.int8],
    used: Sequence[tuple[int, str]],
    folder: Path,
    layout: Layout,
    progress: Callable[..., None],
) -> list[WrittenFile]:
    """Write each row to the file of its part.

    Parameters
    ----------
    rows
        The rows; their columns are those of the files, with the label as the last.
    parts
        The part of each row.
    used
        The numbers of the parts that are written, with the names of their files.
    folder
        Where they are written.
    layout
        Says the format.
    progress
        See `agent.data.datasets.prepare.prepare`.

    Raises
    ------
    InputError
        There are more or fewer rows than parts.
    """
    drafts = {number: folder / f".{name}.partial" for number, name in used}
    streams = {number: draft.open("w", encoding="utf-8", newline="") for number, draft in drafts.items()}
    counts = {number: Counter[str]() for number in streams}
    try:
        writers = {number: _writer(stream, rows.columns, layout) for number, stream in streams.items()}
        chosen = (row for row in counted(rows.read(), progress, "write") if isinstance(row, Row))
        done = 0
        for part, row in zip(parts.data, chosen, strict=False):
            done += 1
            if part in writers:
                writers[part](row)
                counts[part][row.label or ""] += 1
        if done < len(parts) or next(chosen, None) is not None:
            raise InputError("the files have changed while they were read: run it again when they are complete")
        for stream in streams.values():
            stream.close()
        for number, name in used:
            drafts[number].replace(folder / name)
    finally:
        for number, stream in streams.items():
            stream.close()
            drafts[number].unlink(missing_ok=True)
    return [WrittenFile(folder / name, dict(counts[number].most_common())) for number, name in used]


def _writer(stream: TextIO, columns: Sequence[str], layout: Layout) -> Callable[[Row], None]:
    if layout.output == "csv":
        table = csv.writer(stream, lineterminator="\n")
        table.writerow([*columns, LABEL])
        return lambda row: table.writerow([*row.cells, row.label])

    def write(row: Row) -> None:
        value = dict(zip(columns, row.cells, strict=True)) | ({} if row.label is None else {LABEL: row.label})
        stream.write(json.dumps(value, ensure_ascii=False) + "\n")

    return write
