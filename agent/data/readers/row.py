"""From a row to a record: the request for one file, and the parsed row or the error that results."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from agent.core.errors import InputError
from agent.core.records import NO_LABEL, FieldValue, Label, Record, clean_text
from agent.data.readers.columns import default_columns, expand
from agent.data.readers.entries import EntryRule
from agent.data.readers.lines import shorten
from agent.data.readers.redacting import redacted_parts
from agent.data.readers.table_schema import TableSchema
from agent.data.readers.values import Cell, spell_out, split_pairs, to_label, to_text, to_time

if TYPE_CHECKING:
    from retrieval.text.redaction import Redactor

_NAMES_LISTED = 40
_NO_SCHEMA = TableSchema()
T = TypeVar("T")
_SHORTEST_MAX_CHARS = 64
EMPTY = "the text is empty"


@dataclass(frozen=True, slots=True)
class ParsedRow:
    """One record as read.

    Parameters
    ----------
    record, label, label_value
    notes
        What was changed on the way (bytes replaced, text shortened).
    text_column
        The column that the text is, where the record is one cell of a row.
    beside
        The row's other columns, but for its label and its time; only in a raw reading.
    """

    record: Record
    label: Label | None
    label_value: str | None
    notes: tuple[str, ...] = ()
    text_column: str | None = None
    beside: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RowError:
    """One row that could not be read, and why; the rows around it are read, those after it unless reading ``stops``."""

    file: str
    line: int | None
    reason: str
    stops: bool = False

    def __str__(self) -> str:
        return ":".join(str(part) for part in (self.file, self.line) if part is not None) + f": {self.reason}"


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """What to read of one file, resolved from the `agent.data.read_options.ReadOptions` of its source.

    Parameters
    ----------
    file
        The path, or ``-``, as records name it.
    text, label
        The columns of the text (names, lists, ranges) and of the label.
    normal
        Label values that are normal, as `normalise_label` writes them.
    max_chars
        Characters of a text beyond which it loses its middle.
    lenient
        The columns were learned from another file. Those that this one lacks are left out, and a record without a
        label is not an error.
    entries
        What begins an entry of a log; ``None``: each line does.
    table
        What is known of the source's columns.
    raw
        Fields are the cells as they stand in the file.
    notes
        What is to be said of the file as a whole.
    redactor
        What puts placeholders into the records and into what is said of them.
    """

    file: str
    text: tuple[str, ...]
    label: str | None
    normal: frozenset[str]
    max_chars: int
    lenient: bool = False
    entries: EntryRule | None = None
    table: TableSchema = _NO_SCHEMA
    raw: bool = False
    notes: tuple[str, ...] = ()
    redactor: Redactor | None = None

    def __post_init__(self) -> None:
        if self.max_chars < _SHORTEST_MAX_CHARS:
            raise ValueError(f"max_chars must be at least {_SHORTEST_MAX_CHARS}, not {self.max_chars}")

    def restricted_to(self, known: Collection[str]) -> ReadRequest:
        """The same request; if it is lenient, without the columns that a file with columns ``known`` lacks."""
        if not self.lenient:
            return self
        text = self.text if all(name in known for name in expand(self.text, tuple(known))) else ()
        return replace(self, text=text, label=self.label if self.label in known else None)

    def matched(self, known: Sequence[str], notes: tuple[str, ...] = (), ids: Collection[str] = ()) -> ReadRequest:
        """The same request for a file with columns ``known``, under whatever names it has the learned ones.

        ``notes``: what else is to be said of the file; ``ids``: columns that are read only where they were learned.

        Raises
        ------
        InputError
            It lacks learned columns.
        """
        columns, text = default_columns(known, self.label, self.table.left_out), expand(self.text, known)
        if not self.table.columns or self._is_one_text(known, columns, text):
            return replace(self, notes=notes)
        # the names of other columns are known where the cases are texts
        unread = columns if not text or self.table.text_column else []
        try:
            renamed, matches = self.table.match(
                known, self.label, columns=set(unread).difference(ids, self.table.ignored)
            )
        except ValueError as error:
            raise self.file_error(str(error)) from error
        return replace(self, table=self.table.model_copy(update={"renamed": renamed}), notes=(*notes, *matches))

    def _is_one_text(self, known: Sequence[str], columns: Sequence[str], text: Sequence[str]) -> bool:
        """Whether a file has a single column to read, by itself or by ``--text``.

        It is a text, whatever its name is, and may spell out the learned columns; unless it is one of them itself.
        """
        if len(text) == 1 and text[0] in known:
            return text[0] != self.table.text_column
        return len(columns) < 2 and not self.table.other_names(columns) and not self.table.names.intersection(columns)

    def columns_of(self, known: Sequence[str], excluded: Collection[str]) -> list[str]:
        """The columns that make a record of a row with columns ``known``.

        Those that ``--text`` names, or the learned one where the cases are texts, or else all but those ``excluded``.
        """
        if columns := expand(self.text, known):
            return columns
        if self.table.text_column in known:
            return [name for name in known if name == self.table.text_column]
        return default_columns(known, self.label, excluded)

    def noting(self, rows: Iterable[ParsedRow | RowError]) -> Iterator[ParsedRow | RowError]:
        """The rows, the first record with the notes on the file."""
        waiting = self.notes
        for row in rows:
            if waiting and isinstance(row, ParsedRow):
                row, waiting = replace(row, notes=(*waiting, *row.notes)), ()
            yield row

    def has_learned(self, columns: Sequence[str]) -> bool:
        """Whether all of these, of several columns, were learned."""
        return len(columns) > 1 and self.table.names.issuperset(columns)

    def with_learned_names(self, cells: Mapping[str, T]) -> dict[str, T]:
        """The cells by the learned names of their columns."""
        renamed = self.table.renamed
        return {renamed.get(name, name): cell for name, cell in cells.items()} if renamed else dict(cells)

    def typed(self, name: str, cell: Cell) -> FieldValue:
        """The value of a cell of a column."""
        if self.raw:
            return to_text(cell) if isinstance(cell, int) and not isinstance(cell, bool) else cell
        return self.table.typed(name, cell)

    def fields_of(self, text: str) -> dict[str, FieldValue]:
        """The fields of a text of the form ``name is value …``."""
        return {name: self.typed(name, value) for name, value in split_pairs(text, self.table.names_in_text).items()}

    def row_error(self, line: int | None, reason: str, *, stops: bool = False) -> RowError:
        """The error for one record of the file, or for all from there on if reading ``stops``."""
        return RowError(self.file, line, self.redacted(reason), stops)

    def file_error(self, reason: str) -> InputError:
        """The error for something wrong with the file as a whole."""
        return InputError(self.redacted(reason), self.file)

    def redacted(self, text: str) -> str:
        """A text that may quote the file, with placeholders."""
        return text if self.redactor is None else self.redactor.text(text)

    def check_columns(self, known: Sequence[str]) -> None:
        """Check that a file with columns ``known`` has those that are named.

        Raises
        ------
        InputError
            The file lacks one of them or the label's, or the label is one of them.
        """
        columns = expand(self.text, known)
        for name in (*columns, *([] if self.label is None else [self.label])):
            if name not in known:
                raise self.file_error(f"no column {name!r}; {_listed(known)}")
        if self.label in columns:
            raise self.file_error(f"column {self.label!r} is the label: it cannot be part of the text as well")

    def parse_cells(
        self,
        line: int,
        cells: Mapping[str, Cell],
        columns: Sequence[str],
        *,
        time: str | None,
        numeric: bool = False,
        notes: tuple[str, ...] = (),
    ) -> ParsedRow | RowError:
        """Make a record of a table's row.

        Parameters
        ----------
        line
            Its number, from 1.
        cells
            The row's cells by column.
        columns
            Those that make the text and the fields. A single one is the text as it is, and a field only if it is a
            number.
        time
            The column that holds the time.
        numeric
            Whether the first of ``columns`` holds numbers in the file's first rows.
        notes
            What was changed in reading the row.
        """
        fields: dict[str, FieldValue]
        if len(columns) == 1:
            cell = cells.get(columns[0])
            text = to_text(cell)
            if self.redactor is not None:
                text = to_text(self.redactor.field(columns[0], clean_text(text)))
                cell = cell if text == to_text(cell) else text
            fields = self.fields_of(text)
            if not fields and (numeric or isinstance(cell, int | float) or columns[0] in self.table.notations):
                fields = {columns[0]: self.typed(columns[0], cell)}
        else:
            fields = {name: self.typed(name, cells.get(name)) for name in columns}
            if self.redactor is not None:
                _, fields, _ = redacted_parts(self.redactor, "", fields)
            text = spell_out(fields)
            if len(text) > self.max_chars:
                # The text's note is enough; each field is only kept from being longer.
                fields = {
                    name: shorten(value, self.max_chars)[0] if isinstance(value, str) else value
                    for name, value in fields.items()
                }
        row = self.parse_text(line, text, fields, cells, time=time, notes=notes)
        if not self.raw or isinstance(row, RowError):
            return row
        text_column = columns[0] if len(columns) == 1 and not fields else None
        parts = {*columns, self.label, time}
        return replace(row, text_column=text_column, beside=tuple(name for name in cells if name not in parts))

    def parse_text(
        self,
        line: int,
        text: str,
        fields: dict[str, FieldValue],
        cells: Mapping[str, Cell],
        *,
        events: tuple[str, ...] = (),
        time: str | None = None,
        notes: tuple[str, ...],
    ) -> ParsedRow | RowError:
        """Make a record of its parts; ``cells`` hold the label and, in column ``time``, the time.

        It is an error if the text is empty, or the label is missing where one is required.
        """
        label_value = None if self.label is None else clean_text(to_text(cells.get(self.label)).strip())
        known_label = None if label_value is None else to_label(label_value, self.normal)
        if label_value is not None and known_label is None and not self.lenient:
            return self.row_error(line, f"{NO_LABEL} {self.label!r}")
        if not (text.strip() or events):
            return self.row_error(line, EMPTY)
        moment = to_time(cells.get(time)) if time else None
        if self.redactor is not None:
            text, fields, events = redacted_parts(self.redactor, text, fields, events)
            moment = None if moment is None else self.redactor.text(clean_text(moment))
            notes = tuple(map(self.redactor.text, notes))
        text, shortened = shorten(text, self.max_chars)
        record = Record(text=text, fields=fields, events=events, file=self.file, line=line, time=moment)
        return ParsedRow(record, known_label, label_value, notes + shortened)


def _listed(columns: Sequence[str]) -> str:
    if list(columns) == [str(position) for position in range(len(columns))]:
        return f"it has no header: its columns are 0 to {len(columns) - 1}"
    more = len(columns) - _NAMES_LISTED
    listed = ", ".join(repr(column) for column in columns[:_NAMES_LISTED])
    return f"its columns are {listed}" + (f" and {more} more" if more > 0 else "")
