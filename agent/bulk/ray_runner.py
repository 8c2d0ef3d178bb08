"""A bulk run whose parts are judged by the workers of a Ray cluster.

This process reads the files, hands out parts of them, and writes the results in order; it keeps the checkpoints, the
history and the summary. So the workers need no access to the files, and a run is resumed as a local one is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar

from agent.bulk.chunks import read_chunks
from agent.bulk.part_judge import JudgedPart, Part
from agent.bulk.ray_cluster import RayCluster
from agent.bulk.runner import ROWS, BulkRunner
from agent.bulk.snapshot import Snapshot
from agent.core.errors import InputError, UsageError
from agent.core.records import Verdict
from agent.data.readers.byte_stream import Damaged


@dataclass
class RayRunner(BulkRunner):
    """As `BulkRunner`, on the Ray cluster at ``address``."""

    address: str = "ray"
    cluster: ClassVar[Callable[..., AbstractContextManager[Any]]] = RayCluster

    def __post_init__(self) -> None:
        super().__post_init__()
        self._failed = set[str]()
        if self.options.calls is not None or self.options.seconds is not None:
            raise UsageError("--on ray: --llm-calls and --time-limit need one process, which sees all templates")

    def _files(self, first: int, at: Sequence[int]) -> Iterator[tuple[int, tuple[int, int]]]:
        snapshot = Snapshot.of(self.context, self.options.source)
        workers = self.context.settings.ray_workers
        connected = type(self).cluster(
            self.address, workers, snapshot, self.read_options, self.options, self._judge.state, self.notify
        )
        with connected as cluster:
            for part, judged in cluster.judge(self._parts(first, at)):
                self._add(part, judged)
                self._show_progress(part.file, part.end[0] if part.chunk else 0)
                yield part.number, part.end

    def _parts(self, first: int, at: Sequence[int]) -> Iterator[Part]:
        """The parts of all files from a position on."""
        for number in range(first, len(self.options.files)):
            file, (start, line) = self.options.files[number], at if number == first else (0, 1)
            with self._open(file) as (stream, kind, request):
                if not self._is_plain(kind, request):
                    remaining, done = islice(self.read_options.rows(stream, kind, request), start, None), start
                    while rows := list(islice(remaining, ROWS)):
                        done += len(rows)
                        yield Part(number, (done, 1), file, rows=rows, groups=self._row_groups(rows))
                    if not done:
                        raise InputError("has no records", file)
                    continue
                chunks = read_chunks(stream, start=start, line=line, size=self.options.chunk_size, rule=request.entries)
                try:
                    for chunk in chunks:
                        yield Part(number, (chunk.end, chunk.first + chunk.lines), file, chunk, request)
                except Damaged as damage:
                    self.failures.append(request.row_error(damage.line, damage.reason, stops=True))

    def _add(self, part: Part, judged: JudgedPart) -> None:
        """Write and count the results of a part; the parts before it have been added."""
        self._judge.llm_answers += judged.llm_answers
        self._judge.llm_changed += judged.llm_changed
        self._judge.keep(judged.groups, judged.results, store=part.chunk is not None)
        if part.chunk is None:
            self._write_rows(part.file, part.rows, part.groups, judged.results)
            return
        for group, result in zip(judged.groups, judged.results, strict=True):
            if isinstance(result, Verdict):
                self.summary.templates += self._output.write_template(group.id, result)
            elif group.key not in self._failed:
                self._failed.add(group.key)
                self.failures.append(result)
        self._output.write(judged.lines)
        self.summary.merge(judged.summary)
        self.failures += judged.failures
        self.notes += judged.notes
