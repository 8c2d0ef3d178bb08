"""Judging a part of a bulk run in another process than the one that reads and writes the files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent.bulk.chunks import Chunk
from agent.bulk.group_judge import Result
from agent.bulk.runner import BulkRunner
from agent.bulk.summary import Summary
from agent.bulk.template_grouping import TemplateGroup
from agent.core.records import JudgeError, Verdict
from agent.data.readers import ParsedRow, ReadRequest, RowError


@dataclass(frozen=True)
class Part:
    """Consecutive records of one file: lines of a log, or rows that have been read.

    Attributes
    ----------
    number : int
        Of the file.
    end : tuple of int
        The position after the part, as in `BulkRunner`.
    file : str
    chunk : Chunk or None
        Lines, which ``request`` says how to read.
    request : ReadRequest or None
    rows : sequence of ParsedRow or RowError
    groups : sequence of TemplateGroup
        Of the rows.
    """

    number: int
    end: tuple[int, int]
    file: str
    chunk: Chunk | None = None
    request: ReadRequest | None = None
    rows: Sequence[ParsedRow | RowError] = ()
    groups: Sequence[TemplateGroup] = ()


@dataclass(frozen=True)
class JudgedPart:
    """What was found of a part.

    Attributes
    ----------
    lines : bytes
        The output for lines of a log.
    groups : sequence of TemplateGroup
        The groups of lines that this process meets for the first time; those of the part's rows.
    results : sequence of Verdict or JudgeError
        One for each group.
    summary : Summary
        Of the lines.
    failures : list of RowError or JudgeError
        Lines that could not be read.
    notes : list of str
    llm_answers, llm_changed : int
        See `agent.bulk.group_judge.GroupJudge`.
    """

    lines: bytes
    groups: Sequence[TemplateGroup]
    results: Sequence[Result]
    summary: Summary
    failures: list[RowError | JudgeError]
    notes: list[str]
    llm_answers: int
    llm_changed: int


class _Lines:
    """In place of the output file."""

    def __init__(self) -> None:
        self._parts = list[bytes]()

    def write(self, lines: bytes) -> None:
        self._parts.append(lines)

    def write_template(self, name: str, verdict: Verdict) -> bool:
        return False

    def taken(self) -> bytes:
        lines = b"".join(self._parts)
        self._parts.clear()
        return lines


class PartJudge(BulkRunner):
    """Judges parts in the order of the input; it need not get all of them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._output = self._lines = _Lines()  # type: ignore[assignment]

    @property
    def state(self) -> str:
        """SHA-256 of what verdicts depend on besides the records; processes with the same one judge alike."""
        return self._judge.state

    def judge(self, part: Part) -> JudgedPart:
        """Judge a part; of lines, groups that were met before are left out of the result."""
        answers, changed = self._judge.llm_answers, self._judge.llm_changed
        self.summary = Summary(source=self.options.source)
        groups: Sequence[TemplateGroup]
        results: Sequence[Result]
        if part.chunk is None:
            groups = part.groups
            results = self._judge.verdicts(groups, store=False, explain=self.options.explain_rows)
        else:
            assert part.request is not None
            known = len(self._results)
            prepared = self._grouper.prepare(part.chunk, part.request)
            numbers = self._grouper.assign(prepared)
            self._judge_new_groups()
            groups, results = self._grouper.groups[known:], self._results[known:]
            # who merges the parts adds the others, once
            self.failures = [failure for failure in self.failures if isinstance(failure, RowError)]
            self._write(part.file, prepared, numbers)
        notes, self._grouper.notes = self._grouper.notes, []
        failures, self.failures = self.failures, []
        return JudgedPart(
            self._lines.taken(),
            groups,
            results,
            self.summary,
            failures,
            notes,
            self._judge.llm_answers - answers,
            self._judge.llm_changed - changed,
        )
