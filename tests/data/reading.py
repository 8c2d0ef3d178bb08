"""Read a file with options, as a source does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent.data.read_options import ReadOptions
from agent.data.readers import ParsedRow, RowError


def read(
    path: str | Path, *, max_chars: int = 65_536, lenient: bool = False, stdin: Any = None, **options: Any
) -> Iterator[ParsedRow | RowError]:
    return ReadOptions(**options).read(path, max_chars, lenient=lenient, stdin=stdin)
