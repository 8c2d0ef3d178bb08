"""The loop of a bulk run: files, blocks, slots, verdicts, lines."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agent.bulk.chunks import SIZE, prefetch, read_chunks
from agent.bulk.group_judge import Budget, GroupJudge
from agent.bulk.output import Detail, LineFormatter, Output, To
from agent.bulk.summary import LABELS, Summary
from agent.bulk.template_grouping import BLANK, GroupNumbers, PreparedChunk, TemplateGroup, TemplateGrouper
from agent.core.records import JudgeError, Verdict
from agent.core.requests import Explain
from agent.data.read_options import ReadOptions
from agent.data.readers import Kind, ParsedRow, ReadRequest, RowError, read_rows
from agent.data.readers.byte_stream import Damaged, Stream
from agent.detectors.novelty import is_far
from agent.pipeline.context import AppContext
from retrieval.encoding.representation import Representation
from retrieval.text.masking import find_time

# rows judged between two checkpoints; notes that are said; what has no label; blocks read before they are judged
_ROWS, _MOST_NOTES, UNJUDGED, _AHEAD = 2_048, 20, -1, 8
# seconds between checkpoints, at least, and in times of what one takes
_PAUSE, _PAUSES = 1.0, 20
Progress = Callable[..., None]


@dataclass(frozen=True)
class BulkOptions:
    """What a bulk run is asked for. ``only``: the labels whose records are written; ``lines``: whether any are.

    ``explain_rows``: how records that are more than a text are explained, which takes far longer than judging them.
    """

    files: tuple[str, ...]
    source: str
    detail: Detail
    to: To
    only: frozenset[str] = frozenset(LABELS)
    explain: Explain = "facts"
    explain_rows: Explain = "facts"
    calls: int | None = None
    seconds: float | None = None
    lines: bool = True
    block: int = SIZE

    @property
    def limited(self) -> bool:
        return self.calls is not None or self.seconds is not None


@dataclass
class BulkRunner:
    """One run over the files that are ``wanted``.

    ``say`` takes notes for a person. After it ``summary`` says what was found, ``failures`` what could not be judged;
    ``kept`` is how many records a run that resumes need not judge again.
    """

    context: AppContext
    intake: ReadOptions
    wanted: BulkOptions
    progress: Progress
    say: Callable[[str], None]
    failures: list[RowError | JudgeError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    noted: int = 0
    kept: int = 0

    def __post_init__(self) -> None:
        wanted, context = self.wanted, self.context
        self._row = context.source(wanted.source)
        until = None if wanted.seconds is None else time.monotonic() + wanted.seconds
        self._judging = GroupJudge(context, wanted.source, wanted.explain, Budget(wanted.calls, until), self.progress)
        self.summary = Summary(source=wanted.source)
        self._space = space = self._row.space or Representation()
        by_text = bool((self._row.judge or {}).get("by_text"))
        templates = context.casebook.templates(wanted.source) if by_text else {}
        held = [] if space.field_encoder or space.prose else context.casebook.texts(wanted.source)
        self._sorter = TemplateGrouper(space, held, lambda key: by_text and key not in templates)
        self._lines = LineFormatter(wanted.detail, wanted.to)
        self._answers: list[Verdict | JudgeError] = []
        self._labels, self._far = np.zeros(0, np.int8), np.zeros(0, np.bool_)
        self._lacking = np.zeros(0, np.bool_)

    @property
    def run_id(self) -> str:
        """What a run that resumes must have in common with the one it goes on with."""
        wanted = self.wanted
        said = [wanted.files, wanted.source, wanted.detail, wanted.to, sorted(wanted.only), self._judging.state]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()

    def run(
        self, path: Path | None, *, resume: bool = False, then: Sequence[Callable[[Summary], None]] = ()
    ) -> Summary:
        """Write a line for each record to ``path`` (None: standard output), if any lines are wanted.

        ``then``: what else is to be done before there is nothing to resume.
        """
        started, wanted = time.monotonic(), self.wanted
        self._started, self._due = started, 0.0
        self._output = Output(path, self.run_id, templates=wanted.detail == "compact", resume=resume)
        state = self._output.state
        if self._output.unfinished:
            self.say(f"{path} was not finished; without --resume it begins anew")
        if state:
            self.summary = Summary.model_validate(state["summary"])
            self.kept = self.summary.records
        elif wanted.lines:
            self._output.write(self._lines.header)
            self._checkpoint(0, (0, 1))
        before, asked, whole = self.summary.seconds, self.summary.asked, False
        try:
            if wanted.limited:
                self._survey()
            for number in range(state.get("file", 0), len(wanted.files)):
                at = state["at"] if number == state.get("file") else [0, 1]
                for end in self._file(wanted.files[number], *at):
                    self.summary.seconds = before + time.monotonic() - started
                    self.summary.asked = asked + self._judging.asked
                    self._tell()
                    if wanted.lines and time.monotonic() >= self._due:
                        self._checkpoint(number, end)
            self._output.flush()
            for last in then:
                last(self.summary)
            whole = True
        finally:
            self._output.close(whole=whole)
        return self.summary

    def _checkpoint(self, file: int, at: tuple[int, int]) -> None:
        """Here a run that resumes begins. The next one is later by far more than this one took."""
        started = time.monotonic()
        self._output.checkpoint(file=file, at=at, summary=self.summary.model_dump(mode="json"))
        self.kept, now = self.summary.records, time.monotonic()
        self._due = now + max(_PAUSE, _PAUSES * (now - started))

    def _survey(self) -> None:
        """Meet all templates before any is judged, so that the model is asked where it is worth most."""
        for file in self.wanted.files:
            if file == "-":
                continue
            with self._opened(file) as (stream, kind, request):
                if self._is_simple(kind, request):
                    for prepared, slots in self._sorted(stream, request, 0, 1):
                        counts = np.bincount(slots[slots >= 0], minlength=len(self._sorter.slots))
                        for slot in np.flatnonzero(counts).tolist():
                            self._sorter.slots[slot].count += int(counts[slot])
                        self.progress("looking for templates", prepared.block.first + len(slots), 0)
        self.failures.clear()
        self._judge_new()

    def _opened(self, file: str) -> AbstractContextManager[tuple[Stream, Kind, ReadRequest]]:
        return self.intake.open(file, self.context.settings.max_record_chars, lenient=True)

    def _is_simple(self, kind: Kind, request: ReadRequest) -> bool:
        """Whether each line is a text and nothing else, but for a label in front of it."""
        space = self._space
        return (
            kind == "log"
            and not request.text
            and request.label in (None, "0")
            and not (space.field_encoder or space.prose)
        )

    def _file(self, file: str, start: int, line: int) -> Iterator[tuple[int, int]]:
        """Judge and write a file from byte ``start`` on, with its line; after each part, where the rest begins."""
        with self._opened(file) as (stream, kind, request):
            if not self._is_simple(kind, request):
                yield from self._rows(read_rows(stream, kind, request), file, start)
                return
            for prepared, slots in self._sorted(stream, request, start, line):
                self._judge_new()
                self._write(file, prepared, slots)
                self._show(file, prepared.block.end)
                yield prepared.block.end, prepared.block.first + len(slots)

    def _sorted(
        self, stream: Stream, request: ReadRequest, start: int, line: int
    ) -> Iterator[tuple[PreparedChunk, GroupNumbers]]:
        read = read_chunks(stream, start=start, line=line, size=self.wanted.block)
        try:
            for prepared in prefetch((self._sorter.prepare(block, request) for block in read), _AHEAD):
                yield prepared, self._sorter.sort(prepared)
        except Damaged as damage:
            self.failures.append(request.row_error(damage.line, damage.reason))

    def _judge_new(self) -> None:
        """Give the slots that have none their verdicts."""
        new = self._sorter.slots[len(self._answers) :]
        if not new:
            return
        answers = self._judging.verdicts(new)
        self._answers += answers
        self._labels = np.concatenate([self._labels, np.array([_place(one) for one in answers], np.int8)])
        self._far = np.concatenate([self._far, np.array([_is_far(one) for one in answers], np.bool_)])
        lacking = [isinstance(one, Verdict) and bool(one.degraded) for one in answers]
        self._lacking = np.concatenate([self._lacking, np.array(lacking, np.bool_)])
        for slot, answer in zip(new, answers, strict=True):
            self._lines.know(answer, slot.id)
            if isinstance(answer, Verdict):
                self.summary.templates += self._output.template(slot.id, answer)
            else:
                self.failures.append(answer)

    def _write(self, file: str, prepared: PreparedChunk, slots: GroupNumbers) -> None:
        there = np.flatnonzero(slots >= 0)
        there = there[self._labels[slots[there]] >= 0]
        labels, first = self._labels[slots[there]], prepared.block.first

        def texts(places: NDArray[np.int64]) -> list[str]:
            return prepared.texts(there[places])

        if self.wanted.lines:
            only = [i for i, name in enumerate(LABELS) if name in self.wanted.only]
            kept = np.flatnonzero(np.isin(labels, only))
            numbers, own = first + there[kept], slots[there[kept]]
            for lines in self._lines.of(file, numbers, own, partial(texts, kept)):
                self._output.write(lines)
        self.summary.blank += int((slots == BLANK).sum())
        self.summary.far += int(self._far[slots[there]].sum())
        slots_lacking, counts = np.unique(slots[there][self._lacking[slots[there]]], return_counts=True)
        for slot, count in zip(slots_lacking.tolist(), counts.tolist(), strict=True):
            self.summary.lack(self._group(slot)[1], count)
        self.summary.add(
            file, first + there, labels, slots[there], self._group, lambda places: list(map(find_time, texts(places)))
        )

    def _group(self, slot: int) -> tuple[str, Verdict]:
        verdict = self._answers[slot]
        assert isinstance(verdict, Verdict)
        return self._sorter.slots[slot].group, verdict

    def _rows(self, items: Iterator[ParsedRow | RowError], file: str, done: int) -> Iterator[tuple[int, int]]:
        """Records that are more than a text, each judged by itself; where the rest begins is a number of them."""
        waiting = islice(items, done, None)
        while chunk := list(islice(waiting, _ROWS)):
            readings = [one for one in chunk if isinstance(one, ParsedRow)]
            self.failures += [one for one in chunk if isinstance(one, RowError)]
            self.notes += [f"{file}:{one.record.line}: {note}" for one in readings for note in one.notes]
            slots = [
                TemplateGroup(
                    hashlib.sha256(f"{one.record.content_hash}\0{number}".encode()).hexdigest(), key, one.record
                )
                for number, one in enumerate(readings)
                for key in [self._space.key(one.record, one.record.content_hash)]
            ]
            answers = self._judging.verdicts(slots, remember=False, explain=self.wanted.explain_rows)
            self._write_rows(file, slots, answers)
            done += len(chunk)
            self._show(file, 0)
            yield done, 1

    def _write_rows(self, file: str, slots: Sequence[TemplateGroup], answers: Sequence[Verdict | JudgeError]) -> None:
        self.failures += [one for one in answers if isinstance(one, JudgeError)]
        pairs = [(slot, one) for slot, one in zip(slots, answers, strict=True) if isinstance(one, Verdict)]
        if self.wanted.lines:
            for slot, verdict in pairs:
                if verdict.label in self.wanted.only:
                    self._output.write(self._lines.one(verdict, slot.group))
                    self._output.template(slot.group, verdict)
        self.summary.templates += len(pairs)
        self.summary.far += sum(_is_far(one) for _, one in pairs) if self._space.field_encoder is None else 0
        for _, one in pairs:
            self.summary.lack(one, 1)
        numbers = np.array([one.record.line or 0 for _, one in pairs], np.int64)
        labels = np.array([_place(one) for _, one in pairs], np.int8)
        self.summary.add(
            file,
            numbers,
            labels,
            np.arange(len(pairs), dtype=np.int32),
            lambda i: (pairs[i][0].group, pairs[i][1]),
            lambda places: [record.time or find_time(record.text) for record in (pairs[i][1].record for i in places)],
        )

    def _show(self, file: str, done: int) -> None:
        """How far it is; of how many, guessed from the bytes of ``file`` that are ``done``."""
        records, seconds = self.summary.records, time.monotonic() - self._started
        size = Path(file).stat().st_size if done and file != "-" else 0
        total = int(records * max(size / done, 1)) if size and len(self.wanted.files) == 1 else 0
        asked = f", model asked {self._judging.asked:,}" if self._judging.asked else ""
        left = f" of {self.wanted.calls:,}" if self.wanted.calls is not None and asked else ""
        note = f"({records / max(seconds, 1e-9):,.0f}/s, {self.summary.templates:,} verdicts{asked}{left})"
        self.progress("judging", records, total, note)

    def _tell(self) -> None:
        """Notes of the readers, the first twenty; the rest are counted."""
        self.notes += self._sorter.notes
        self._sorter.notes.clear()
        self.noted += len(self.notes)
        room = max(0, _MOST_NOTES - (self.noted - len(self.notes)))
        for note in self.notes[:room]:
            self.say(note)
        self.notes.clear()


def _is_far(answer: Verdict | JudgeError) -> bool:
    return isinstance(answer, Verdict) and is_far(answer.signals["novelty"])


def _place(answer: Verdict | JudgeError) -> int:
    return LABELS.index(answer.label) if isinstance(answer, Verdict) else UNJUDGED
