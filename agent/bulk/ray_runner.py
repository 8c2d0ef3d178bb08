"""A bulk run whose parts are judged by the workers of a Ray cluster.

This process reads the files, hands out parts of them, and writes the results in order; it keeps the checkpoints, the
history and the summary. So the workers need no access to the files, and a run is resumed as a local one is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

from agent.bulk.part_judge import JudgedPart, Part
from agent.bulk.ray_cluster import RayCluster
from agent.bulk.runner import BulkRunner, without_first
from agent.bulk.snapshot import Snapshot
from agent.core.errors import InputError, UsageError
from agent.core.records import JudgeError
from agent.data.chunks import read_chunks
from agent.data.readers import Kind, ReadRequest
from agent.data.readers.byte_stream import Damaged, Stream
from agent.pipeline.history_writing import try_to_keep


@dataclass
class RayRunner(BulkRunner):
    """As `BulkRunner`, on the Ray cluster at ``address``."""

    address: str = "ray"
    cluster: ClassVar[Callable[..., AbstractContextManager[Any]]] = RayCluster

    def __post_init__(self) -> None:
        if self.options.calls is not None or self.options.seconds is not None:
            raise UsageError("--on ray: --llm-calls and --time-limit need one process, which sees all templates")
        if self.read_options.series is not None:
            raise UsageError("--on ray: a time series is judged in its order: leave --on out")
        # the first records that are not normal are not known to a worker
        self.options = replace(self.options, explain_found=False)
        super().__post_init__()
        self._failed, self._in_history = set[str](), set[str]()

    def _files(self, first: int, at: Sequence[int]) -> Iterator[tuple[int, tuple[int, int]]]:
        snapshot = Snapshot.of(self.context, self.options.source)
        workers = self.context.settings.ray_workers
        connected = type(self).cluster(
            self.address, workers, snapshot, self.read_options, self.options, self._judge.state, self.notify
        )
        with connected as cluster:
            for part, judged in cluster.judge(self._parts(first, at)):
                self._add(part, judged)
                self._show_progress(part.file, part.end[0] if part.data else 0)
                yield part.number, part.end

    def _parts(self, first: int, at: Sequence[int]) -> Iterator[Part]:
        """The parts of all files from a position on."""
        for number in range(first, len(self.options.files)):
            file, (start, line) = self.options.files[number], at if number == first else (0, 1)
            with self._open(file) as (stream, kind, request):
                parts = self._of_file(stream, kind, request, start, line)
                try:
                    for part in parts:
                        yield replace(part, number=number)
                except Damaged as damage:
                    self.failures.append(request.row_error(damage.line, damage.reason, stops=True))

    def _of_file(self, stream: Stream, kind: Kind, request: ReadRequest, start: int, line: int) -> Iterator[Part]:
        """The parts of one file from a position on."""
        of_file = partial(Part, 0, file=request.file, kind=kind)
        if self._is_plain(kind, request):
            size = self.options.chunk_size
            for chunk in read_chunks(stream, start=start, line=line, size=size, rule=request.entries):
                end = chunk.end, chunk.first + chunk.lines
                yield of_file(end, request=request, line=chunk.first, data=chunk.data)
            return
        done = 0
        if (table := self._text_table(stream, kind, request)) is not None:
            blocks, table = table.blocks, replace(table, blocks=iter(()))
            for block in blocks:
                done += block.items
                if done > start:
                    yield of_file((done, 1), request=table.request, table=table, block=block)
        else:
            done = start
            for rows in without_first(self._record_parts(stream, kind, request), start):
                done += len(rows)
                yield of_file((done, 1), request=request, rows=rows)
        if not done:
            raise InputError("has no records", request.file)

    def _add(self, part: Part, judged: JudgedPart) -> None:
        """Write, store and count the results of a part; the parts before it have been added."""
        self._output.write(judged.lines)
        for name, line in judged.templates:
            is_new = self._output.write_template(name, line)
            self.summary.templates += is_new and not part.rows
        self._judge.stored.put(judged.cached)
        new = {name: body for name, body in judged.history if name not in self._in_history}
        self._in_history.update(new)
        note = try_to_keep(lambda: self.context.history.put(map(json.loads, new.values())))
        if note is not None:
            # the lines have been written by the workers
            judged.summary.add_degraded([note], judged.summary.records)
        self._judge.llm_answers += judged.llm_answers
        self._judge.llm_changed += judged.llm_changed
        self.summary.merge(judged.summary)
        self.failures += [failure for failure in judged.failures if part.rows or self._is_new(failure)]
        self.notes += judged.notes

    def _is_new(self, failure: object) -> bool:
        """Whether no other worker failed at the same template."""
        if not isinstance(failure, JudgeError):
            return True
        key = self._representation.key(failure.record, failure.record.content_hash)
        known = key in self._failed
        self._failed.add(key)
        return not known
