"""Records that are more than a text: rows of tables are judged by the block, others one by one, and all are written."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from agent.bulk.alike import AlikeRows
from agent.bulk.chunks import map_ahead, prefetch
from agent.bulk.group_judge import GroupJudge, Result
from agent.bulk.options import BulkOptions
from agent.bulk.output import LineFormatter, Output, short_id
from agent.bulk.summary import LABELS, Summary
from agent.bulk.template_grouping import TemplateGroup
from agent.bulk.traits import UNJUDGED, traits_of
from agent.core.records import JudgeError, Record, Verdict
from agent.data.read_options import ReadOptions
from agent.data.readers import ParsedRow, RowError
from agent.data.record_block import RecordBlock
from retrieval.encoding.field_columns import FieldColumns
from retrieval.encoding.representation import Representation
from retrieval.lru_cache import LRUCache
from retrieval.text.masking import find_time

if TYPE_CHECKING:
    from agent.data.record_parts import Items, RecordPart
    from agent.pipeline.block_judge import BlockJudge, BlockVerdicts
    from retrieval.encoding.session_block import SessionBlock

# records judged together one by one, and by the block
_ROWS, _BLOCK = 2_048, 8_192
# blocks that are prepared ahead; threads that score blocks
_PREPARED, _MOST_THREADS = 3, 4
_CACHED = 65_536
# rows of a run whose whole verdicts are kept, the first ones and the first that are not normal
_FIRST, _FOUND = 256, 500


@dataclass
class RecordWriter:
    """Judges and writes the records of a run that are no lines of templates.

    Parameters
    ----------
    judge, options, read_options, representation, formatter, alike, output, summary
        Those of the run.
    failures, notes : list
        Get the records that cannot be read or judged, and the notes of the readers.
    """

    judge: GroupJudge
    options: BulkOptions
    read_options: ReadOptions
    representation: Representation
    formatter: LineFormatter
    alike: AlikeRows
    output: Output
    summary: Summary
    failures: list[RowError | JudgeError] = field(repr=False)
    notes: list[str] = field(repr=False)

    def __post_init__(self) -> None:
        # of records that the pipeline judges, by the hash of their content
        self.judged: LRUCache[_Outcome] = LRUCache(_CACHED)

    @cached_property
    def _block_judge(self) -> BlockJudge | None:
        """What judges by the block, where verdicts are written short."""
        options = self.options
        is_short = (options.detail == "compact" or not options.lines) and options.explain_rows == "none"
        is_table = self.representation.field_encoder is not None and self.read_options.series is None
        return self.judge.block_judge() if is_short and is_table else None

    def prepared(self, parts: Iterable[RecordPart | Items]) -> Iterator[tuple[int, Items, ScoredBlock | None]]:
        """Rows in order: how many, those to judge one by one, and those that were scored by the block, in threads."""
        judge = self._block_judge
        blocks = prefetch(self._blocks(parts, is_able=judge is not None), _PREPARED)
        if judge is None:
            yield from ((count, rows, None) for count, rows, _ in blocks)
            return

        def scored(prepared: tuple[int, Items, RecordBlock | None]) -> tuple[int, Items, ScoredBlock | None]:
            count, rows, block = prepared
            return count, rows, None if block is None else ScoredBlock.of(block, judge)

        # a matrix product in several threads waits by spinning
        with threadpool_limits(1, user_api="blas"):
            yield from map_ahead(scored, blocks, min(_MOST_THREADS, os.cpu_count() or 1))

    def _blocks(
        self, parts: Iterable[RecordPart | Items], *, is_able: bool
    ) -> Iterator[tuple[int, Items, RecordBlock | None]]:
        size = _BLOCK if is_able else _ROWS
        for part in parts:
            for start in range(0, len(part), size):
                piece = part[start : start + size] if isinstance(part, list) else part.slice(start, size)
                block = (
                    RecordBlock.of_block(piece, self.read_options) if is_able and not isinstance(piece, list) else None
                )
                rows = piece if isinstance(piece, list) else [] if block else piece.rows()
                records = [row.record for row in rows if isinstance(row, ParsedRow)]
                if is_able and records:
                    block = RecordBlock.of(records, self.read_options)
                yield len(piece), rows, block

    def write(self, file: str, rows: Items, scored: ScoredBlock | None) -> None:
        """Judge and write rows of a file that follow those written before, see `prepared`."""
        self.failures += [row for row in rows if isinstance(row, RowError)]
        parsed = [row for row in rows if isinstance(row, ParsedRow)]
        self.notes += [f"{file}:{row.record.line}: {note}" for row in parsed for note in row.notes]
        if scored is not None:
            self.notes += [f"{file}:{line}: {note}" for line, note in scored.block.notes]
            _BlockRun(self, file, scored).write()
        elif parsed:
            records = [row.record for row in parsed]
            groups = self.groups(records, [record.content_hash for record in records])
            self._write_one_by_one(file, groups, self.results(groups))

    def groups(self, records: Sequence[Record], hashes: Sequence[str]) -> list[TemplateGroup]:
        """A group for each of n records, by the hashes of their contents."""
        groups = []
        for number, (record, content) in enumerate(zip(records, hashes, strict=True)):
            key = hashlib.sha256(f"{content}\0{number}".encode()).hexdigest()
            groups.append(TemplateGroup(key, self.representation.key(record, content), record))
        return groups

    def results(self, groups: Sequence[TemplateGroup]) -> list[Result]:
        """Whole verdicts, of which the first that are not normal are explained if that is wanted."""
        results = self.judge.verdicts(groups, store=False, explain=self.options.explain_rows)
        if self.options.explain_found and self.options.explain_rows == "none":
            results = self.judge.with_reasons(groups, results)
        return results

    def write_template(self, template: str, verdict: Verdict) -> None:
        """Write a whole verdict beside the lines, if the record's line is written."""
        if self.options.lines and verdict.label in self.options.only:
            # the time of one of many records is not known, and a run that was resumed must be the same byte for byte
            self.output.write_template(template, verdict.model_copy(update={"elapsed_ms": 0.0}))

    def _write_one_by_one(self, file: str, groups: Sequence[TemplateGroup], results: Sequence[Result]) -> None:
        self.failures += [result for result in results if isinstance(result, JudgeError)]
        judged = [(group, result) for group, result in zip(groups, results, strict=True) if isinstance(result, Verdict)]
        for group, verdict in judged:
            self.summary.add_row(group.template, verdict)
            if self.options.lines and verdict.label in self.options.only:
                self.output.write(self.formatter.format_verdict(verdict, group.template_id))
            self.write_template(group.template_id, verdict)
        verdicts = [verdict for _, verdict in judged]
        traits = traits_of(verdicts)
        self.summary.templates += len(verdicts)
        self.summary.far += int(traits["is_far"].sum()) if self.representation.field_encoder is None else 0
        self.summary.add(
            file,
            np.array([verdict.record.line or 0 for verdict in verdicts], np.int64),
            traits["label"],
            np.arange(len(judged), dtype=np.int32),
            lambda number: (self.alike.name(judged[number][0].template_id, judged[number][1]), judged[number][1]),
            lambda indices: [_time(verdicts[index].record) for index in indices.tolist()],
        )


class _Outcome(NamedTuple):
    """What is counted of a verdict: the index of its label, and the name of its group if it is not normal."""

    label: int
    probability: float
    degraded: tuple[str, ...]
    name: str


@dataclass(frozen=True)
class ScoredBlock:
    """A block of n records with the verdicts on those that are judged by array.

    Parameters
    ----------
    block : RecordBlock
    indices : shape (k,)
        Those that are judged by array.
    copies : shape (k,)
        Which of the distinct ones among them each is.
    distinct : FieldColumns or SessionBlock
    verdicts : BlockVerdicts or None
        On the distinct ones; None if there are none.
    """

    block: RecordBlock
    indices: NDArray[np.int64]
    copies: NDArray[np.int64]
    distinct: FieldColumns | SessionBlock
    verdicts: BlockVerdicts | None

    @classmethod
    def of(cls, block: RecordBlock, judge: BlockJudge) -> ScoredBlock:
        """The block as ``judge`` judges it; equal records are judged once."""
        is_able = judge.is_able if isinstance(block.features, FieldColumns) else judge.is_able_to_judge_sessions
        indices = np.flatnonzero(block.plain & ~judge.is_known(block.hashes)) if is_able else np.zeros(0, np.int64)
        places = dict[str, int]()
        copies = np.array([places.setdefault(block.hashes[i], len(places)) for i in indices.tolist()], np.int64)
        distinct = block.features.take(indices[np.unique(copies, return_index=True)[1]])
        return cls(block, indices, copies, distinct, judge.judge(distinct) if len(indices) else None)


class _BlockRun:
    """One block of rows of a file on its way to the output.

    Whole verdicts are made by the pipeline, of rows that cannot be judged by arrays and of those whose verdicts are
    kept: the first rows of a run, the first that are not normal, and the first of each group of the summary.
    """

    def __init__(self, run: RecordWriter, file: str, scored: ScoredBlock) -> None:
        self._run, self._file, self._block = run, file, scored.block
        size = len(scored.block)
        self._labels, self._probabilities = np.full(size, UNJUDGED, np.int8), np.zeros(size)
        self._degraded: dict[int, tuple[str, ...]] = {}
        self._whole: dict[int, Verdict] = {}
        # names of the groups of rows that are not normal
        self._names: dict[int, str] = {}
        if scored.verdicts is not None:
            self._set_scored(scored, scored.verdicts)
        self._judge_one_by_one()

    def _set_scored(self, scored: ScoredBlock, verdicts: BlockVerdicts) -> None:
        indices, copies = scored.indices, scored.copies
        self._labels[indices], self._probabilities[indices] = verdicts.labels[copies], verdicts.probabilities[copies]
        found = np.flatnonzero(verdicts.labels != 0)
        names = self._run.alike.names(scored.distinct, verdicts.nearest, found)
        name_of = dict(zip(found.tolist(), names, strict=True))
        is_found = np.zeros(len(verdicts.labels), bool)
        is_found[found] = True
        for place in np.flatnonzero(is_found[copies]).tolist():
            self._names[int(indices[place])] = name_of[int(copies[place])]
        is_degraded = np.zeros(len(verdicts.labels), bool)
        is_degraded[list(verdicts.degraded)] = True
        for place in np.flatnonzero(is_degraded[copies]).tolist():
            self._degraded[int(indices[place])] = verdicts.degraded[int(copies[place])]

    def _judge_one_by_one(self) -> None:
        run, hashes = self._run, self._block.hashes
        # verdicts of equal records differ in their ids alone
        copied = dict[str, list[int]]()
        for index in np.flatnonzero(self._labels == UNJUDGED).tolist():
            copied.setdefault(hashes[index], []).append(index)
        known = {content: outcome for content in copied if (outcome := run.judged.get(content)) is not None}
        chosen = self._kept() | {copies[0] for content, copies in copied.items() if content not in known}
        indices = sorted(chosen)
        groups = run.groups([self._block.record(i) for i in indices], [hashes[i] for i in indices])
        for index, group, result in zip(indices, groups, run.results(groups), strict=True):
            if isinstance(result, JudgeError):
                self._labels[index] = UNJUDGED
                copies = copied.pop(hashes[index], [index])
                run.failures += [JudgeError(self._block.record(i), result.reason) for i in copies]
                continue
            self._whole[index] = result
            run.write_template(group.template_id, result)
            name = self._names.get(index) or run.alike.name(group.template_id, result)
            outcome = _Outcome(LABELS.index(result.label), result.probability, result.degraded, name)
            self._set(index, outcome)
            if hashes[index] in copied:
                known[hashes[index]] = outcome
                run.judged.put(hashes[index], outcome)
        for content, copies in copied.items():
            for index in copies:
                self._set(index, known[content])

    def _kept(self) -> set[int]:
        """Which of the rows that are judged by arrays get a whole verdict as well."""
        summary, kept = self._run.summary, set[int]()
        first = np.flatnonzero(self._labels[: max(0, _FIRST - summary.records)] != UNJUDGED)
        groups = set(summary.groups)
        for index, name in self._names.items():
            group = f"{LABELS[self._labels[index]]} {name}"
            if group not in groups or summary.kept < _FOUND:
                kept.add(index)
                summary.kept += summary.kept < _FOUND
            groups.add(group)
        return kept.union(first.tolist())

    def _set(self, index: int, outcome: _Outcome) -> None:
        self._labels[index], self._probabilities[index] = outcome.label, outcome.probability
        self._degraded[index], self._names[index] = outcome.degraded, outcome.name

    def write(self) -> None:
        """Write and count the rows."""
        run, block, summary = self._run, self._block, self._run.summary
        judged = np.flatnonzero(self._labels != UNJUDGED)
        labels = self._labels[judged]
        if run.options.lines:
            only = [LABELS.index(name) for name in run.options.only]
            run.output.write(self._lines(judged[np.isin(labels, only)]))
        summary.batch.add_many([block.hashes[i] for i in judged.tolist()], self._probabilities[judged].tolist())
        summary.templates += len(judged)
        reasons_of = (reasons for index, reasons in self._degraded.items() if self._labels[index] != UNJUDGED)
        for reasons, count in Counter(reasons_of).items():
            summary.add_degraded(reasons, count)
        numbers, groups, first = np.zeros(len(judged), np.int32), dict[str, int](), dict[int, int]()
        found = np.flatnonzero(labels)
        for number, index in zip(found.tolist(), judged[found].tolist(), strict=True):
            numbers[number] = group = groups.setdefault(self._group(index), len(groups))
            first.setdefault(group, index)
        summary.add(
            self._file,
            block.lines[judged],
            labels,
            numbers,
            lambda group: (self._names[first[group]], self._verdict_of_group(first[group])),
            lambda indices: block.times_seen(judged[indices]),
        )

    def _group(self, index: int) -> str:
        """The group of the summary that a row belongs to."""
        return f"{LABELS[self._labels[index]]} {self._names[index]}"

    def _verdict_of_group(self, index: int) -> Verdict:
        """The verdict of the group of a row, which is that of its first row."""
        group = self._run.summary.groups.get(self._group(index))
        return self._whole[index] if group is None else group.verdict

    def _lines(self, indices: NDArray[np.int64]) -> bytes:
        """The lines of rows in the output."""
        block, places, to_csv = self._block, indices.tolist(), self._run.options.to == "csv"
        return self._run.formatter.format_rows(
            self._file,
            [line or None for line in block.lines[indices].tolist()],
            [LABELS[label] for label in self._labels[indices].tolist()],
            self._probabilities[indices].tolist(),
            [short_id(block.hashes[i]) for i in places],
            [self._whole.get(i) for i in places] if to_csv else [],
            block.texts(indices) if to_csv else [],
        )


def _time(record: Record) -> str | None:
    return record.time or find_time(record.text)
