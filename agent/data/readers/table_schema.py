"""What `learn` found of a source's columns, by which later files and single records are read in the same way."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from agent.core.records import FieldValue
from agent.data.readers.notation import DURATION, Notation
from agent.data.readers.values import Cell, typed

ColumnType = Literal["number", "category", "text", "yes/no", "empty"]
# share of the records that fill a column that a file must have; share of such columns that a file may lack
_REQUIRED, _MAY_LACK = 0.95, 0.1
_MAX_NAMED = 8
_NO_LETTERS = re.compile(r"[\W_]+")


class LearnedColumn(BaseModel):
    """A column of the records.

    Parameters
    ----------
    name
    type
        What its cells are.
    filled
        Share of the records that have a value.
    notation
        How its numbers are written, None where they are written plainly.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    type: ColumnType
    filled: float = 1.0
    notation: Notation | None = None


class TableSchema(BaseModel):
    """The columns of a source's tables.

    Parameters
    ----------
    columns
        Those that make the records.
    left_out
        Why a column is not part of the records, by its name.
    ignored
        Other columns of the learned files, such as those that ``--text`` does not name.
    renamed
        Learned names by the names that a file has for them (``--columns``).
    """

    model_config = ConfigDict(frozen=True)

    columns: tuple[LearnedColumn, ...] = ()
    left_out: Mapping[str, str] = Field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    renamed: Mapping[str, str] = Field(default_factory=dict)

    @cached_property
    def notations(self) -> dict[str, Notation]:
        """The notations of numbers that are not written plainly, by column."""
        return {column.name: column.notation for column in self.columns if column.notation}

    @cached_property
    def durations(self) -> frozenset[str]:
        """The columns of times of the day and spans of time, which are read as seconds."""
        return frozenset(name for name, notation in self.notations.items() if notation.suffix == DURATION)

    @cached_property
    def names(self) -> frozenset[str]:
        """The names of the learned columns."""
        return frozenset(column.name for column in self.columns)

    @cached_property
    def names_in_text(self) -> tuple[str, ...]:
        """The names that the text of a row spells out; none of a source of texts."""
        return () if len(self.columns) < 2 else tuple(column.name for column in self.columns)

    @cached_property
    def text_column(self) -> str | None:
        """The column that holds the text, of a source whose records are texts; None for others, or if it has none."""
        only = self.columns[0] if len(self.columns) == 1 else None
        return only.name if only and only.type != "number" else None

    def are_names(self, cells: Sequence[str]) -> bool:
        """Whether cells name at least half of the learned columns; numbers of columns are no names."""
        learned = {_letters(name) for name in self.names if not name.isdecimal()}
        return bool(learned) and len(learned.intersection(map(_letters, cells))) * 2 >= len(self.columns)

    def typed(self, name: str, cell: Cell) -> FieldValue:
        """The value of a cell of a column."""
        if isinstance(cell, str) and (notation := self.notations.get(name)):
            number = notation.number(cell)
            return typed(cell) if number is None else number
        return typed(cell)

    def with_names(self, pairs: Sequence[tuple[str, str]]) -> TableSchema:
        """The same columns where a file has other names for them: pairs of a learned and a file's name, in any order.

        Raises
        ------
        ValueError
            Neither name of a pair is a learned column.
        """
        learned, renamed = self.names, dict[str, str]()
        for first, second in pairs:
            if first not in learned and second not in learned:
                raise ValueError(
                    f"--columns {first}={second}: the source has neither; it has {_listed(sorted(learned))}"
                )
            learned_name, file_name = (first, second) if first in learned else (second, first)
            renamed[file_name] = learned_name
        return self.model_copy(update={"renamed": renamed})

    def joined(self, earlier: TableSchema) -> TableSchema:
        """These columns and those of an ``earlier`` schema of the same source, whose cases have all of its columns.

        What the cases have as words stays words.
        """
        words = {column.name: column for column in earlier.columns if column.type in ("category", "text")}
        columns = [words.get(column.name, column) if column.notation else column for column in self.columns]
        columns += [column for column in earlier.columns if column.name not in self.names]
        kept = {name: why for name, why in earlier.left_out.items() if name not in self.names}
        left_out = {name: why for name, why in {**kept, **self.left_out}.items() if name not in earlier.names}
        known = {column.name for column in columns} | left_out.keys()
        ignored = [name for name in dict.fromkeys((*earlier.ignored, *self.ignored)) if name not in known]
        return TableSchema(columns=tuple(columns), left_out=left_out, ignored=tuple(ignored))

    def excluded(self, ids: Collection[str]) -> set[str]:
        """Columns that are not part of the records: those left out, and ``ids`` unless they are learned columns."""
        return (set(ids) - self.names) | self.left_out.keys()

    def ordered(self, names: Sequence[str]) -> list[str]:
        """The names in the learned order, unknown ones at the end."""
        order = {column.name: number for number, column in enumerate(self.columns)}
        return sorted(names, key=lambda name: order.get(name, len(order)))

    def other_names(self, known: Collection[str], label: str | None = None) -> dict[str, str]:
        """Learned names by the other names that a file or a record with columns ``known`` has for them.

        Those of ``--columns``, and names that differ from a learned one or the label's in case, spaces and punctuation.
        """
        names = {name: learned for name, learned in self.renamed.items() if name in known}
        free = [name for name in known if name not in names and name not in self.names and name != label]
        if not free:
            return names
        by_letters = dict[str, list[str]]()
        for name in free:
            by_letters.setdefault(_letters(name), []).append(name)
        taken = {*known, *names.values()}
        for learned in [*(column.name for column in self.columns), *filter(None, [label])]:
            same = by_letters.get(_letters(learned), ())
            if len(same) == 1 and same[0] not in names and learned not in taken and _letters(learned):
                names[same[0]] = learned
        return names

    def match(
        self, known: Sequence[str], label: str | None = None, columns: Collection[str] = ()
    ) -> tuple[dict[str, str], tuple[str, ...]]:
        """Learned names by the names of a file's columns, and notes on what was matched and what is missing.

        Parameters
        ----------
        known
            The names of the file's columns.
        label
            The column of the labels, which the file may lack.
        columns
            Those of the file's columns that are named where no case has them.

        Raises
        ------
        ValueError
            Of the columns that the source's cases have, the file lacks more than one in ten, or it has none of the name
            that ``--columns`` gives.
        """
        for name, learned in self.renamed.items():
            if name not in known and learned not in known:
                raise ValueError(
                    f"--columns {learned}={name}: it has no column {name!r}, but {_listed(list(map(repr, known)))}"
                )
        names = self.other_names(known, label)
        free = [name for name in known if name not in names]
        required = [column.name for column in self.columns if column.filled >= _REQUIRED]
        missing = [name for name in required if name not in free and name not in names.values()]
        alike = [name for name in names if name not in self.renamed]
        notes = [f"columns are read by other names: {names_read(names, alike)}"] if alike else []
        if len(missing) > _MAY_LACK * len(required):
            raise ValueError(self._refusal(missing, [name for name in free if name not in required]))
        nested = {name.partition(".")[0] for name in self.names}
        if unknown := [name for name in free if name in columns and name not in self.names | nested]:
            verb = "is" if len(unknown) == 1 else "are"
            notes.append(f"has {_listed(list(map(repr, unknown)))}, which the cases do not have: {verb} not read")
        if missing:
            notes.append(
                f"lacks {_listed(list(map(repr, missing)))}, which the cases have: "
                "no verdict is normal that they could change"
            )
        return names, tuple(notes)

    def _refusal(self, missing: Sequence[str], free: Sequence[str]) -> str:
        numbered = bool(free) and list(free) == [str(number) for number in range(len(free))]
        nearest = dict[str, str]()
        for learned in missing:
            close = difflib.get_close_matches(learned.casefold(), [name.casefold() for name in free], 1)
            inside = [name for name in free if _letters(learned) and _letters(learned) in _letters(name)]
            found = inside or [name for name in free if close and name.casefold() == close[0]]
            if found and not numbered:
                nearest[learned] = found[0]
        lacks = f"lacks {_listed(list(map(repr, missing)))}, which the cases of the source have; "
        if numbered:
            return f"{lacks}it has no header: its columns are 0 to {len(free) - 1}; --columns {missing[0]}=0 says which"
        has = f"it has {_listed(list(map(repr, free)))}" if free else "it has no other columns"
        options = " ".join(f"--columns {learned}={name}" for learned, name in [*nearest.items()][:_MAX_NAMED])
        if not options and free and self.text_column:
            return f"{lacks}{has}; --columns {self.text_column}=NAME says which holds the text"
        return f"{lacks}{has}" + (f"; nearest: {options}" if options else "")


def names_read(names: Mapping[str, str], alike: Sequence[str]) -> str:
    """Which of the names ``alike`` are read as which learned one."""
    return _listed([f"{name!r} as {names[name]!r}" for name in alike])


def _letters(name: str) -> str:
    return _NO_LETTERS.sub("", name).casefold()


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MAX_NAMED
    return ", ".join(names[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
