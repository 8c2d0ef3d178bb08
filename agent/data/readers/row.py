"""What a reader gives, what it was asked for, and how a row becomes a record."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from agent.core.errors import InputError
from agent.core.records import FieldValue, Label, Record
from agent.data.readers.columns import expand
from agent.data.readers.values import Cell, canonical, label_of, pairs, shown, typed

Format = Literal["auto", "log", "csv", "jsonl", "parquet"]

GAP = " […] "
_NAMES_LISTED = 40


@dataclass(frozen=True, slots=True)
class ParsedRow:
    """One record as read; ``notes`` say what was changed on the way (bytes replaced, text shortened)."""

    record: Record
    label: Label | None
    label_value: str | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RowError:
    """One row that could not be read, and why; the rows around it are read all the same."""

    file: str
    line: int | None
    reason: str

    def __str__(self) -> str:
        return ":".join(str(part) for part in (self.file, self.line) if part is not None) + f": {self.reason}"


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """What the caller asked for of one file; ``normal`` holds canonical label values.

    ``lenient``: the columns were remembered, not asked for. Those that the file lacks are left out, and a record
    without a label is a record all the same.
    """

    file: str
    text: tuple[str, ...]
    label: str | None
    normal: frozenset[str]
    max_chars: int
    lenient: bool = False

    @classmethod
    def of(
        cls,
        path: str | Path,
        *,
        text: Sequence[str],
        label: str | None,
        normal: Sequence[str],
        max_chars: int,
        lenient: bool,
    ) -> ReadRequest:
        """For label values as a person writes them."""
        return cls(str(path), tuple(text), label, frozenset(map(canonical, normal)), max_chars, lenient)

    def fitting(self, known: Collection[str]) -> ReadRequest:
        """The request, less the columns that were only remembered and that a file with columns ``known`` lacks."""
        if not self.lenient:
            return self
        text = self.text if all(name in known for name in expand(self.text, tuple(known))) else ()
        return replace(self, text=text, label=self.label if self.label in known else None)

    def unreadable(self, line: int | None, reason: str) -> RowError:
        return RowError(self.file, line, reason)

    def wrong(self, reason: str) -> InputError:
        """The error for something wrong with the file as a whole."""
        return InputError(reason, self.file)

    def columns(self, known: Sequence[str]) -> list[str]:
        """The columns that ``text`` asks for, none if it asks for none.

        A file that lacks one of them, or the label's, is refused, and so is a label that is part of the text.
        """
        columns = expand(self.text, known)
        for name in (*columns, *([] if self.label is None else [self.label])):
            if name not in known:
                raise self.wrong(f"no column {name!r}; {_listed(known)}")
        if self.label in columns:
            raise self.wrong(f"column {self.label!r} is the label: it cannot be part of the text as well")
        return columns

    def row(
        self,
        line: int,
        cells: Mapping[str, Cell],
        columns: Sequence[str],
        *,
        time: str | None,
        numeric: bool = False,
        notes: tuple[str, ...] = (),
    ) -> ParsedRow | RowError:
        """A table's row as a reading: ``columns`` make the text and the fields, ``time`` names the time's column.

        A single column is the text as it is; it is a field as well if it holds numbers (``numeric``).
        """
        fields: dict[str, FieldValue]
        if len(columns) == 1:
            cell = cells.get(columns[0])
            text = shown(cell)
            fields = pairs(text)
            if not fields and (numeric or isinstance(cell, int | float)):
                fields = {columns[0]: typed(cell)}
        else:
            fields = {name: typed(cells.get(name)) for name in columns}
            text = " ".join(
                f"{name} is {shown(cells[name]).strip()}" for name, value in fields.items() if value is not None
            )
            if len(text) > self.max_chars:
                fields = {name: self._clipped(value) for name, value in fields.items()}
        return self.reading(
            line,
            text,
            fields=fields,
            time=None if time is None else shown(cells.get(time)).strip() or None,
            label_cell=None if self.label is None else cells.get(self.label),
            notes=notes,
        )

    def reading(
        self,
        line: int,
        text: str,
        *,
        fields: dict[str, FieldValue],
        label_cell: Cell,
        events: tuple[str, ...] = (),
        time: str | None = None,
        notes: tuple[str, ...] = (),
    ) -> ParsedRow | RowError:
        """The reading of one record; unreadable if it says nothing, or has no label where one was asked for."""
        label = label_value = None
        if self.label is not None:
            label_value = shown(label_cell).strip()
            label = label_of(label_value, self.normal)
            if label is None and not self.lenient:
                return self.unreadable(line, f"no label in column {self.label!r}")
        if not (text.strip() or events):
            return self.unreadable(line, "says nothing: its text is empty")
        text, shortened = shorten(text, self.max_chars)
        record = Record(text=text, fields=fields, events=events, file=self.file, line=line, time=time)
        return ParsedRow(record, label, label_value, notes + shortened)

    def _clipped(self, value: FieldValue) -> FieldValue:
        """The whole row's text is shortened with a note; a field of it is only kept from being longer."""
        return shorten(value, self.max_chars)[0] if isinstance(value, str) else value


def _listed(columns: Sequence[str]) -> str:
    if list(columns) == [str(position) for position in range(len(columns))]:
        return f"it has no header: its columns are 0 to {len(columns) - 1}"
    more = len(columns) - _NAMES_LISTED
    listed = ", ".join(repr(column) for column in columns[:_NAMES_LISTED])
    return f"its columns are {listed}" + (f" and {more} more" if more > 0 else "")


def shorten(text: str, max_chars: int, tail: str = "", between: int = 0) -> tuple[str, tuple[str, ...]]:
    """Keep the head and the tail of a long text, and a note that says so.

    A text too long to be held comes as its beginning, its end (``tail``), and how many characters were
    ``between``.
    """
    total = len(text) + between + len(tail)
    if total <= max_chars:
        return text + tail, ()
    ends = max_chars - len(GAP)
    tail_length = ends // 4
    kept = text[: ends - tail_length] + GAP + (text[-tail_length:] + tail)[-tail_length:]
    return kept, (f"shortened from {total} to {max_chars} characters",)
