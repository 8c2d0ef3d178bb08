"""What `learn` found of a source's columns, by which later files and single records are read in the same way."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from agent.core.records import FieldValue
from agent.data.readers.notation import Notation
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
    renamed
        Learned names by the names that a file has for them (``--columns``).
    """

    model_config = ConfigDict(frozen=True)

    columns: tuple[LearnedColumn, ...] = ()
    left_out: Mapping[str, str] = Field(default_factory=dict)
    renamed: Mapping[str, str] = Field(default_factory=dict)

    @cached_property
    def notations(self) -> dict[str, Notation]:
        """The notations of numbers that are not written plainly, by column."""
        return {column.name: column.notation for column in self.columns if column.notation}

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
        learned = {column.name for column in self.columns}
        renamed = dict[str, str]()
        for first, second in pairs:
            if first not in learned and second not in learned:
                raise ValueError(
                    f"--columns {first}={second}: the source has neither; it has {_listed(sorted(learned))}"
                )
            ours, theirs = (first, second) if first in learned else (second, first)
            renamed[theirs] = ours
        return self.model_copy(update={"renamed": renamed})

    def joined(self, earlier: TableSchema) -> TableSchema:
        """These columns and those of an ``earlier`` schema of the same source."""
        ours = {column.name for column in self.columns} | self.left_out.keys()
        columns = (*self.columns, *(column for column in earlier.columns if column.name not in ours))
        return TableSchema(columns=columns, left_out={**earlier.left_out, **self.left_out})

    def excluded(self, ids: Collection[str]) -> set[str]:
        """Columns that are not part of the records: those left out, and ``ids`` unless they are learned columns."""
        return (set(ids) - {column.name for column in self.columns}) | self.left_out.keys()

    def ordered(self, names: Sequence[str]) -> list[str]:
        """The names in the learned order, unknown ones at the end."""
        order = {column.name: number for number, column in enumerate(self.columns)}
        return sorted(names, key=lambda name: order.get(name, len(order)))

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
            Those of the file's columns that would make its records.

        Raises
        ------
        ValueError
            Of the columns that the source's cases have, the file lacks more than one in ten, or it has none of the name
            that ``--columns`` gives.
        """
        names = {name: learned for name, learned in self.renamed.items() if name in known}
        for name, learned in self.renamed.items():
            if name not in known and learned not in known:
                raise ValueError(
                    f"--columns {learned}={name}: it has no column {name!r}, but {_listed(list(map(repr, known)))}"
                )
        free = [name for name in known if name not in names]
        required = [column.name for column in self.columns if column.filled >= _REQUIRED]
        missing, alike = [], list[str]()
        for learned in [*required, *filter(None, [label])]:
            if learned in free or learned in names.values():
                continue
            same = [name for name in free if _letters(name) == _letters(learned) and name not in required]
            if len(same) == 1 and _letters(learned):
                names[same[0]] = learned
                free.remove(same[0])
                alike.append(f"{same[0]!r} as {learned!r}")
            elif learned != label:
                missing.append(learned)
        notes = [f"columns are read by other names: {_listed(alike)}"] if alike else []
        if len(missing) > _MAY_LACK * len(required):
            raise ValueError(self._refusal(missing, [name for name in free if name not in required]))
        learned_names = {column.name for column in self.columns}
        if unknown := [name for name in free if name in columns and name not in learned_names]:
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
            close = difflib.get_close_matches(learned.casefold(), [name.casefold() for name in free], 1, 0.5)
            inside = [name for name in free if _letters(learned) and _letters(learned) in _letters(name)]
            found = inside or [name for name in free if close and name.casefold() == close[0]]
            if found and not numbered:
                nearest[learned] = found[0]
        what = f"lacks {_listed(list(map(repr, missing)))}, which the cases of the source have; "
        if numbered:
            return f"{what}it has no header: its columns are 0 to {len(free) - 1}; --columns {missing[0]}=0 says which"
        has = f"it has {_listed(list(map(repr, free)))}" if free else "it has no other columns"
        options = " ".join(f"--columns {learned}={name}" for learned, name in [*nearest.items()][:_MAX_NAMED])
        return f"{what}{has}" + (f"; nearest: {options}" if options else "")


def _letters(name: str) -> str:
    return _NO_LETTERS.sub("", name).casefold()


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MAX_NAMED
    return ", ".join(names[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
