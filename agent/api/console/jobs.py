"""Files that were judged in the console: where they lie, how far a run is, and its rows by filter and order."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal
from uuid import uuid4

import numpy as np
import polars as pl
from pydantic import PrivateAttr

from agent.bulk.options import BulkOptions
from agent.bulk.report import missing_signals, write_report
from agent.bulk.runner import BulkRunner
from agent.bulk.summary import Summary
from agent.core.access import Role, require
from agent.core.errors import Stopped, describe, translate
from agent.core.logs import log_error
from agent.core.records import VERDICT_LABELS, Verdict, clean_text
from agent.core.spreadsheet import neutralised
from agent.core.writing import writing
from agent.data.read_options import ReadOptions
from agent.data.readers import Kind, ReadRequest
from agent.data.readers.byte_stream import Stream
from agent.pipeline.context import AppContext
from agent.training.batch_reference import reference_of_files

# lines up to which the normal records of a file are listed too; runs that are kept; characters of a cell
LISTED, KEPT, CELL = 200_000, 8, 400
_EXPLAINED_ROWS = 2_000
_FAILURES_SHOWN, _NAME_CHARS = 20, 60
Schema = dict[str, pl.DataType | type[pl.DataType] | None]
State = Literal["running", "done", "failed"]
COLUMNS = ("line", "label", "probability", "text", "why")


class UploadedFiles(ReadOptions):
    """Read options of files in a folder of uploads, whose records name the file as its owner does."""

    _folder: Path = PrivateAttr()
    _lenient: bool = PrivateAttr(False)

    @classmethod
    def of(cls, options: ReadOptions, folder: Path, *, lenient: bool = False) -> UploadedFiles:
        """These options for the files of a folder, which with ``lenient`` may lack columns, as a file to judge may."""
        made = cls(**dict(options))
        made._folder, made._lenient = folder, lenient
        return made

    @contextmanager
    def open(
        self, path: str | Path, max_chars: int, *, lenient: bool, stdin: BinaryIO | None = None, raw: bool = False
    ) -> Iterator[tuple[Stream, Kind, ReadRequest]]:
        """Open the file of that name in the folder."""
        opened = super().open(self._folder / path, max_chars, lenient=lenient or self._lenient, stdin=stdin, raw=raw)
        with opened as (stream, kind, request):
            yield stream, kind, replace(request, file=str(path))


def file_name(sent: str) -> str:
    """The name of an uploaded file without folders and control characters."""
    name = "".join(c for c in clean_text(sent).replace("\\", "/").rpartition("/")[2] if c.isprintable()).strip()
    return name[-_NAME_CHARS:] if name.strip(".") and not name.startswith("-") else "records"


@dataclass
class Upload:
    """A file that was dropped or pasted, in a folder of its own."""

    folder: Path
    name: str

    @property
    def id(self) -> str:
        """Its id in addresses."""
        return self.folder.name

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self.folder / self.name

    def without_folder(self, message: str) -> str:
        """A message that names the file as its owner does."""
        return message.replace(f"{self.folder}/", "")

    def lines(self) -> int:
        """How many lines it has."""
        count = 0
        with self.path.open("rb") as stream:
            while block := stream.read(1 << 20):
                count += block.count(b"\n")
        return count


def proposed_name(upload: Upload) -> str:
    """A valid name for the source of an upload."""
    stem = upload.name.partition(".")[0]
    name = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in stem)
    return name[:63].strip("-_") or "records"


@dataclass
class Job:
    """One run over an uploaded file.

    Attributes
    ----------
    listed : frozenset of str
        Labels whose records are rows.
    done, total : int
        Records that are judged, and lines of the file.
    corrected : dict of int to str
        Rows whose label a person gave.
    """

    upload: Upload
    source: str
    options: ReadOptions
    id: str = field(default_factory=lambda: uuid4().hex)
    state: State = "running"
    step: str = ""
    done: int = 0
    total: int = 0
    note: str | None = None
    problem: str | None = None
    failures: list[str] = field(default_factory=list)
    failed: int = 0
    summary: Summary | None = None
    listed: frozenset[str] = frozenset(VERDICT_LABELS)
    corrected: dict[int, str] = field(default_factory=dict)
    rows: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=dict.fromkeys(COLUMNS, pl.String)))
    _offsets: np.ndarray[Any, Any] | None = None
    _view: tuple[tuple[Any, ...], pl.DataFrame] | None = None
    _cancelled: threading.Event = field(default_factory=threading.Event)

    @property
    def verdicts(self) -> Path:
        """The verdicts, one a line."""
        return self.upload.folder / f"verdicts-{self.id}.jsonl"

    def cancel(self) -> None:
        """Stop at the next step."""
        self._cancelled.set()

    def run(self, context: AppContext) -> None:
        """Judge the file; what goes wrong is in ``problem``."""
        try:
            self._run(context)
            self.state = "done"
        except Exception as error:
            if translate(error) is None:
                log_error("a run of the console failed", error)
            self.problem = self.upload.without_folder(describe(error))
            self.state = "failed"

    def _run(self, context: AppContext) -> None:
        self.total = self.upload.lines() + 1
        if self.total > LISTED:
            self.listed = frozenset({"anomalous", "unsure"})
        read = UploadedFiles.of(self.options, self.upload.folder)
        files = [self.upload.name]
        self.note = reference_of_files(context, self.source, files, read.read_unlabelled, progress=self._progress)
        options = BulkOptions(
            files=tuple(files),
            source=self.source,
            detail="full",
            to="jsonl",
            only=self.listed,
            explain_rows="facts" if self.total <= _EXPLAINED_ROWS else "none",
            explain_found=True,
        )
        notes: list[str] = []
        runner = BulkRunner(context, read, options, self._progress, notes.append)
        self.summary = runner.run(self.verdicts)
        self.failed = len(runner.failures)
        shown = map(str, runner.failures[:_FAILURES_SHOWN])
        self.failures = [*map(self.upload.without_folder, shown), *notes]
        if self.summary.degraded:
            self.failures.append(missing_signals(self.summary))
        self._load()

    def _progress(self, step: str, done: int, total: int, detail: str = "") -> None:
        if self._cancelled.is_set():
            raise Stopped("the run was cancelled")
        self.step = step
        if step == "judging":
            self.done = done

    def _load(self) -> None:
        content = np.memmap(self.verdicts, np.uint8) if self.verdicts.stat().st_size else np.zeros(0, np.uint8)
        ends = np.flatnonzero(content == ord("\n")) + 1
        self._offsets = np.concatenate([np.zeros(1, np.int64), ends])
        record = pl.Struct({"text": pl.String, "line": pl.Int64})
        schema: Schema = {"label": pl.String, "probability": pl.Float64, "explanation": pl.String, "record": record}
        if not len(ends):
            return
        scanned = pl.scan_ndjson(self.verdicts, schema=schema)
        # without the label, and without the signal that decided, which nearly all rows share
        facts = pl.col("explanation").str.replace(r"^[^:]*: (decided by [^;]*; )?", "").str.slice(0, CELL)
        self.rows = (
            scanned.select(
                pl.col("record").struct.field("line"),
                "label",
                "probability",
                pl.col("record").struct.field("text").str.slice(0, CELL),
                facts.alias("why"),
            )
            .with_row_index("row")
            .collect()
        )

    def page(
        self, start: int, end: int, *, labels: frozenset[str], search: str, sort: str, descending: bool
    ) -> tuple[list[dict[str, Any]], int]:
        """The rows from ``start`` to ``end`` of those that match, and how many match."""
        key = (labels, search, sort, descending)
        view = self._view
        if view is None or view[0] != key:
            frame = self.rows
            if labels and "label" in frame.columns:
                frame = frame.filter(pl.col("label").is_in(list(labels)))
            if search:
                needle = search.lower()
                matches = (
                    pl.col(name).str.to_lowercase().str.contains(needle, literal=True) for name in ("text", "why")
                )
                frame = frame.filter(pl.any_horizontal(*matches))
            if sort in COLUMNS:
                frame = frame.sort(sort, descending=descending, maintain_order=True, nulls_last=True)
            self._view = view = (key, frame)
        shown = view[1].slice(start, max(0, end - start)).to_dicts()
        for row in shown:
            row["corrected"] = self.corrected.get(row["row"])
        return shown, len(view[1])

    def verdict(self, row: int) -> Verdict:
        """The whole verdict of a row.

        Raises
        ------
        IndexError
            There is no such row.
        """
        if self._offsets is None or not 0 <= row < len(self._offsets) - 1:
            raise IndexError(row)
        start, end = int(self._offsets[row]), int(self._offsets[row + 1])
        with self.verdicts.open("rb") as stream:
            stream.seek(start)
            return Verdict.model_validate_json(stream.read(end - start))

    def write_csv(self) -> Path:
        """The rows as a CSV file, with the place and the reason of each."""
        path = self.verdicts.with_suffix(".csv")
        record = pl.Struct({"text": pl.String, "file": pl.String, "line": pl.Int64, "time": pl.String})
        names = ("id", "label", "explanation")
        schema: Schema = {**dict.fromkeys(names, pl.String), "probability": pl.Float64, "record": record}
        scanned = pl.scan_ndjson(self.verdicts, schema=schema)
        place = [pl.col("record").struct.field(name) for name in ("file", "line", "time", "text")]
        columns = scanned.select("id", *place[:3], "label", "probability", place[3], pl.col("explanation").alias("why"))
        # what a spreadsheet would compute
        safe = pl.col("file", "time", "text", "why").map_elements(neutralised, return_dtype=pl.String)
        columns.with_columns(safe).sink_csv(path)
        return path

    def write_html(self) -> Path:
        """The summary as one HTML page."""
        assert self.summary is not None
        path = self.verdicts.with_suffix(".html")
        write_report(self.summary, path)
        return path


class Jobs:
    """The last uploads and runs of this process, in a temporary folder."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._uploads: OrderedDict[str, Upload] = OrderedDict()
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._lock = threading.Lock()

    def new_upload(self, name: str) -> Upload:
        """An upload to write, in a folder of its own, see `add_upload`."""
        with self._lock, writing(self._folder or Path(tempfile.gettempdir())):
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="precedent-console-"))
            folder = self._folder / uuid4().hex
            folder.mkdir()
            return Upload(folder, file_name(name))

    def add_upload(self, upload: Upload) -> None:
        """Keep an upload that was written; the oldest ones without a run are removed."""
        with self._lock:
            unused = self._uploads.keys() - {job.upload.id for job in self._jobs.values()}
            for old in [old for key, old in self._uploads.items() if key in unused][:-KEPT]:
                self._remove(old)
            self._uploads[upload.id] = upload

    def _remove(self, upload: Upload) -> None:
        self._uploads.pop(upload.id, None)
        shutil.rmtree(upload.folder, ignore_errors=True)

    def upload(self, upload_id: str | None) -> Upload | None:
        """The upload of that id, if it is kept."""
        return self._uploads.get(upload_id or "")

    def get(self, job_id: str | None) -> Job | None:
        """The job of that id, if it is kept."""
        return self._jobs.get(job_id or "")

    def start(self, context: AppContext, upload: Upload, source: str, options: ReadOptions) -> Job:
        """Judge the upload in a thread of its own; the oldest finished run is forgotten where there are too many.

        Raises
        ------
        Forbidden
            The caller's role is not enough.
        """
        require(Role.JUDGE)
        job = Job(upload, source, options)
        with self._lock:
            self._jobs[job.id] = job
            finished = [old for old in self._jobs.values() if old.state != "running"]
            for old in finished[: max(0, len(self._jobs) - KEPT)]:
                del self._jobs[old.id]
                if all(kept.upload.folder != old.upload.folder for kept in self._jobs.values()):
                    self._remove(old.upload)
        threading.Thread(target=job.run, args=(context,), name="console judge", daemon=True).start()
        return job

    def close(self) -> None:
        """Stop what runs, and remove all files."""
        for job in self._jobs.values():
            job.cancel()
        deadline = time.monotonic() + 10
        while any(job.state == "running" for job in self._jobs.values()) and time.monotonic() < deadline:
            time.sleep(0.05)
        if self._folder is not None:
            with suppress(OSError):
                shutil.rmtree(self._folder)
