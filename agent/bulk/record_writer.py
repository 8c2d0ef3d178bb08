"""Records that are more than a text: rows of tables are judged by the block, others one by one, and all are written."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np
from threadpoolctl import threadpool_limits

from agent.bulk.alike import AlikeRows
from agent.bulk.block_run import BlockRun, Outcome, ScoredBlock
from agent.bulk.chunks import map_ahead, prefetch
from agent.bulk.group_judge import GroupJudge, Result
from agent.bulk.options import BulkOptions
from agent.bulk.output import LineFormatter, Output
from agent.bulk.summary import ScoredRecord, Summary
from agent.bulk.template_grouping import TemplateGroup
from agent.bulk.traits import traits_of
from agent.core.records import VERDICT_LABELS, JudgeError, Record, Verdict
from agent.data.read_options import ReadOptions
from agent.data.readers import ParsedRow, RowError
from agent.data.record_block import RecordBlock
from agent.data.record_parts import Items, MixedRows, RecordPart, with_odd_apart
from agent.detectors.novelty import is_far
from retrieval.encoding.representation import Representation
from retrieval.lru_cache import LRUCache
from retrieval.text.masking import find_time

# records judged together one by one, and by the block
_ROWS, _BLOCK = 2_048, 8_192
# blocks that are prepared ahead; threads that score blocks
_PREPARED, _MOST_THREADS = 3, 4
_CACHED = 65_536


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
        # of records that the pipeline judges, by their keys
        self.judged: LRUCache[Outcome] = LRUCache(_CACHED)

    @cached_property
    def _score(self) -> Callable[[RecordBlock], ScoredBlock] | None:
        """What judges blocks by arrays, or finds equivalent records in them, where verdicts are written short."""
        options = self.options
        is_short = (options.detail == "compact" or not options.lines) and options.explain_rows == "none"
        if not is_short or self.read_options.series is not None:
            return None
        if self.representation.field_encoder is None:
            equivalent = self.judge.equivalent_rows()
            return (lambda block: ScoredBlock.unscored(block, equivalent.keys(block))) if equivalent.is_able else None
        judge = self.judge.block_judge()
        return None if judge is None else partial(ScoredBlock.of, judge=judge)

    def prepared(self, parts: Iterable[RecordPart | Items]) -> Iterator[tuple[int, Items, ScoredBlock | None]]:
        """Rows in order: how many, those to judge one by one, and those that were scored by the block, in threads."""
        score = self._score
        blocks = prefetch(self._blocks(parts, is_able=score is not None), _PREPARED)
        if score is None:
            yield from ((count, rows, None) for count, rows, _ in blocks)
            return

        def scored(prepared: tuple[int, Items, RecordBlock | None]) -> tuple[int, Items, ScoredBlock | None]:
            count, rows, block = prepared
            return count, rows, None if block is None else score(block)

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
                yield len(piece), *(self._block(with_odd_apart(piece)) if is_able else (_one_by_one(piece), None))

    def _block(self, part: RecordPart | Items) -> tuple[Items, RecordBlock | None]:
        """The rows of a part that were read one by one, and the block of all its records."""
        if not isinstance(part, list):
            return part.others if isinstance(part, MixedRows) else [], RecordBlock.of_part(part, self.read_options)
        records = [row.record for row in part if isinstance(row, ParsedRow)]
        return part, RecordBlock.of(records, self.read_options) if records else None

    def write(self, file: str, rows: Items, scored: ScoredBlock | None) -> None:
        """Judge and write rows of a file that follow those written before, see `prepared`."""
        self.failures += [row for row in rows if isinstance(row, RowError)]
        parsed = [row for row in rows if isinstance(row, ParsedRow)]
        notes = [] if scored is None else list(scored.block.notes)
        notes = sorted([*notes, *((row.record.line or 0, note) for row in parsed for note in row.notes)], key=_line)
        self.notes += [f"{file}:{line}: {note}" for line, note in notes]
        if scored is not None:
            BlockRun(self, file, scored).write()
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

    def judge_listed(self, count: int) -> None:
        """Make the whole verdicts that the ``count`` largest groups of each label lack."""
        groups = [group for label in ("anomalous", "unsure") for group in self.summary.ranked(label)[:count]]
        groups = [group for group in groups if isinstance(group.verdict, ScoredRecord)]
        records = [group.verdict.record for group in groups]
        judged = self.groups(records, [record.content_hash for record in records])
        for group, of_record, result in zip(groups, judged, self.results(judged), strict=True):
            if isinstance(result, Verdict):
                group.verdict = result
                self.write_template(of_record.template_id, result)

    def outcome(self, group: TemplateGroup, verdict: Verdict, name: str) -> Outcome:
        """What is counted and written of a verdict."""
        far = self.representation.field_encoder is None and is_far(verdict.signals["novelty"])
        label, written = VERDICT_LABELS.index(verdict.label), self.formatter.named(verdict)
        return Outcome(label, verdict.probability, verdict.degraded, name, group.template, far, written)

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
            lambda number: self.alike.name(judged[number][0].template_id, judged[number][1]),
            lambda number: judged[number][1],
            lambda indices: [_time(verdicts[index].record) for index in indices.tolist()],
        )


def _line(note: tuple[int, str]) -> int:
    return note[0]


def _one_by_one(part: RecordPart | Items) -> Items:
    return part if isinstance(part, list) else part.rows()


def _time(record: Record) -> str | None:
    return record.time or find_time(record.text)
