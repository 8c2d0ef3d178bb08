"""How the files of a source are read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from pydantic import BaseModel, ConfigDict, field_validator

from agent.core.errors import InputError
from agent.data.readers import DEFAULT_NORMAL, Format, Kind, ParsedRow, ReadRequest, RowError, read_rows
from agent.data.readers.byte_stream import HEAD_BYTES, Stream, opened
from agent.data.readers.csv_dialect import is_learned_header
from agent.data.readers.entries import SAMPLED_LINES, EntryRule, entry_rule
from agent.data.readers.entry_joining import decoded_start
from agent.data.readers.format_detection import detect
from agent.data.readers.lines import split_lines
from agent.data.readers.table_rows import read_table_rows, with_columns
from agent.data.readers.table_schema import TableSchema
from agent.data.readers.values import normalise_label
from agent.data.redaction import Redaction
from agent.data.series import SeriesOptions, SeriesRequest
from retrieval.text.masking import mask

if TYPE_CHECKING:
    from retrieval.text.redaction import Redactor

# the label column of files that have none
NO_LABEL = "none"
_SAMPLE_ROWS = 50
_START_WORDS, _START_CHARS = 2, 100


class ReadOptions(BaseModel):
    """How the files of a source are read: what a user chooses for `learn`, stored with the source for later files.

    `open` resolves them for one file: a `agent.data.readers.row.ReadRequest` holds its path and the columns it has.

    Parameters
    ----------
    format
        The format of the files; ``auto`` detects it for each.
    text, label
        The columns of the text and of the label: names, or numbers where a file has no header.
    normal
        Label values that are normal, as a person writes them; any other is anomalous.
    label_values, text_starts
        The commonest label values that `learn` found, and beginnings of texts, masked; they show whether another file
        has a numbered label column.
    multiline
        What begins an entry of a log: ``auto`` finds it out for each file, ``off``: each line does, else a regular
        expression that the first line of an entry matches.
    table
        What `learn` found of the columns.
    series
        How a table is read as time series; None: each row is a record.
    redact
        What is replaced by placeholders in all records; None: nothing is.
    """

    model_config = ConfigDict(frozen=True)

    format: Format = "auto"
    text: tuple[str, ...] = ()
    label: str | None = None
    normal: tuple[str, ...] = DEFAULT_NORMAL
    label_values: tuple[str, ...] = ()
    multiline: str = "auto"
    text_starts: tuple[str, ...] = ()
    table: TableSchema = TableSchema()
    series: SeriesOptions | None = None
    redact: Redaction | None = None

    @field_validator("multiline")
    @classmethod
    def _is_expression(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"not auto, off or a regular expression: {error}") from error
        return value

    @property
    def is_labelled(self) -> bool:
        """Whether a column holds labels, or a file of ranges does."""
        return self.label is not None or (self.series is not None and self.series.ranges is not None)

    @property
    def redactor(self) -> Redactor | None:
        """What puts placeholders into records; None if nothing does."""
        return None if self.redact is None else self.redact.redactor

    def to_stored(self) -> dict[str, Any]:
        """As the source's row stores them, with the key of its redaction, which no other dump has."""
        stored = self.model_dump(mode="json")
        return stored if self.redact is None else {**stored, "redact": self.redact.to_stored()}

    def with_values(self, values: Sequence[str], text_starts: Sequence[str] = ()) -> ReadOptions:
        """These options with what a learned file held."""
        return self.model_copy(update={"label_values": tuple(values), "text_starts": tuple(text_starts)})

    def read(
        self,
        path: str | Path,
        max_chars: int,
        *,
        lenient: bool = False,
        stdin: BinaryIO | None = None,
        raw: bool = False,
    ) -> Iterator[ParsedRow | RowError]:
        """Read the records of one file.

        Parameters
        ----------
        path
            The file, or ``-`` for standard input.
        max_chars
            Characters of a text beyond which it loses its middle, which a note says.
        lenient
            See `open`.
        stdin
            What to read in place of standard input.
        raw
            Whether fields are the cells as they stand in the file.

        Raises
        ------
        InputError
            The file as a whole cannot be read, or has no records.
        """
        empty = True
        with self.open(path, max_chars, lenient=lenient, stdin=stdin, raw=raw) as (stream, kind, request):
            for item in self.rows(stream, kind, request):
                empty = False
                yield item
        if empty:
            raise InputError("has no records: nothing but blank lines or a header", request.file)

    def rows(self, stream: Stream, kind: Kind, request: ReadRequest) -> Iterator[ParsedRow | RowError]:
        """The records of what `open` gave."""
        rows = read_rows(stream, kind, request)
        if self.series is None:
            return rows
        from agent.data.series_windows import series_windows

        return series_windows(rows, self.series, request)

    def read_table(
        self, names: Sequence[str], rows: Sequence[Mapping[str, Any]], max_chars: int
    ) -> Iterator[ParsedRow | RowError]:
        """Read the rows of a table in memory, as those of a Parquet file to judge.

        Parameters
        ----------
        names
            The names of its columns.
        rows
            Cells by column.
        max_chars
            See `read`.

        Raises
        ------
        InputError
            It lacks learned columns, or one that ``text`` names.
        """
        request = ReadRequest("table", self.text, self.label, frozenset(), max_chars, lenient=True, table=self.table)
        request = with_columns(replace(request, redactor=self.redactor), names, rows[0] if rows else None)
        yield from request.noting(read_table_rows(rows, request))

    def read_unlabelled(self, path: str | Path, max_chars: int) -> Iterator[ParsedRow | RowError]:
        """Read a file that may lack the columns; a label column that is there is kept out of the record."""
        return self.read(path, max_chars, lenient=True)

    @contextmanager
    def open(
        self, path: str | Path, max_chars: int, *, lenient: bool, stdin: BinaryIO | None = None, raw: bool = False
    ) -> Iterator[tuple[Stream, Kind, ReadRequest]]:
        """Open a file and find out what it holds.

        With ``lenient``, columns that the file lacks are not read, and a record without a label is not an error.
        """
        normal = frozenset(map(normalise_label, self.normal))
        request = ReadRequest(str(path), self.text, self.label, normal, max_chars, lenient, table=self.table, raw=raw)
        if self.series is not None:
            request = SeriesRequest(request.file, (), self.label, normal, max_chars, lenient)
        request = replace(request, redactor=self.redactor)
        with opened(request.file, stdin) as stream:
            kind = detect(stream, request.file, self.format)
            if self.series is not None and kind == "log":
                raise request.file_error("is no table: a series is read from CSV, JSON lines or Parquet")
            if kind == "log" and self.format == "auto" and self.table.columns:
                head = stream.look(lambda head: b"\n" in head)
                first = "".join(head.decode("utf-8-sig", "replace").splitlines()[:1])
                kind = "csv" if is_learned_header(first, self.table) else kind
            if kind == "log":
                stream.end_lines_with_newlines()
            if lenient and kind == "log":
                # names of columns, learned from tables, are not those of its words
                columns = (*request.text, request.label)
                request = request.restricted_to([name for name in columns if name and name.isdecimal()])
            if lenient and not self._has_label(stream, kind, request):
                request = replace(request, label=None)
            if kind == "log":
                request = replace(request, entries=self._entry_rule(stream, request))
            yield stream, kind, request

    def _entry_rule(self, stream: Stream, request: ReadRequest) -> EntryRule | None:
        if self.multiline == "off":
            return None
        lines = [decoded_start(line) for line in split_lines([stream.look_at_lines(SAMPLED_LINES)], HEAD_BYTES)]
        label = int(request.label) if request.label is not None and request.label.isdecimal() else None
        return entry_rule(lines, self.multiline, label)

    def _has_label(self, stream: Stream, kind: Kind, request: ReadRequest) -> bool:
        """Whether the file has a numbered label column, by its values in the first rows; others are known by name."""
        if request.label is None or not request.label.isdigit() or kind == "parquet":
            return True
        sample = Stream(iter([stream.look_at_lines(_SAMPLE_ROWS)]))
        rows = [row for row in islice(read_rows(sample, kind, request), _SAMPLE_ROWS) if isinstance(row, ParsedRow)]
        if kind == "log" and not rows:
            # each line has one word at most: it is a label only if labels are such words
            bare = Stream(iter([stream.look_at_lines(_SAMPLE_ROWS)]))
            whole = islice(read_rows(bare, kind, replace(request, label=None)), _SAMPLE_ROWS)
            words = [row.record.text.strip() for row in whole if isinstance(row, ParsedRow)]
            return sum(word in self.label_values for word in words) * 2 > len(words)
        if kind == "log" and self.text_starts:
            unlabelled = Stream(iter([stream.look_at_lines(_SAMPLE_ROWS)]))
            uncut = list(islice(read_rows(unlabelled, kind, replace(request, label=None)), _SAMPLE_ROWS))
            matches = [
                sum(text_start(row.record.text) in self.text_starts for row in each if isinstance(row, ParsedRow))
                for each in (rows, uncut)
            ]
            if matches[0] != matches[1]:
                return matches[0] > matches[1]
        values = [row.label_value for row in rows]
        return sum(value in self.label_values for value in values) * 2 >= len(values)


def text_start(text: str) -> str:
    """The first words of a text, masked: lines of one log have few different ones."""
    return mask(" ".join(text[:_START_CHARS].split()[:_START_WORDS]))
