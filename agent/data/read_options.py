"""How a source's files are read: what `learn` was told, `judge` and `evaluate` remember."""

from __future__ import annotations

import io
import signal
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel, ConfigDict

from agent.data.readers import DEFAULT_NORMAL, Format, ParsedRow, RowError, read
from agent.data.readers.row import ReadRequest

_SAMPLE_ROWS = 50
_SAMPLE_BYTES = 1 << 16


class ReadOptions(BaseModel):
    """Reading options: format, text columns, label column, label values that are normal.

    ``label_values``: the commonest label values seen by `learn`; by them a numbered label column is recognised in
    a file that may or may not have one.
    """

    model_config = ConfigDict(frozen=True)

    format: Format = "auto"
    text: tuple[str, ...] = ()
    label: str | None = None
    normal: tuple[str, ...] = DEFAULT_NORMAL
    label_values: tuple[str, ...] = ()

    def with_values(self, values: Sequence[str]) -> ReadOptions:
        return self.model_copy(update={"label_values": tuple(values)})

    def read(self, path: str | Path, max_chars: int) -> Iterator[ParsedRow | RowError]:
        """Readings of a file that must have the label column, if there is one to have."""
        return self._read(path, max_chars, self.label, lenient=False, stdin=_stdin(path))

    def read_unlabelled(self, path: str | Path, max_chars: int) -> Iterator[ParsedRow | RowError]:
        """Readings of a file that may lack the label column; where it is there, it is kept out of the record."""
        label, stdin = self.label_in(path, max_chars)
        return self._read(path, max_chars, label, lenient=True, stdin=stdin)

    def label_in(self, path: str | Path, max_chars: int) -> tuple[str | None, BinaryIO | None]:
        """The label column, None where the file seems to lack it; and standard input from its beginning, for ``-``."""
        stdin = _stdin(path)
        sample = stdin.read(_SAMPLE_BYTES) if stdin else b""
        label = self.label
        if label is not None and label.isdigit():
            first = self._read(path, max_chars, label, lenient=True, stdin=io.BytesIO(sample) if stdin else None)
            seen = [item.label_value for item in islice(first, _SAMPLE_ROWS) if isinstance(item, ParsedRow)]
            if sum(value in self.label_values for value in seen) * 2 < len(seen):
                label = None
        return label, _Replayed(sample, stdin) if stdin else None

    def request(self, path: str | Path, label: str | None, max_chars: int) -> ReadRequest:
        """What is asked of a file that may lack the columns; ``label``: see `label_in`."""
        return ReadRequest.of(path, text=self.text, label=label, normal=self.normal, max_chars=max_chars, lenient=True)

    def _read(
        self, path: str | Path, max_chars: int, label: str | None, *, lenient: bool, stdin: BinaryIO | None
    ) -> Iterator[ParsedRow | RowError]:
        return read(
            path,
            format=self.format,
            text=self.text,
            label=label,
            lenient=lenient,
            normal=self.normal,
            max_chars=max_chars,
            stdin=stdin,
        )


def _stdin(path: str | Path) -> BinaryIO | None:
    if str(path) != "-":
        return None
    if hasattr(signal, "siginterrupt"):
        # polars, where it is loaded, makes reads that wait go on after Ctrl-C
        signal.siginterrupt(signal.SIGINT, True)
    return sys.stdin.buffer


class _Replayed(io.RawIOBase, BinaryIO):
    """Standard input from its beginning, after some of it was looked at."""

    def __init__(self, seen: bytes, rest: BinaryIO) -> None:
        self._seen, self._rest = seen, rest

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            everything, self._seen = self._seen + self._rest.read(), b""
            return everything
        if self._seen:
            part, self._seen = self._seen[:size], self._seen[size:]
            return part
        return self._rest.read(size)

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        part = self.read(len(buffer))
        buffer[: len(part)] = part
        return len(part)
