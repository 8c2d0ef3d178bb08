"""The output of a bulk run: a line for each record, short or the whole verdict; files that can be continued."""

from __future__ import annotations

import json
import re
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json

from agent.bulk.checksummed_file import ChecksummedFile
from agent.core.errors import UsageError
from agent.core.records import JudgeError, Verdict
from agent.core.spreadsheet import neutralised
from agent.core.terminal import escape_json, is_terminal, truncate
from agent.core.writing import cannot_be_written, writing
from agent.pipeline.verdict_json import VerdictTemplate, degraded_member, text_content
from retrieval.text.template_hash import joined

Detail = Literal["compact", "full"]
To = Literal["jsonl", "csv"]
Ints = NDArray[np.int64] | NDArray[np.int32]
COLUMNS = ("file", "line", "label", "probability", "template")
CSV_COLUMNS = (*COLUMNS, "id", "reason", "text")
_REASONS, _REASON_CHARS = 2, 200
_LINES_PER_WRITE = 1_024
# what comes before the checksum of a checkpoint, which is that of the object without it
_CHECKSUM = b',"crc32":'
_QUOTE, _MUST_BE_QUOTED = '"', re.compile(r'[",\r\n]')


class LineFormatter:
    """Formats the lines of records from the verdicts of their groups.

    Parameters
    ----------
    detail, to
    raw : bool
        Whether cells of CSV that a spreadsheet would compute stay as they are.
    """

    def __init__(self, detail: Detail, to: To, *, raw: bool = False) -> None:
        self._detail, self._to, self._raw = detail, to, raw
        self._endings: list[str] = []
        self._templates: list[VerdictTemplate | None] = []

    @property
    def header(self) -> bytes:
        """The first line of the output, empty for JSON lines."""
        return (",".join(CSV_COLUMNS) + "\n").encode() if self._to == "csv" else b""

    def add_group(self, result: Verdict | JudgeError, template: str) -> None:
        """Add the verdict of the next group number."""
        if self._detail == "full":
            self._templates.append(VerdictTemplate.of(result) if isinstance(result, Verdict) else None)
        else:
            self._endings.append(self._ending(result, template) if isinstance(result, Verdict) else "")

    def forget(self) -> None:
        """Forget all groups: the next one is the first again."""
        self._endings.clear()
        self._templates.clear()

    def _ending(self, verdict: Verdict, template: str) -> str:
        p = round(verdict.probability, 6)
        if self._to == "csv":
            return f",{verdict.label},{p},{template},{self.named(verdict)},"
        degraded = degraded_member(verdict.degraded)
        return f', "label": "{verdict.label}", "probability": {p}, "template": "{template}"{degraded}}}'

    def named(self, verdict: Verdict) -> str:
        """The cells of a verdict's id and reason, without those of JSON lines, which have none."""
        if self._to != "csv":
            return ""
        return f"{verdict.id},{self._cell(truncate('; '.join(verdict.facts[:_REASONS]), _REASON_CHARS))}"

    def format_verdict(self, verdict: Verdict, template: str) -> bytes:
        """The line of a single record that has been judged by itself."""
        if self._detail == "full":
            return (verdict.to_json() + "\n").encode()
        record = verdict.record
        line = "" if record.line is None and self._to == "csv" else json.dumps(record.line)
        text = self._cell(record.text) if self._to == "csv" else ""
        return f"{self._start(record.file or '-')}{line}{self._ending(verdict, template)}{text}\n".encode()

    def format_rows(
        self,
        file: str,
        lines: NDArray[np.int64],
        labels: Sequence[str],
        probabilities: NDArray[np.float64],
        templates: Sequence[str],
        verdicts: Sequence[str],
        texts: Sequence[str],
        degraded: Sequence[tuple[str, ...]],
    ) -> bytes:
        """The short lines of n rows of one file; CSV takes what `named` gives of their ``verdicts``, and ``texts``.

        A row in line 0 has none.
        """
        # imported late: single records need no polars
        from agent.bulk.row_lines import json_lines, rounded_texts

        start, rounded = self._start(file), rounded_texts(probabilities)
        if self._to == "jsonl":
            return json_lines(start, lines, labels, rounded, templates, list(map(degraded_member, degraded)))
        columns = zip(lines.tolist(), labels, rounded, templates, verdicts, texts, strict=True)
        out = []
        for line, label, p, template, verdict, text in columns:
            out.append(f"{start}{line or ''},{label},{p},{template},{verdict or ','},{self._cell(text)}\n")
        return "".join(out).encode()

    def _start(self, file: str) -> str:
        if self._to == "csv":
            return self._cell(file) + ","
        return f'{{"file": {json.dumps(file, ensure_ascii=False)}, "line": '

    def _cell(self, value: str) -> str:
        return _quoted(value if self._raw else neutralised(value))

    def format_lines(
        self,
        file: str,
        lines: Ints,
        groups: Ints,
        texts: Callable[[], Sequence[str]],
        times: Callable[[], Sequence[str | None]] | None = None,
    ) -> Iterator[bytes]:
        """Format n records of one file.

        Parameters
        ----------
        file : str
        lines : ndarray of shape (n,)
            Their line numbers.
        groups : ndarray of shape (n,)
            Their group numbers.
        texts : callable
            Gives their texts; called only for whole verdicts and CSV.
        times : callable, optional
            Gives their times; called only for whole verdicts.

        Yields
        ------
        bytes
            One or more lines.
        """
        if not len(lines):
            return
        if self._detail == "full":
            moments = times() if times else [None] * len(lines)
            records = zip(lines.tolist(), groups.tolist(), texts(), moments, strict=True)
            pieces = (
                (*template.about(text_content(text), file, line, time), b"\n")
                for line, group, text, time in records
                if (template := self._templates[group])
            )
            while batch := list(islice(pieces, _LINES_PER_WRITE)):
                yield b"".join(chain.from_iterable(batch))
            return
        import polars as pl

        frame = pl.DataFrame({"line": lines, "end": pl.Series(self._endings).gather(groups)})
        line = pl.concat_str(pl.lit(self._start(file)), pl.col("line").cast(pl.String), pl.col("end"))
        if self._to == "csv":
            frame = frame.with_columns(text=pl.Series(map(self._cell, texts()), dtype=pl.String))
            line = pl.concat_str(line, pl.col("text"))
        yield joined(frame.select(line).to_series())


def short_id(key: str) -> str:
    """Short form of the key of a group or a template."""
    return "t" + key[:15]


def _quoted(value: str) -> str:
    return f'"{value.replace(_QUOTE, _QUOTE * 2)}"' if _MUST_BE_QUOTED.search(value) else value


class Output:
    """The output file, the file of templates beside it, and the checkpoint file from which a run is resumed.

    Parameters
    ----------
    path : Path or None
        The output file; None is standard output, which has no checkpoints.
    run : str
        Identifies the run; only a run with the same id can be resumed.
    templates : bool
        Whether to write the file of templates.
    resume : bool
        Whether to continue the file.

    Attributes
    ----------
    state : dict
        The checkpoint that is continued, empty for none.
    known : set of str
        Templates that are written.
    unfinished : bool
        Whether a file that could have been resumed is begun again.

    Raises
    ------
    UsageError
        The file cannot be written, or it cannot be resumed.
    """

    def __init__(self, path: Path | None, run: str, *, templates: bool, resume: bool) -> None:
        self._path, self._run = path, run
        self.state: dict[str, Any] = {}
        self.known = set[str]()
        self.unfinished = False
        if path is None:
            self._stream: BinaryIO | ChecksummedFile = sys.stdout.buffer
            self._templates: ChecksummedFile | None = None
            return
        self._resume = path.with_name(path.name + ".resume.json")
        with writing(self._resume):
            self.unfinished = not resume and self._resume.exists()
        if resume:
            self.state = self._checkpoint_state()
            if not self.state and path.exists() and path.stat().st_size:
                raise UsageError(
                    f"{path} is finished: there is nothing to resume; without --resume it is written again, with what "
                    "the input holds by now (`precedent watch` judges what a growing file gains)"
                )
        try:
            self._stream = ChecksummedFile(path, self.state.get("written"))
            beside = path.with_name(path.name + ".templates.jsonl")
            self._templates = ChecksummedFile(beside, self.state.get("templates")) if templates else None
        except OSError as error:
            raise self._failed(error) from error
        if self.state:
            self.known = _names(beside) if templates else set(self.state.get("known", ()))

    def write(self, lines: bytes) -> None:
        """Write lines; standard output is flushed."""
        if self._path is None and is_terminal(sys.stdout):
            lines = escape_json(lines.decode(), sys.stdout).encode()
        try:
            self._stream.write(lines)
            if self._path is None:
                self._stream.flush()
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> Exception:
        """The error to raise where the files cannot be written."""
        if isinstance(error, BrokenPipeError):
            return error
        can_resume = self._path is not None and self._resume.exists()
        hint = "then the same command with --resume continues" if can_resume else None
        return cannot_be_written(self._path, error, hint)

    def write_template(self, name: str, verdict: Verdict | bytes) -> bool:
        """Write a template's verdict, or its line, unless it is written already; returns whether it was new."""
        if name in self.known:
            return False
        self.known.add(name)
        if self._templates is not None:
            line = verdict if isinstance(verdict, bytes) else template_line(name, verdict)
            try:
                self._templates.write(line)
            except OSError as error:
                raise self._failed(error) from error
        return True

    def flush(self) -> None:
        """Flush the output file."""
        try:
            self._stream.flush()
        except OSError as error:
            raise self._failed(error) from error

    def checkpoint(self, **state: Any) -> None:
        """Flush the files and store ``state``, also of models, from which a run with ``--resume`` continues."""
        if self._path is None:
            return
        try:
            self._write_checkpoint(state)
        except OSError as error:
            raise self._failed(error) from error

    def _write_checkpoint(self, state: Mapping[str, Any]) -> None:
        assert isinstance(self._stream, ChecksummedFile)
        body: dict[str, Any] = {"run": self._run, "written": self._stream.flushed(), **state}
        if self._templates is not None:
            body["templates"] = self._templates.flushed()
        else:
            body["known"] = sorted(self.known)
        temporary = self._resume.with_suffix(".tmp")
        try:
            written = to_json(body)
            temporary.write_bytes(written.removesuffix(b"}") + _CHECKSUM + b"%d}" % zlib.crc32(written))
            temporary.replace(self._resume)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise

    def close(self, *, finished: bool) -> None:
        """Close the files; a run that is ``finished`` leaves no checkpoint."""
        try:
            if self._path is None:
                self._stream.flush()
                return
            with self._stream, self._templates or nullcontext():
                pass
            if finished:
                self._resume.unlink(missing_ok=True)
        except OSError as error:
            raise self._failed(error) from error

    def _checkpoint_state(self) -> dict[str, Any]:
        try:
            content = self._resume.read_bytes()
            state: dict[str, Any] = json.loads(content)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{self._resume} cannot be read: {error}; without --resume the run starts again"
            ) from error
        if state.get("run") != self._run:
            raise UsageError(
                f"{self._path} was begun with other files, options, casebook or model; "
                "without --resume it is written again"
            )
        body, _, checksum = content.rpartition(_CHECKSUM)
        if checksum != b"%d}" % zlib.crc32(body + b"}"):
            raise UsageError(f"{self._resume} is damaged; without --resume the run starts again")
        return state


def template_line(name: str, verdict: Verdict) -> bytes:
    """The line of the file of templates."""
    return (json.dumps({"template": name, **verdict.model_dump(mode="json")}, ensure_ascii=False) + "\n").encode()


def _names(templates: Path) -> set[str]:
    with templates.open(encoding="utf-8") as lines:
        return {json.loads(line)["template"] for line in lines}
