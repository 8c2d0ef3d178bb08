"""Reading files without labels: the template, the time and the address of each record, in bounded memory per record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from agent.bulk.chunks import prefetch
from agent.bulk.prepared_chunk import PreparedChunk
from agent.bulk.template_grouping import TemplateGrouper
from agent.bulk.unlabelled.status_numbers import find_status_numbers
from agent.bulk.unlabelled.times import TimeReader, read_times, without_jumps
from agent.core.progress import Progress
from agent.core.records import Record
from agent.data.chunks import read_chunks
from agent.data.read_options import ReadOptions
from agent.data.readers import ParsedRow, ReadRequest, RowError, read_rows
from agent.data.readers.byte_stream import Damaged, Stream
from agent.data.readers.entries import EntryRule, LineKind
from retrieval.encoding.representation import Representation
from retrieval.text.kept_numbers import KeptNumbers, mask_except

# an address that is no part of a version or a name
_ADDRESS = r"(?:^|[\s=(\[/,;:@\"'<|])((?:\d{1,3}\.){3}\d{1,3})\b"
# times read of a chunk; lines in which status numbers are looked for; rows that decide how a table is compared; rows at
# a time; characters and lines of a template
_TIMES, _SAMPLE_LINES, _SAMPLE_ROWS, _ROWS, _TEXT_CHARS, _TEXT_LINES = 4_000, 2_000, 500, 4_096, 2_000, 2
_NO_ADDRESS, _MOST_TIMED = -1, 0.8


@dataclass
class Scan:
    """The n records of some files in the order of their times, or of the files where these are unknown.

    Attributes
    ----------
    masked, examples : list
        Masked text and first record of each template.
    templates : ndarray of int32, shape (n,)
        The template of each record.
    files, lines : ndarray of int32, shape (n,)
        Where it is: an index of ``names``, and the line.
    times : ndarray of float64, shape (n,)
        Seconds; NaN where unknown.
    addresses : ndarray of int32, shape (n,)
        The first network address in it, an index of ``address_names``; below 0 for none.
    failures : list of RowError
        What could not be read.
    has_numbers : bool
        Whether records are rows with numbers and no prose, of which templates say nothing.
    """

    names: list[str]
    masked: list[str] = field(default_factory=list)
    examples: list[Record] = field(default_factory=list)
    address_names: list[str] = field(default_factory=list)
    templates: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    files: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    lines: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    times: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    addresses: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    failures: list[RowError] = field(default_factory=list)
    has_numbers: bool = False

    @property
    def has_times(self) -> bool:
        """Whether every record has a time."""
        return bool(len(self.times)) and not np.isnan(self.times).any()


def scan_files(paths: Sequence[str], read_options: ReadOptions, max_chars: int, progress: Progress) -> Scan:
    """Read all records of the files.

    Raises
    ------
    InputError
        A file cannot be read as a whole.
    """
    scanner = _Scanner(Scan(list(paths)), progress)
    for number, path in enumerate(paths):
        with read_options.open(path, max_chars, lenient=True) as (stream, kind, request):
            if kind == "log":
                scanner.log(number, stream, request)
            else:
                scanner.rows(number, read_rows(stream, kind, request))
    return scanner.finish()


class _Scanner:
    """Collects the records of all files."""

    def __init__(self, scan: Scan, progress: Progress) -> None:
        self._scan, self._progress = scan, progress
        self._kept: KeptNumbers = ()
        self._by_masked: dict[str, int] = {}
        self._by_address: dict[str, int] = {}
        self._parts: list[tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]] = []
        self._times: list[list[NDArray[np.float64]]] = [[] for _ in scan.names]
        self._done = 0

    def log(self, file: int, stream: Stream, request: ReadRequest) -> None:
        """Add the entries of a log."""
        sample = stream.look_at_lines(_SAMPLE_LINES).decode("utf-8", "replace").splitlines()[:_SAMPLE_LINES]
        self._kept = find_status_numbers(sample)
        request = replace(request, entries=_confirmed(request.entries, sample))
        grouper = TemplateGrouper(Representation(kept=self._kept), (), lambda _: False)
        of_group, reader = list[int](), TimeReader()
        chunks = read_chunks(stream, rule=request.entries)
        try:
            for prepared in prefetch((grouper.prepare(chunk, request) for chunk in chunks), 4):
                numbers = grouper.assign(prepared)
                of_group += [self._template(group.first, group.first.text) for group in grouper.groups[len(of_group) :]]
                places = np.flatnonzero(numbers >= 0)
                if len(places):
                    self._add_chunk(file, prepared, places, np.array(of_group, np.int32)[numbers[places]], reader)
        except Damaged as damage:
            self._scan.failures.append(request.row_error(damage.line, damage.reason, stops=True))

    def _add_chunk(
        self,
        file: int,
        prepared: PreparedChunk,
        places: NDArray[np.int64],
        templates: NDArray[np.int32],
        reader: TimeReader,
    ) -> None:
        import polars as pl

        lines = prepared.lines
        if lines is None:
            texts = prepared.texts(places)
            lines, at = pl.Series(texts, dtype=pl.String), np.arange(len(texts))
        else:
            at = places
        times = read_times(reader, len(at), _TIMES, lambda chosen: lines.gather(at[chosen]).to_list())
        found = lines.gather(at).str.extract(_ADDRESS)
        self._add(file, templates, prepared.chunk.first + places, times, self._addresses(found))

    def _addresses(self, found: object) -> NDArray[np.int32]:
        import polars as pl

        assert isinstance(found, pl.Series)
        distinct = found.drop_nulls().unique(maintain_order=True)
        if not len(distinct):
            return np.full(len(found), _NO_ADDRESS, np.int32)
        numbers = [self._by_address.setdefault(name, len(self._by_address)) for name in distinct.to_list()]
        return found.replace_strict(distinct, pl.Series(numbers, dtype=pl.Int32), default=_NO_ADDRESS).to_numpy()

    def rows(self, file: int, items: object) -> None:
        """Add the rows of a table, compared by their prose where they have some."""
        self._kept = ()
        remaining = iter(items)  # type: ignore[call-overload]
        representation: Representation | None = None
        while batch := list(islice(remaining, _ROWS)):
            self._scan.failures += [item for item in batch if isinstance(item, RowError)]
            records = [item.record for item in batch if isinstance(item, ParsedRow)]
            representation = representation or Representation.fit(records[:_SAMPLE_ROWS])
            encoder = representation.field_encoder
            self._scan.has_numbers |= encoder is not None and bool(encoder.numbers)
            templates = [self._template(record, representation.full_text(record)) for record in records]
            reader = TimeReader()
            times = reader.read([record.time or record.text for record in records])
            import polars as pl

            found = pl.Series([record.text for record in records], dtype=pl.String).str.extract(_ADDRESS)
            self._add(
                file,
                np.array(templates, np.int32),
                np.array([record.line or 0 for record in records], np.int64),
                np.array([np.nan if time is None else time for time in times]),
                self._addresses(found),
            )

    def _template(self, record: Record, text: str) -> int:
        """The number of the template of a text; of an entry over several lines, the first decide."""
        start = "\n".join(text[:_TEXT_CHARS].split("\n")[:_TEXT_LINES])
        masked = mask_except(start, self._kept)
        if masked not in self._by_masked:
            self._by_masked[masked] = len(self._scan.masked)
            self._scan.masked.append(masked)
            self._scan.examples.append(record)
        return self._by_masked[masked]

    def _add(
        self,
        file: int,
        templates: NDArray[np.int32],
        lines: NDArray[np.int64],
        times: NDArray[np.float64],
        addresses: NDArray[np.int32],
    ) -> None:
        files = np.full(len(templates), file, np.int32)
        self._parts.append((templates, files, lines.astype(np.int32), addresses))
        self._times[file].append(times)
        self._done += len(templates)
        self._progress("reading", self._done, 0)

    def finish(self) -> Scan:
        """All records, in order."""
        scan = self._scan
        if not self._parts:
            return scan
        scan.templates, scan.files, scan.lines, scan.addresses = (
            np.concatenate(columns) for columns in zip(*self._parts, strict=True)
        )
        scan.address_names = list(self._by_address)
        scan.times = np.concatenate([_filled(np.concatenate(times)) for times in self._times if times])
        if len(scan.names) > 1 and scan.has_times:
            order = np.argsort(scan.times, kind="stable")
            for name in ("templates", "files", "lines", "times", "addresses"):
                setattr(scan, name, getattr(scan, name)[order])
        return scan


def _confirmed(rule: EntryRule | None, sample: Sequence[str]) -> EntryRule | None:
    """The rule for entries over several lines, unless most lines that it joins have a time of their own.

    Such begin with a word that the others lack, and would be hidden in the entry before.
    """
    if rule is None or rule.by_digits:
        return rule
    joined = [line for line in sample if line.strip() and rule.kind(line) == LineKind.CONTINUATION]
    reader = TimeReader()
    reader.read(sample[:_SAMPLE_ROWS])
    timed = sum(time is not None for time in reader.read(joined))
    return None if joined and timed > _MOST_TIMED * len(joined) else rule


def _filled(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Times of one file, a record without one having that of the record before; all NaN where most lack one."""
    known = ~np.isnan(times)
    if known.mean() < 0.5:
        return np.full(len(times), np.nan)
    last = np.maximum.accumulate(np.where(known, np.arange(len(times)), -1))
    return without_jumps(times[np.where(last < 0, np.argmax(known), last)])
