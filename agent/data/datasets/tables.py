"""Loader of delimited tables, with a header or with the columns that the publisher gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.core.errors import InputError
from agent.data.datasets.files import Member
from agent.data.datasets.rows import LabelRule, LeftOut, Part, Row, RowSet, to_moment
from agent.data.readers.columns import header_names
from agent.data.readers.csv_rows import BrokenRow, Dialect, split_rows
from agent.data.readers.csv_rows import Row as CsvRow

_PARTS: Mapping[str, Part] = {"train": "train", "test": "test"}
_TIME = "time"
_DAY = 86_400
_JOINT = "\x1f"
_NAMES_LISTED = 20
_INFINITE = frozenset({"infinity", "-infinity", "inf", "-inf", "+inf"})


@dataclass(frozen=True)
class TableOptions:
    """How the columns of a table are used; see `agent.data.datasets.catalog.Layout`.

    Parameters
    ----------
    label
        The column of the label.
    columns
        The names of the columns of a file without a header.
    optional
        How many of the last ``columns`` a file may lack.
    kind
        The column that names the kind of an anomaly.
    drop
        Columns that are no features.
    time, group
        See `Row`. The time is written as ``time``, and the group is not written.
    days_before
        Columns of times that are written as days before that time, under a name with this ending.
    text
        The only column that is written, as ``text``.
    blank_infinite
        Whether an infinite number is written as a missing one.
    delimiter, quoted
        How cells are separated, and whether quotes may enclose them.
    """

    label: str
    columns: tuple[str, ...] = ()
    optional: int = 0
    kind: str | None = None
    drop: tuple[str, ...] = ()
    time: str | None = None
    group: str | None = None
    days_before: tuple[str, ...] = ()
    text: str | None = None
    blank_infinite: bool = False
    delimiter: str = ","
    quoted: bool = True

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> TableOptions:
        """The options of a layout that are those of a table."""
        named: dict[str, Any] = {name: options[name] for name in cls.__dataclass_fields__ if name in options}
        named |= {name: tuple(options.get(name, ())) for name in ("drop", "days_before")}
        return cls(**named)


def load_table(files: Mapping[str, Sequence[Member]], options: Mapping[str, Any], rule: LabelRule) -> RowSet:
    """The rows of the files of roles ``train``, ``test`` and ``all``, joined with those of role ``joined``.

    Raises
    ------
    InputError
        A file lacks a column.
    """
    table = TableOptions.of(options)
    members = [(member, _PARTS.get(role)) for role in ("train", "test", "all") for member in files.get(role, ())]
    joined = _Joined(files["joined"], options["join"]) if files.get("joined") else None
    shape = _Shape.of(members[0][0], table, joined)

    def read() -> Iterator[Row | LeftOut]:
        for member, part in members:
            yield from _rows(member, part, table, shape, joined, rule)

    return RowSet(shape.written, read)


class TableFile:
    """A delimited file: its columns, and its rows one after the other.

    Parameters
    ----------
    member
        The file.
    dialect
        How cells are separated.
    columns, optional
        See `TableOptions`.

    Raises
    ------
    InputError
        It is empty, or has another number of columns than a file without a header should.
    """

    def __init__(self, member: Member, dialect: Dialect, columns: Sequence[str] = (), optional: int = 0) -> None:
        self.member, self._dialect = member, dialect
        self._lines = member.lines()
        first = next(split_rows(self._lines, dialect, None), None)
        if first is None:
            raise InputError("is empty", member.path)
        cells = first.cells if isinstance(first, CsvRow) else []
        self._first: CsvRow | None = None
        self._header: list[str] | None = cells
        is_header = not columns or [cell.strip().casefold() for cell in cells[:2]] == [
            name.casefold() for name in columns[: len(cells[:2])]
        ]
        if is_header:
            self.names = header_names(cells)
            return
        widths = range(len(columns) - optional, len(columns) + 1)
        if not isinstance(first, CsvRow) or len(cells) not in widths:
            expected = " or ".join(map(str, widths))
            reason = f"expected {expected} columns ({columns[0]}, {columns[1]}, …, {columns[-1]}), found {len(cells)}"
            raise InputError(f"{reason}: {','.join(cells)[:80]}", member.path, first.line)
        self.names = tuple(columns[: len(cells)])
        self._first, self._header = first, None

    def position(self, name: str) -> int:
        """The number of a column.

        Raises
        ------
        InputError
            It has none of that name.
        """
        wanted = name.casefold()
        for number, column in enumerate(self.names):
            if column.casefold() == wanted:
                return number
        listed = ", ".join(self.names[:_NAMES_LISTED])
        more = f" and {len(self.names) - _NAMES_LISTED} more" if len(self.names) > _NAMES_LISTED else ""
        raise InputError(f"no column {name!r}; its columns are {listed}{more}", self.member.path)

    def __iter__(self) -> Iterator[CsvRow | LeftOut]:
        if self._first is not None:
            yield self._first
        for row in split_rows(self._lines, self._dialect, len(self.names), self._header):
            place = f"{self.member.path}:{row.line}"
            if isinstance(row, BrokenRow):
                yield LeftOut(row.reason, place)
            elif row.cells == self._header:
                yield LeftOut("the header again", place, expected=True)
            elif row.missing:
                found = len(self.names) - row.missing
                yield LeftOut(f"expected {len(self.names)} columns, found {found}", place)
            else:
                yield row


class _Joined:
    """The rows of a second table by their key; kept as one text each, which takes the least memory."""

    def __init__(self, members: Sequence[Member], key: str) -> None:
        self.key, self.rows = key, dict[str, str]()
        self.names: tuple[str, ...] = ()
        for member in members:
            file = TableFile(member, Dialect(",", True))
            at = file.position(key)
            names = tuple(name for number, name in enumerate(file.names) if number != at)
            self.names = self.names or names
            if names != self.names:
                raise InputError("has other columns than the table before it", member.path)
            for row in file:
                if isinstance(row, LeftOut):
                    raise InputError(f"{row.place}: {row.reason}")
                self.rows[row.cells[at]] = _JOINT.join([*row.cells[:at], *row.cells[at + 1 :]])
        self._missing = [""] * len(self.names)

    def cells(self, key: str) -> list[str]:
        """The cells for a key; empty ones if there is no row."""
        row = self.rows.get(key)
        return self._missing if row is None else row.split(_JOINT)


@dataclass(frozen=True)
class _Shape:
    """The columns that are written, ``kept`` with the names that they have in the files."""

    written: tuple[str, ...]
    kept: tuple[str, ...]

    @classmethod
    def of(cls, member: Member, table: TableOptions, joined: _Joined | None) -> _Shape:
        file = _opened(member, table)
        if table.text is not None:
            return cls(("text",), (file.names[file.position(table.text)],))
        used = (table.label, table.kind, table.group, *table.drop)
        dropped = {name.casefold() for name in used if name}
        kept = tuple(name for name in file.names if name.casefold() not in dropped)
        others = tuple(name for name in (joined.names if joined else ()) if name.casefold() not in dropped)
        time = (table.time or "").casefold()
        names = [_TIME if name.casefold() == time else name for name in (*kept, *others)]
        names = [f"{name}_days_before" if name in table.days_before else name for name in names]
        return cls(tuple(f"{name}.0" if name == "label" else name for name in names), kept)


def _opened(member: Member, table: TableOptions) -> TableFile:
    return TableFile(member, Dialect(table.delimiter, table.quoted), table.columns, table.optional)


def _rows(
    member: Member, part: Part | None, table: TableOptions, shape: _Shape, joined: _Joined | None, rule: LabelRule
) -> Iterator[Row | LeftOut]:
    file = _opened(member, table)
    label_at = file.position(table.label)
    kind_at = None if table.kind is None else file.position(table.kind)
    group_at = None if table.group is None else file.position(table.group)
    time_at = None if table.time is None else file.position(table.time)
    key_at = None if joined is None else file.position(joined.key)
    kept = [file.position(name) for name in shape.kept]
    spans = [number for number, name in enumerate(shape.kept) if name in table.days_before]
    for row in file:
        if isinstance(row, LeftOut):
            yield row
            continue
        cells, place = row.cells, f"{member.path}:{row.line}"
        label = rule.label(cells[label_at], "" if kind_at is None else cells[kind_at])
        moment = None if time_at is None else to_moment(cells[time_at])
        if label is None:
            yield LeftOut("no label", place, expected=True)
            continue
        if time_at is not None and moment is None:
            yield LeftOut(f"no time in column {table.time!r}", place)
            continue
        values = [cells[at] for at in kept]
        for number in spans:
            before = to_moment(values[number])
            values[number] = "" if before is None or moment is None else f"{(moment - before) / _DAY:.2f}"
        if joined is not None and key_at is not None:
            values += joined.cells(cells[key_at])
        if table.blank_infinite:
            values = ["" if value.strip().casefold() in _INFINITE else value for value in values]
        yield Row(label, values, part, moment, None if group_at is None else cells[group_at])
