"""What was measured of a data set, as JSON: written after each system, so that a run that is cut off loses nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from agent.core.errors import UsageError
from benchmarks.systems.measuring import Row


@dataclass(frozen=True)
class Section:
    """A data set of the page.

    Attributes
    ----------
    learned, judged, anomalous : int
        Records; ``anomalous`` of those judged.
    limit : int
        Most records of a side, 0 for all of them.
    draw : int
        Seed of the draw, and of the samples.
    machine : str
    rows : tuple of Row
    """

    name: str
    protocol: str
    learned: int
    judged: int
    anomalous: int
    limit: int
    draw: int
    machine: str
    rows: tuple[Row, ...] = field(default_factory=tuple)

    def to_json(self) -> dict[str, Any]:
        """As plain values, see `from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Section:
        """The section that `to_json` gave ``data`` of."""
        return cls(**{**data, "rows": tuple(Row(**row) for row in data["rows"])})


def write(path: Path, sections: Iterable[Section]) -> None:
    """Replace the file as a whole."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps([section.to_json() for section in sections], indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def read(paths: Iterable[Path]) -> list[Section]:
    """The sections of several files; of a data set and draw that several have, the rows of all, the last of a system.

    Raises
    ------
    UsageError
        A file is not one that `write` wrote, or two files measured a data set differently.
    """
    found: dict[tuple[str, int, int], Section] = {}
    for path in paths:
        try:
            sections = [Section.from_json(data) for data in json.loads(path.read_text(encoding="utf-8"))]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UsageError(f"{path} is not a file of `precedent bench systems --json`: {error}") from error
        for section in sections:
            key = (section.name, section.limit, section.draw)
            before = found.setdefault(key, section)
            if (before.learned, before.judged, before.machine) != (section.learned, section.judged, section.machine):
                raise UsageError(f"{path} measured {section.name} on other records or another machine")
            rows = {row.system: row for row in (*before.rows, *section.rows)}
            found[key] = replace(before, rows=tuple(rows.values()))
    return list(found.values())


def machine() -> str:
    """The processor and, where there is one, the GPU, in words."""
    name = f"{os.cpu_count()} CPU cores"
    import torch

    return f"{name}, {torch.cuda.get_device_name()}" if torch.cuda.is_available() else f"{name}, no GPU"
