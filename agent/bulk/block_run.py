"""A block of records of a file on its way to the output: scored by arrays, judged, written and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from agent.bulk.output import short_id
from agent.bulk.summary import ScoredRecord
from agent.bulk.traits import UNJUDGED
from agent.core.records import VERDICT_LABELS, JudgeError, Verdict, VerdictLabel
from agent.data.record_block import RecordBlock
from retrieval.encoding.field_columns import FieldColumns

if TYPE_CHECKING:
    from agent.bulk.record_writer import RecordWriter
    from agent.pipeline.block_judge import BlockJudge, BlockVerdicts
    from retrieval.encoding.session_block import SessionBlock

# rows of a run whose whole verdicts are kept, the first ones and the first that are not normal
_FIRST, _FOUND = 16, 100


class Outcome(NamedTuple):
    """What is counted and written of a verdict.

    Attributes
    ----------
    label : int
        Its index.
    probability, degraded
    name : str
        That of its group, if it is not normal.
    template : str
    is_far : bool
        Whether the record is a text that is far from every case.
    verdict : str
        See `LineFormatter.named`.
    """

    label: int
    probability: float
    degraded: tuple[str, ...]
    name: str
    template: str
    is_far: bool
    verdict: str


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
    keys : sequence
        Keys of all n, equal where their verdicts are but for their ids.
    """

    block: RecordBlock
    indices: NDArray[np.int64]
    copies: NDArray[np.int64]
    distinct: FieldColumns | SessionBlock
    verdicts: BlockVerdicts | None
    keys: Sequence[Hashable]

    @classmethod
    def unscored(cls, block: RecordBlock, keys: Sequence[Hashable]) -> ScoredBlock:
        """A block of which no record is judged by array."""
        none = np.zeros(0, np.int64)
        return cls(block, none, none, block.features.take(none), None, keys)

    @classmethod
    def of(cls, block: RecordBlock, judge: BlockJudge) -> ScoredBlock:
        """The block as ``judge`` judges it; equal records are judged once."""
        is_able = judge.is_able if isinstance(block.features, FieldColumns) else judge.is_able_to_judge_sessions
        indices = np.flatnonzero(block.plain & ~judge.is_known(block.hashes)) if is_able else np.zeros(0, np.int64)
        places = dict[str, int]()
        copies = np.array([places.setdefault(block.hashes[i], len(places)) for i in indices.tolist()], np.int64)
        every = len(places) == len(block)
        distinct = block.features if every else block.features.take(indices[np.unique(copies, return_index=True)[1]])
        verdicts = judge.judge(distinct) if len(indices) else None
        return cls(block, indices, copies, distinct, verdicts, block.hashes)


class BlockRun:
    """One block of rows of a file on its way to the output.

    Whole verdicts are made by the pipeline, of rows that cannot be judged by arrays and of those whose verdicts are
    kept: the first rows of a run, and the first that are not normal. `RecordWriter.judge_listed` makes others.
    """

    def __init__(self, run: RecordWriter, file: str, scored: ScoredBlock) -> None:
        self._run, self._file, self._block, self._keys = run, file, scored.block, scored.keys
        size = len(scored.block)
        self._labels, self._probabilities = np.full(size, UNJUDGED, np.int8), np.zeros(size)
        self._degraded: dict[int, tuple[str, ...]] = {}
        self._whole: dict[int, Verdict] = {}
        # of rows that are judged by arrays the content is the template
        self._templates, self._verdicts = list(scored.block.hashes), [""] * size
        self._far, self._distinct = 0, 0 if scored.verdicts is None else len(scored.verdicts.labels)
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
        run, hashes, keys = self._run, self._block.hashes, self._keys
        # verdicts of equivalent records differ in their ids alone
        copied = dict[Hashable, list[int]]()
        for index in np.flatnonzero(self._labels == UNJUDGED).tolist():
            copied.setdefault(keys[index], []).append(index)
        known = {key: outcome for key in copied if (outcome := run.judged.get(key))}
        self._distinct += len(copied) - len(known)
        chosen = self._kept() | {copies[0] for key, copies in copied.items() if key not in known}
        indices = sorted(chosen)
        groups = run.groups([self._block.record(i) for i in indices], [hashes[i] for i in indices])
        for index, group, result in zip(indices, groups, run.results(groups), strict=True):
            if isinstance(result, JudgeError):
                self._labels[index] = UNJUDGED
                copies = copied.pop(keys[index], [index])
                run.failures += [JudgeError(self._block.record(i), result.reason) for i in copies]
                continue
            self._whole[index] = result
            run.write_template(group.template_id, result)
            name = self._names.get(index) or run.alike.name(group.template_id, result)
            outcome = run.outcome(group, result, name)
            self._set(index, outcome)
            if keys[index] in copied:
                known[keys[index]] = outcome
                run.judged.put(keys[index], outcome)
        for key, copies in copied.items():
            for index in copies:
                self._set(index, known[key])
            self._far += len(copies) * known[key].is_far

    def _kept(self) -> set[int]:
        """Which of the rows that are judged by arrays get a whole verdict as well."""
        summary = self._run.summary
        first = np.flatnonzero(self._labels[: max(0, _FIRST - summary.records)] != UNJUDGED)
        found = list(self._names)[: _FOUND - summary.kept]
        summary.kept += len(found)
        return {*found, *first.tolist()}

    def _set(self, index: int, outcome: Outcome) -> None:
        self._labels[index], self._probabilities[index] = outcome.label, outcome.probability
        self._degraded[index], self._names[index] = outcome.degraded, outcome.name
        self._templates[index], self._verdicts[index] = outcome.template, outcome.verdict

    def write(self) -> None:
        """Write and count the rows."""
        run, block, summary = self._run, self._block, self._run.summary
        judged = np.flatnonzero(self._labels != UNJUDGED)
        labels = self._labels[judged]
        if run.options.lines:
            only = [VERDICT_LABELS.index(name) for name in run.options.only]
            run.output.write(self._lines(judged[np.isin(labels, only)]))
        keys, hashes = ([values[i] for i in judged.tolist()] for values in (self._templates, block.hashes))
        summary.batch.add_many(keys, hashes, self._probabilities[judged].tolist())
        summary.templates += self._distinct
        summary.far += self._far
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
            lambda group: self._names[first[group]],
            lambda group: self._whole.get(first[group]) or self._scored(first[group]),
            lambda indices: block.times_seen(judged[indices]),
        )

    def _group(self, index: int) -> str:
        """The group of the summary that a row belongs to."""
        return f"{VERDICT_LABELS[self._labels[index]]} {self._names[index]}"

    def _scored(self, index: int) -> ScoredRecord:
        """A row whose whole verdict was not made."""
        label, probability = cast(VerdictLabel, VERDICT_LABELS[self._labels[index]]), float(self._probabilities[index])
        return ScoredRecord(label=label, probability=probability, record=self._block.record(index))

    def _lines(self, indices: NDArray[np.int64]) -> bytes:
        """The lines of rows in the output."""
        block, places, to_csv = self._block, indices.tolist(), self._run.options.to == "csv"
        return self._run.formatter.format_rows(
            self._file,
            block.lines[indices],
            [VERDICT_LABELS[label] for label in self._labels[indices].tolist()],
            self._probabilities[indices],
            [short_id(self._templates[i]) for i in places],
            [self._verdicts[i] for i in places] if to_csv else [],
            block.texts(indices) if to_csv else [],
            [] if to_csv else [self._degraded.get(i, ()) for i in places],
        )
