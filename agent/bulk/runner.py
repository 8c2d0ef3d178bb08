"""The loop of a bulk run: files to chunks, chunks to groups, groups to verdicts, verdicts to lines."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from agent.bulk.alike import AlikeRows
from agent.bulk.chunks import prefetch
from agent.bulk.group_judge import Budget, GroupJudge
from agent.bulk.grouped_records import GroupedRecords, TextBlocks, add_contents, of_log
from agent.bulk.judged_groups import JudgedGroups
from agent.bulk.options import BulkOptions
from agent.bulk.output import LineFormatter, Output
from agent.bulk.record_writer import RecordWriter
from agent.bulk.summary import Summary
from agent.bulk.template_grouping import TemplateGrouper
from agent.bulk.traits import UNJUDGED
from agent.core.errors import InputError
from agent.core.records import VERDICT_LABELS, JudgeError, Verdict
from agent.core.terminal import plural
from agent.data.block_readers import open_blocks
from agent.data.blocks import BlockTable
from agent.data.chunks import read_chunks
from agent.data.read_options import ReadOptions
from agent.data.readers import Kind, ParsedRow, ReadRequest, RowError
from agent.data.readers.byte_stream import Damaged, Stream
from agent.data.record_parts import RecordPart, in_lists
from agent.data.record_readers import read_parts
from agent.pipeline.context import AppContext
from retrieval.encoding.representation import Representation

# notes shown; chunks, and blocks of texts, that are prepared ahead
_MAX_NOTES, _PREFETCH, _PREFETCH_BLOCKS = 20, 8, 3
# minimum seconds between checkpoints, absolute and as a multiple of what one takes
_PAUSE, _PAUSES = 1.0, 20
Progress = Callable[..., None]

__all__ = ["BulkOptions", "BulkRunner"]


@dataclass
class BulkRunner:
    """One run over the files of its options.

    Parameters
    ----------
    context, read_options, options
        Parts of this process, how to read the files, and what to do.
    progress : callable
        See `agent.core.terminal.progress`.
    notify : callable
        Takes notes for a person.

    Attributes
    ----------
    summary : Summary
    failures : list of RowError or JudgeError
        Records that could not be read or judged.
    written : int
        Records before the last checkpoint, which a resumed run does not judge again.
    note_count : int
        Notes of the readers, of which the first are shown.
    """

    context: AppContext
    read_options: ReadOptions
    options: BulkOptions
    progress: Progress
    notify: Callable[[str], None]
    failures: list[RowError | JudgeError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    note_count: int = 0
    written: int = 0

    def __post_init__(self) -> None:
        options, context = self.options, self.context
        row = context.source(options.source)
        until = None if options.seconds is None else time.monotonic() + options.seconds
        self._judge = GroupJudge(context, options.source, options.explain, Budget(options.calls, until), self.progress)
        self.summary = Summary(source=options.source)
        self._representation = representation = row.representation or Representation()
        by_text = bool((row.source_model or {}).get("by_text"))
        templates = context.casebook.templates(options.source) if by_text else {}
        texts = [] if representation.field_encoder or representation.prose else context.casebook.texts(options.source)
        self._grouper = TemplateGrouper(representation, texts, lambda key: by_text and key not in templates)
        self._formatter = LineFormatter(options.detail, options.to, raw=options.csv_raw)
        self._alike = AlikeRows.of(row)
        self._groups = JudgedGroups(
            self._grouper,
            self._judge,
            self._formatter,
            keeps_all=options.calls is not None or options.seconds is not None,
            is_full=options.detail == "full",
        )

    @property
    def run_id(self) -> str:
        """What a run has in common with the runs that can resume it."""
        options = self.options
        form = [options.detail, options.to, options.csv_raw, sorted(options.only)]
        parts = [options.files, options.source, *form, self._judge.state]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def run(
        self, path: Path | None, *, resume: bool = False, on_finish: Sequence[Callable[[Summary], None]] = ()
    ) -> Summary:
        """Judge all files.

        Parameters
        ----------
        path : Path or None
            Where a line for each record is written; None is standard output.
        resume : bool
            Whether to continue the file.
        on_finish : sequence of callable
            Called with the summary at the end, before the checkpoint is removed.
        """
        self._started, self._checkpoint_due, options = time.monotonic(), 0.0, self.options
        self._output = Output(path, self.run_id, templates=options.detail == "compact", resume=resume)
        state = self._output.state
        if self._output.unfinished:
            self.notify(f"{path} was not finished; without --resume it is written again")
        if state:
            self.summary = Summary.model_validate(state["summary"])
            self.written = self.summary.records
        elif options.lines:
            self._output.write(self._formatter.header)
            self._checkpoint(0, (0, 1))
        self._records = self._new_records()
        earlier, finished = self.summary.model_copy(), False
        try:
            if options.calls is not None or options.seconds is not None:
                self._survey()
            for number, end in self._files(state.get("file", 0), state.get("at", (0, 1))):
                self.summary.seconds = earlier.seconds + time.monotonic() - self._started
                self.summary.set_llm_use(earlier, self._judge.llm_answers, self._judge.llm_changed)
                self._show_notes()
                if options.lines and time.monotonic() >= self._checkpoint_due:
                    self._checkpoint(number, end)
            if (rest := self.note_count - _MAX_NOTES) > 0:
                self.notify(f"{plural(rest, 'more note')} on what was read, not shown")
            self._records.judge_listed(options.listed)
            self._output.flush()
            for callback in on_finish:
                callback(self.summary)
            finished = True
        finally:
            self._output.close(finished=finished)
        return self.summary

    def _new_records(self) -> RecordWriter:
        return RecordWriter(
            self._judge,
            self.options,
            self.read_options,
            self._representation,
            self._formatter,
            self._alike,
            self._output,
            self.summary,
            self.failures,
            self.notes,
        )

    def _checkpoint(self, file: int, at: tuple[int, int]) -> None:
        started = time.monotonic()
        self._output.checkpoint(file=file, at=at, summary=self.summary)
        self.written, now = self.summary.records, time.monotonic()
        self._checkpoint_due = now + max(_PAUSE, _PAUSES * (now - started))

    def _survey(self) -> None:
        """Count the records of all groups before any is judged, so that the most uncertain are queried first."""
        for file in self.options.files:
            if file == "-":
                continue
            with self._open(file) as (stream, kind, request):
                done = 0
                for records in self._batches(stream, kind, request, 0, 1) or ():
                    counts = np.bincount(records.groups, minlength=len(self._grouper.groups))
                    for number in np.flatnonzero(counts).tolist():
                        self._grouper.groups[number].count += int(counts[number])
                    done += len(records.lines)
                    self.progress("looking for templates", done, 0)
        self.failures.clear()
        self._judge_new_groups()

    def _open(self, file: str) -> AbstractContextManager[tuple[Stream, Kind, ReadRequest]]:
        return self.read_options.open(file, self.context.settings.max_record_chars, lenient=True)

    def _is_plain(self, kind: Kind, request: ReadRequest) -> bool:
        """Whether each line is a text and nothing else, except for a label before it."""
        is_log = kind == "log" and not request.text and request.label in (None, "0")
        return is_log and not (self._representation.field_encoder or self._representation.prose)

    def _files(self, first: int, at: Sequence[int]) -> Iterator[tuple[int, tuple[int, int]]]:
        """Judge the files from a position in one of them on; yields its number and the position after each part."""
        for number in range(first, len(self.options.files)):
            start, line = at if number == first else (0, 1)
            for end in self._file(self.options.files[number], start, line):
                yield number, end

    def _file(self, file: str, start: int, line: int) -> Iterator[tuple[int, int]]:
        """Judge a file from an offset and its line number on; yields the position after each part."""
        with self._open(file) as (stream, kind, request):
            batches = self._batches(stream, kind, request, start, line)
            if batches is None:
                yield from self._rows(self._record_parts(stream, kind, request), file, start)
                return
            for records in batches:
                self._judge_new_groups()
                self._write(file, records)
                self._groups.forget_if_full()
                self._show_progress(file, records.size)
                yield records.position

    def _batches(
        self, stream: Stream, kind: Kind, request: ReadRequest, start: int, line: int
    ) -> Iterator[GroupedRecords] | None:
        """The records of a file by array; None if each is more than a text."""
        if self._is_plain(kind, request):
            return self._of_log(stream, request, start, line)
        table = self._text_table(stream, kind, request)
        return None if table is None else self._of_table(table, start)

    def _text_table(self, stream: Stream, kind: Kind, request: ReadRequest) -> BlockTable | None:
        """A file of records of one text each, in blocks; None if it has others."""
        if self._representation.field_encoder or self._representation.prose or self.read_options.series is not None:
            return None
        table = open_blocks(stream, kind, request, self.options.chunk_size)
        return table if table is not None and table.is_text else None

    def _of_log(self, stream: Stream, request: ReadRequest, start: int, line: int) -> Iterator[GroupedRecords]:
        chunks = read_chunks(stream, start=start, line=line, size=self.options.chunk_size, rule=request.entries)
        try:
            for prepared in prefetch((self._grouper.prepare(chunk, request) for chunk in chunks), _PREFETCH):
                yield of_log(prepared, self._grouper.assign(prepared))
        except Damaged as damage:
            self.failures.append(request.row_error(damage.line, damage.reason, stops=True))

    def _of_table(self, table: BlockTable, start: int) -> Iterator[GroupedRecords]:
        """Records of one column; ``start`` of them were judged before, and positions are numbers of records."""
        blocks, done = TextBlocks(table, self._grouper), 0
        try:
            for block, prepared in prefetch(blocks.prepare(), _PREFETCH_BLOCKS):
                done += block.items
                if done > start:
                    yield blocks.group(block, prepared, done)
        except Damaged as damage:
            self.failures.append(table.request.row_error(damage.line, damage.reason, stops=True))

    def _judge_new_groups(self) -> None:
        for group, result in self._groups.judge_new():
            if isinstance(result, Verdict):
                self.summary.templates += self._output.write_template(group.name, result)
            else:
                self.failures.append(result)

    def _write(self, file: str, records: GroupedRecords) -> None:
        """Write and count records whose groups have been judged."""
        self.failures += records.failures
        self.notes += records.notes
        self.summary.blank += records.blank
        judged = np.flatnonzero(self._groups.traits["label"][records.groups] != UNJUDGED)
        lines, groups = records.lines[judged], records.groups[judged]
        traits = self._groups.traits[groups]
        if self.options.lines:
            kept = np.flatnonzero(np.isin(traits["label"], [VERDICT_LABELS.index(name) for name in self.options.only]))
            times = None if records.times is None else partial(records.times, judged[kept])
            texts = partial(records.texts, judged[kept])
            for line in self._formatter.format_lines(file, lines[kept], groups[kept], texts, times):
                self._output.write(line)
        self.summary.far += int(traits["is_far"].sum())
        for group, count in zip(*np.unique(groups[traits["is_degraded"]], return_counts=True), strict=True):
            self.summary.add_degraded(self._groups.verdict(int(group)).degraded, int(count))
        if records.times is not None:
            add_contents(self.summary.batch, records, judged, self._groups)
        self.summary.add(
            file,
            lines,
            traits["label"],
            groups,
            self._groups.template,
            self._groups.verdict,
            lambda indices: records.times_seen(judged[indices]),
        )

    def _record_parts(
        self, stream: Stream, kind: Kind, request: ReadRequest
    ) -> Iterator[RecordPart | list[ParsedRow | RowError]]:
        if kind == "log" or self.read_options.series is not None:
            return in_lists(self.read_options.rows(stream, kind, request))
        return read_parts(stream, kind, request)

    def _rows(
        self, parts: Iterator[RecordPart | list[ParsedRow | RowError]], file: str, done: int
    ) -> Iterator[tuple[int, int]]:
        """Judge records that are more than a text; positions are numbers of records."""
        records = self._records
        for count, rows, block in records.prepared(without_first(parts, done)):
            records.write(file, rows, block)
            done += count
            self._show_progress(file, 0)
            yield done, 1
        if not done:
            raise InputError("has no records", file)

    def _show_progress(self, file: str, done: int) -> None:
        """Show how many records are done; their total is estimated from the ``done`` bytes of ``file``."""
        records, seconds = self.summary.records, time.monotonic() - self._started
        # readers may resolve names themselves, as for uploads
        size = Path(file).stat().st_size if done and Path(file).is_file() else 0
        total = int(records * max(size / done, 1)) if size and len(self.options.files) == 1 else 0
        calls = f", {plural(self._judge.llm_answers, 'model call')}" if self._judge.llm_answers else ""
        limit = f" of {self.options.calls:,}" if self.options.calls is not None and calls else ""
        verdicts = plural(self.summary.templates, "distinct verdict")
        self.progress("judging", records, total, f"({records / max(seconds, 1e-9):,.0f}/s, {verdicts}{calls}{limit})")

    def _show_notes(self) -> None:
        """Show the first notes of the readers; all are counted."""
        self.notes += self._grouper.notes
        self._grouper.notes.clear()
        for note in self.notes[: max(0, _MAX_NOTES - self.note_count)]:
            self.notify(note)
        self.note_count += len(self.notes)
        self.notes.clear()


def without_first(
    parts: Iterable[RecordPart | list[ParsedRow | RowError]], count: int
) -> Iterator[RecordPart | list[ParsedRow | RowError]]:
    """The parts without the first ``count`` rows, which an earlier run wrote."""
    for part in parts:
        skipped = min(len(part), count)
        count -= skipped
        if skipped < len(part):
            yield part[skipped:] if isinstance(part, list) else part.slice(skipped)
