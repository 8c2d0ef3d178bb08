"""A line for each record: short, with its template's id, or with the whole verdict; and going on where it stopped."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from agent.core.errors import UsageError
from agent.core.records import JudgeError, Verdict
from agent.pipeline.verdict_json import VerdictTemplate

Detail = Literal["compact", "full"]
To = Literal["jsonl", "csv"]
T = TypeVar("T")
Ints = NDArray[np.int64] | NDArray[np.int32]
COLUMNS = ("file", "line", "label", "probability", "template")
_TOGETHER = 1_024


class LineFormatter:
    """Makes the lines of records whose slots' verdicts it knows."""

    def __init__(self, detail: Detail, to: To) -> None:
        self._detail, self._to = detail, to
        self._ends: list[str] = []
        self._wholes: list[VerdictTemplate | None] = []

    @property
    def header(self) -> bytes:
        return (",".join(COLUMNS) + "\n").encode() if self._to == "csv" else b""

    def know(self, answer: Verdict | JudgeError, template: str) -> None:
        """The answer to the next slot."""
        if self._detail == "full":
            self._wholes.append(VerdictTemplate.of(answer) if isinstance(answer, Verdict) else None)
        else:
            self._ends.append(self._end(answer, template) if isinstance(answer, Verdict) else "")

    def _end(self, verdict: Verdict, template: str) -> str:
        p = round(verdict.probability, 6)
        if self._to == "csv":
            return f",{verdict.label},{p},{template}"
        return f', "label": "{verdict.label}", "probability": {p}, "template": "{template}"}}'

    def one(self, verdict: Verdict, template: str) -> bytes:
        """The line of a record with a verdict of its own."""
        if self._detail == "full":
            return (verdict.to_json() + "\n").encode()
        record = verdict.record
        line = "" if record.line is None and self._to == "csv" else json.dumps(record.line)
        return f"{self._start(record.file or '-')}{line}{self._end(verdict, template)}\n".encode()

    def _start(self, file: str) -> str:
        return _cell(file) + "," if self._to == "csv" else f'{{"file": {json.dumps(file, ensure_ascii=False)}, "line": '

    def of(self, file: str, numbers: Ints, slots: Ints, texts: Callable[[], Sequence[str]]) -> Iterator[bytes]:
        """The lines of n records of ``file``: their line numbers, slots and, where they are needed, their texts."""
        if not len(numbers):
            return
        if self._detail == "full":
            known = self._wholes
            every = zip(numbers.tolist(), slots.tolist(), texts(), strict=True)
            pieces = ((*one.about(text, file, line), b"\n") for line, slot, text in every if (one := known[slot]))
            while some := list(islice(pieces, _TOGETHER)):
                yield b"".join(chain.from_iterable(some))
            return
        import polars as pl

        frame = pl.DataFrame({"line": numbers, "end": pl.Series(self._ends).gather(slots)})
        line = pl.concat_str(pl.lit(self._start(file)), pl.col("line").cast(pl.String), pl.col("end"))
        joined: str = frame.select(line).to_series().str.join("\n").item()
        yield (joined + "\n").encode()


def _cell(value: str) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow([value])
    return line.getvalue()


class Output:
    """Where the lines go, how far they are, and the file beside it that says from where to go on."""

    def __init__(self, path: Path | None, run: str, *, templates: bool, resume: bool) -> None:
        self._path, self._run = path, run
        self.state: dict[str, Any] = {}
        self.known = set[str]()
        self.unfinished = False
        if path is None:
            self._stream: BinaryIO = sys.stdout.buffer
            self._templates: BinaryIO | None = None
            return
        self._resume = path.with_name(path.name + ".resume.json")
        self.unfinished = not resume and self._resume.exists()
        if resume:
            self.state = self._kept()
            if not self.state and path.exists() and path.stat().st_size:
                raise UsageError(f"{path} is finished: there is nothing to resume; without --resume it begins anew")
        try:
            self._stream = _opened(path, self.state.get("written"))
            beside = path.with_name(path.name + ".templates.jsonl")
            self._templates = _opened(beside, self.state.get("templates")) if templates else None
        except OSError as error:
            raise UsageError(f"{path} cannot be written: {error.strerror}") from error
        if self.state:
            self.known = self._known(beside) if templates else set(self.state.get("known", ()))

    def write(self, lines: bytes) -> None:
        self._stream.write(lines)
        if self._path is None:
            self._stream.flush()

    def template(self, name: str, verdict: Verdict) -> bool:
        """The verdict of a template, in the file of the templates, once; whether it is a new one."""
        if name in self.known:
            return False
        self.known.add(name)
        if self._templates is not None:
            body = {"template": name, **verdict.model_dump(mode="json")}
            self._templates.write((json.dumps(body, ensure_ascii=False) + "\n").encode())
        return True

    def flush(self) -> None:
        self._stream.flush()

    def checkpoint(self, **state: Any) -> None:
        """All that was written so far is kept, and a run that resumes begins here."""
        if self._path is None:
            return
        self._stream.flush()
        said = {"run": self._run, "written": self._stream.tell(), **state}
        if self._templates is not None:
            self._templates.flush()
            said["templates"] = self._templates.tell()
        else:
            said["known"] = sorted(self.known)
        aside = self._resume.with_suffix(".tmp")
        aside.write_text(json.dumps(said), encoding="utf-8")
        aside.replace(self._resume)

    def close(self, *, whole: bool) -> None:
        """``whole``: the run came to its end, so that there is nothing to resume."""
        self._stream.flush()
        if self._path is not None:
            self._stream.close()
            if self._templates is not None:
                self._templates.close()
            if whole:
                self._resume.unlink(missing_ok=True)

    def _kept(self) -> dict[str, Any]:
        try:
            state: dict[str, Any] = json.loads(self._resume.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise UsageError(f"{self._resume} cannot be read: {error}; without --resume it begins anew") from error
        if state.get("run") != self._run:
            raise UsageError(
                f"{self._path} was begun with other files, options, casebook or model: without --resume it begins anew"
            )
        return state

    @staticmethod
    def _known(templates: Path) -> set[str]:
        with templates.open(encoding="utf-8") as lines:
            return {json.loads(line)["template"] for line in lines}


def _opened(path: Path, size: int | None) -> BinaryIO:
    """The file cut to its first ``size`` bytes; empty for None."""
    if size is None:
        return path.open("wb")
    stream = path.open("r+b")
    stream.truncate(size)
    stream.seek(size)
    return stream


def as_parquet(path: Path, run: Callable[[Path, Callable[[Any], None]], T]) -> T:
    """What ``run`` makes, its short lines as columns of a Parquet file; the templates beside it as they are.

    ``run`` is given where to write the lines, and what to call when they are there, before it is finished.
    """
    import polars as pl

    beside = path.with_name(path.name + ".jsonl")
    schema = {"file": pl.String, "line": pl.Int64, "label": pl.String, "probability": pl.Float64, "template": pl.String}
    made = run(beside, lambda _: pl.scan_ndjson(beside, schema=schema).sink_parquet(path))
    beside.unlink()
    beside.with_name(beside.name + ".templates.jsonl").replace(path.with_name(path.name + ".templates.jsonl"))
    return made
