"""Judging a part of a bulk run in another process than the one that reads and writes the files."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import PrivateAttr

from agent.bulk.output import template_line
from agent.bulk.runner import BulkRunner
from agent.bulk.summary import ScoredRecord, Summary
from agent.core.records import JudgeError, Verdict
from agent.data.blocks import Block, BlockTable
from agent.data.read_options import ReadOptions
from agent.data.readers import Kind, ReadRequest, RowError
from agent.data.readers.byte_stream import Stream
from agent.data.record_parts import Items, RecordPart


@dataclass(frozen=True)
class Part:
    """Consecutive records of one file: lines of a log, a block of a table of texts, or rows that have been read.

    Attributes
    ----------
    number : int
        Of the file.
    end : tuple of int
        The position after the part, as in `BulkRunner`.
    file : str
    kind : str
    request : ReadRequest
        How the file is read, which its beginning tells.
    line : int
        Number of the first line.
    data : bytes
        Lines.
    table : BlockTable or None
        A table of texts, of which this is one block.
    block : Block or None
    rows : list, or part of records
        Of other files.
    """

    number: int
    end: tuple[int, int]
    file: str
    kind: Kind
    request: ReadRequest
    line: int = 1
    data: bytes = b""
    table: BlockTable | None = None
    block: Block | None = None
    rows: RecordPart | Items = field(default_factory=list)


@dataclass
class JudgedPart:
    """What was found of a part, and is to be written and stored.

    Attributes
    ----------
    lines : bytes
        Of the output.
    templates : list of (str, bytes)
        Names, and lines of `template_line`, of templates that this process meets for the first time.
    history : list of (str, bytes)
        Ids, and bodies as JSON, of what goes to the history. Who merges the parts reads those that no part had before.
    cached : dict of dict
        What goes to the cache of templates' verdicts, by key.
    summary : Summary
        Of the part.
    failures : list of RowError or JudgeError
    notes : list of str
    llm_answers, llm_changed : int
        See `agent.bulk.group_judge.GroupJudge`.
    """

    lines: bytes
    summary: Summary
    templates: list[tuple[str, bytes]] = field(default_factory=list)
    history: list[tuple[str, bytes]] = field(default_factory=list)
    cached: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    failures: list[RowError | JudgeError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    llm_answers: int = 0
    llm_changed: int = 0


class PartJudge(BulkRunner):
    """Judges parts in the order of the input; it need not get all of them. Its context is a snapshot of its own."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._started = time.monotonic()
        self._written = _Written(self._judge.stored)
        self._output = self._written  # type: ignore[assignment]
        self._judge.stored = self._written  # type: ignore[assignment]
        self.context.history = self._written  # type: ignore[assignment]
        self._records = self._new_records()
        self._sent = set[str]()

    @property
    def state(self) -> str:
        """SHA-256 of what verdicts depend on besides the records; processes with the same one judge alike."""
        return self._judge.state

    def judge(self, part: Part) -> JudgedPart:
        """Judge a part; whole verdicts of templates that were met before are not in the result again."""
        answers, changed = self._judge.llm_answers, self._judge.llm_changed
        self.summary = Summary(source=self.options.source)
        self.failures, self.notes = [], []
        self._written.part = judged = JudgedPart(b"", self.summary, failures=self.failures)
        self._records.summary, self._records.failures, self._records.notes = self.summary, self.failures, self.notes
        self._part, self.read_options = part, _OfPart.of(part, self.read_options)
        for _ in self._file(part.file, 0, part.line if part.data else 1):
            pass
        self._send_once(self.summary)
        judged.lines = self._written.lines()
        judged.notes = self.notes + self._grouper.notes
        self._grouper.notes.clear()
        judged.llm_answers, judged.llm_changed = self._judge.llm_answers - answers, self._judge.llm_changed - changed
        return judged

    def _send_once(self, summary: Summary) -> None:
        """Leave whole verdicts out of groups that parts before had: sending them takes a quarter of a worker's time."""
        for name, group in summary.groups.items():
            verdict = group.verdict
            if name in self._sent:
                group.verdict = ScoredRecord(verdict.label, verdict.probability, verdict.record)
        self._sent.update(summary.groups)

    def _text_table(self, stream: Stream, kind: Kind, request: ReadRequest) -> BlockTable | None:
        part = self._part
        return None if part.table is None or part.block is None else replace(part.table, blocks=iter([part.block]))

    def _record_parts(self, stream: Stream, kind: Kind, request: ReadRequest) -> Iterator[RecordPart | Items]:
        return iter([self._part.rows])


class _Written:
    """In place of the output, the history and the cache of verdicts: what would be written is kept for the part."""

    def __init__(self, stored: Any) -> None:
        self._stored, self._lines = stored, list[bytes]()
        self.part: JudgedPart

    def write(self, lines: bytes) -> None:
        self._lines.append(lines)

    def lines(self) -> bytes:
        lines = b"".join(self._lines)
        self._lines.clear()
        return lines

    def write_template(self, name: str, verdict: Verdict) -> bool:
        self.part.templates.append((name, template_line(name, verdict)))
        # who merges the parts counts those that are new
        return False

    def get(self, keys: Sequence[str]) -> Any:
        return self._stored.get(keys)

    def put(self, bodies: Iterable[Mapping[str, Any]] | Mapping[str, Mapping[str, Any]]) -> None:
        if isinstance(bodies, Mapping):
            # groups that are forgotten are found there
            self._stored.put(bodies)
            self.part.cached.update(bodies)
        else:
            self.part.history += ((body["id"], json.dumps(body).encode()) for body in bodies)


class _OfPart(ReadOptions):
    """Reads a part in place of its file."""

    _part: Part = PrivateAttr()

    @classmethod
    def of(cls, part: Part, options: ReadOptions) -> _OfPart:
        made = cls.model_validate(dict(options))
        made._part = part
        return made

    @contextmanager
    def open(
        self, path: str | Path, max_chars: int, *, lenient: bool, stdin: BinaryIO | None = None, raw: bool = False
    ) -> Iterator[tuple[Stream, Kind, ReadRequest]]:
        yield Stream(iter([self._part.data, b""])), self._part.kind, self._part.request
