"""Data sets of the tests' own making, in the layouts of the public ones."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.data.datasets.catalog import find_dataset
from agent.data.datasets.prepare import Prepared, PrepareOptions, prepare

Write = Callable[[str, str | bytes], Path]


class Got:
    """What `prepare` wrote."""

    def __init__(self, prepared: Prepared) -> None:
        self.prepared = prepared

    def rows(self, part: str) -> list[dict[str, Any]]:
        file = next(file.path for file in self.prepared.files if file.path.stem == part)
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".jsonl":
            return [json.loads(line) for line in text.splitlines()]
        return list(csv.DictReader(text.splitlines()))

    def labels(self, part: str) -> list[str]:
        return [row["label"] for row in self.rows(part)]

    @property
    def all_rows(self) -> list[dict[str, Any]]:
        return [row for file in self.prepared.files for row in self.rows(file.path.stem)]

    @property
    def left_out(self) -> dict[str, int]:
        return {item.reason: item.count for item in self.prepared.left_out}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file into the folder of the set."""

    def made(name: str, content: str | bytes) -> Path:
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return made


@pytest.fixture
def get(tmp_path: Path) -> Callable[..., Got]:
    """Prepare a set from a path, by default the folder of `write`."""

    def got(name: str, path: Path | None = None, **options: Any) -> Got:
        progress = options.pop("progress", lambda *_: None)
        chosen = PrepareOptions(to=options.pop("to", tmp_path / "out"), **options)
        return Got(prepare(find_dataset(name), path or tmp_path / "set", chosen, progress))

    return got


def table(header: Sequence[str] | None, rows: Iterable[Sequence[object]]) -> str:
    lines = [header] if header else []
    return "".join(",".join(map(str, row)) + "\n" for row in [*lines, *rows])
