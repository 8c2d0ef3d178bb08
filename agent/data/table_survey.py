"""What the columns of a table hold, found by reading all of it once: types, notations, row numbers, times, odd cells.

Memory stays bounded: of each column a count of its distinct values is kept up to a limit, and a few examples.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from agent.core.records import FieldValue
from agent.data.readers.notation import DURATION, STYLES, Notation, Style, split_cell
from agent.data.readers.table_schema import ColumnType, LearnedColumn, TableSchema
from agent.data.readers.values import is_missing
from agent.data.times_of_rows import are_of_few_years, is_date, names_times, unit_of_time
from retrieval.encoding.field_encoder import are_compared

# share of the filled cells that must be numbers for a column of numbers; that makes others worth a remark
_NUMERIC, _PARTLY = 0.5, 0.1
# share of the cells with a unit that must have the same; seconds of a day
_SAME_UNIT, _DAY = 0.98, 86_400
_MAX_DISTINCT, _MAX_UNITS, _MAX_WORDS, _MAX_SHOWN, _MAX_CHARS = 10_000, 50, 1_000, 3, 24
# values in a column of times that stand for none, the share of filled cells that are times; records that are kept
_MOST_NO_TIMES, _FEWEST_TIMES, _SAMPLED = 3, 0.1, 2_000
# rows from which on a column may number them, or rise
_FEWEST_ROWS, _RISING_ROWS, _PROSE_WORDS = 10, 50, 3
_NUMBERS_ROWS = re.compile(
    r"(?:unnamed[: ]*\d*|index|idx|level_\d+|row[ _-]?(?:id|no|nr|num|number|names?)?|no\.?|nr\.?|#|line|seq|"
    r"(?:record|case|sample|entry|event)?[ _-]?(?:id|no|nr|index|number)|rownum|serial|.*[ _-](?:id|no|nr|number)"
    r"|(?-i:.*[a-z](?:I[dD]|No|Nr|Number)))",
    re.IGNORECASE,
)


@dataclass
class ColumnSurvey:
    """Counts of one column's cells."""

    name: str
    cells: int = 0
    filled: int = 0
    numbers: int = 0
    durations: int = 0
    clocks: int = 0
    booleans: int = 0
    prose: int = 0
    times: int = 0
    no_times: dict[FieldValue, None] = field(default_factory=dict)
    styles: Counter[Style] = field(default_factory=Counter)
    units: Counter[tuple[str, str]] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)
    distinct: set[int] = field(default_factory=set)
    last: float | None = None
    whole: bool = True
    consecutive: bool = True
    drops: int = 0
    climbs: int = 0
    last_time: float | None = None
    times_rise: bool = True
    unit_of_time: int | str | None = None
    least: float = math.inf
    greatest: float = -math.inf

    def add(self, cell: FieldValue) -> None:
        """Count a cell."""
        self.cells += 1
        if cell is None or (isinstance(cell, str) and is_missing(cell)):
            self.whole = self.consecutive = False
            return
        self.filled += 1
        if self.filled <= _MAX_DISTINCT:
            self.distinct.add(hash(cell))
        if isinstance(cell, bool) or (isinstance(cell, str) and cell.strip().casefold() in ("true", "false")):
            self.booleans += 1
            self.whole = False
            self._look_for_time(cell, None)
            return
        parts, number = split_cell(cell) if isinstance(cell, str) else None, None
        if isinstance(cell, float):
            self.numbers += 1
            self.styles[STYLES[0]] += 1
            number = cell
            self._follow(number)
        elif parts is not None:
            self.numbers += 1
            self.durations += parts.seconds_of_unit is not None
            self.clocks += parts.suffix == DURATION and ":" in cell and 0 <= parts.values[STYLES[0]] < _DAY
            self.styles.update(parts.values.keys())
            if (parts.prefix or parts.suffix) and len(self.units) < _MAX_UNITS:
                self.units[parts.prefix, parts.suffix] += 1
            number = parts.values.get(STYLES[0])
            self._follow(number)
        else:
            self.whole = False
            self.prose += isinstance(cell, str) and len(cell.split()) >= _PROSE_WORDS
            if isinstance(cell, str) and (cell in self.words or len(self.words) < _MAX_WORDS):
                self.words[cell] += 1
        self._look_for_time(cell, number)

    def _follow(self, number: float | None) -> None:
        self.whole &= number is not None and number.is_integer()
        self.consecutive &= self.last is None or number == self.last + 1
        self.drops += self.last is not None and (number is None or number < self.last)
        self.climbs += self.last is not None and (number is None or number > self.last)
        self.last = number

    def _look_for_time(self, cell: FieldValue, number: float | None) -> None:
        """Count a cell that may be a time; others are kept while they are few, such as ``never`` and ``9999-12-31``."""
        if len(self.no_times) > _MOST_NO_TIMES:
            return
        unit = None if number is None else unit_of_time(number)
        if unit is not None and number is not None and self.unit_of_time in (None, unit):
            self.unit_of_time = unit
            self.least, self.greatest = min(self.least, number), max(self.greatest, number)
            self.times_rise &= self.last_time is None or number >= self.last_time
            self.last_time = number
            self.times += 1
        elif isinstance(cell, str) and is_date(cell):
            self.times += 1
        else:
            self.no_times[cell] = None

    def next_file(self) -> None:
        """Row numbers begin again in the next file."""
        self.last = self.last_time = None

    @property
    def numbers_rows(self) -> bool:
        """Whether it only numbers the rows: whole numbers that go up by one at each, or differ under such a name."""
        if not self.whole or self.filled < _FEWEST_ROWS or self.filled != self.cells or self.units:
            return False
        unlike = len(self.distinct) == min(self.filled, _MAX_DISTINCT)
        return self.consecutive or (unlike and bool(_NUMBERS_ROWS.fullmatch(self.name.strip())))

    @property
    def holds_times(self) -> bool:
        """Whether it only says when: dates, or numbers that may be times and rise from row to row or are named so.

        A few values may stand for no time. Times of the day say when where they go on from row to row.
        """
        if self.units.keys() == {("", DURATION)}:
            is_clock = self.clocks >= _SAME_UNIT * self.filled
            return is_clock and len(self.distinct) >= _FEWEST_ROWS and min(self.drops, self.climbs) <= 1
        if len(self.no_times) > _MOST_NO_TIMES or self.times <= _FEWEST_TIMES * self.filled:
            return False
        if self.unit_of_time is None:
            return True
        if self.units or not are_of_few_years(self.least, self.greatest, self.unit_of_time):
            return False
        differ = len(self.distinct) >= _FEWEST_ROWS
        return (self.times_rise and differ) or (names_times(self.name) and (differ or not self.no_times))

    @property
    def times_in_words(self) -> str:
        """Why a column that `holds_times` is left out."""
        others = ", ".join(repr(str(cell)[:_MAX_CHARS]) for cell in self.no_times if self.times)
        return "it holds times" + (f" or {others}" if others else "")


@dataclass(frozen=True)
class TableReport:
    """What reading found.

    Parameters
    ----------
    records
        How many records were read.
    schema
        By which the source's files are read.
    distinct
        How many different values a column has, None where there are too many cells to count them.
    remarks
        What looks odd.
    """

    records: int
    schema: TableSchema
    distinct: dict[str, int | None]
    remarks: tuple[str, ...]


class TableSurvey:
    """Collects the columns of all records; see `report`."""

    def __init__(self) -> None:
        self.columns: dict[str, ColumnSurvey] = {}
        self.records = 0
        # labels and numbers of some of the records, drawn at random
        self.sample: list[tuple[str, dict[str, float]]] = []
        self._chance = random.Random(0)
        self._text_columns = Counter[str]()
        self._beside = dict[str, None]()

    def add(self, fields: dict[str, FieldValue], label: str | None = None) -> None:
        """Count the raw fields of a record (`agent.data.readers.row.ReadRequest`, ``raw``)."""
        self.records += 1
        numbers = dict[str, float]()
        for name, cell in fields.items():
            column = self.columns.get(name)
            if column is None:
                column = self.columns[name] = ColumnSurvey(name)
            before = column.numbers
            column.add(cell)
            if column.numbers > before and column.last is not None:
                numbers[name] = column.last
        if label is not None and len(self.sample) < _SAMPLED:
            self.sample.append((label, numbers))
        elif label is not None and (place := self._chance.randrange(self.records)) < _SAMPLED:
            self.sample[place] = label, numbers

    def add_row(self, text_column: str | None, beside: Iterable[str]) -> None:
        """Count a row's column that is the text, if one is, and note which others it has."""
        if text_column is not None:
            self._text_columns[text_column] += 1
        self._beside.update(dict.fromkeys(beside))

    def of_texts(self, records: int) -> TableSchema | None:
        """The schema of texts that are a column of most of the ``records``; None if none is."""
        for name, count in self._text_columns.most_common(1):
            if count * 2 > records:
                column = LearnedColumn(name=name, type="text", filled=count / records)
                return TableSchema(columns=(column,), ignored=self._ignored({name}))
        return None

    def _ignored(self, known: Collection[str]) -> tuple[str, ...]:
        return tuple(name for name in self._beside if name not in known)

    def next_file(self) -> None:
        """The records that follow are of another file."""
        for column in self.columns.values():
            column.next_file()

    def report(self, named: Iterable[str], before: Mapping[str, str]) -> TableReport:
        """The schema and the remarks.

        Columns that are ``named`` by the user are never left out; others that were left out ``before`` still are.
        """
        kept = frozenset(named)
        columns = [column for column in self.columns.values() if column.filled or column.cells]
        everywhere = (column for column in columns if column.filled == self.records)
        left_out = {name: why for name, why in before.items() if name in self.columns}
        left_out |= {column.name: "it numbers the rows" for column in everywhere if column.numbers_rows}
        left_out |= {column.name: column.times_in_words for column in columns if column.holds_times}
        left_out = {name: why for name, why in left_out.items() if name not in kept}
        if len(left_out) == len(columns):
            left_out = {}
        comma, has_prose = _decimal_comma(columns), any(_type(column) == "text" for column in columns)
        learned, remarks = list[LearnedColumn](), list[str]()
        for column in columns:
            if column.name in left_out:
                continue
            notation, remark = _notation(column, comma)
            learned.append(
                LearnedColumn(
                    name=column.name, type=_type(column), filled=column.filled / self.records, notation=notation
                )
            )
            compared = None if has_prose else _note_on_categories(column)
            remarks += [f"{column.name}: {text}" for text in (remark, _oddness(column), compared) if text]
        distinct = {column.name: len(column.distinct) if column.filled <= _MAX_DISTINCT else None for column in columns}
        return TableReport(
            self.records,
            TableSchema(columns=tuple(learned), left_out=left_out, ignored=self._ignored(self.columns.keys())),
            distinct,
            tuple(remarks),
        )


def _type(column: ColumnSurvey) -> ColumnType:
    if not column.filled:
        return "empty"
    if column.booleans == column.filled:
        return "yes/no"
    if column.numbers > _NUMERIC * column.filled and _one_unit(column):
        return "number"
    return "text" if column.prose > column.filled / 2 else "category"


def _one_unit(column: ColumnSurvey) -> bool:
    total = column.units.total()
    return not total or column.units.most_common(1)[0][1] >= _SAME_UNIT * total or _holds_durations(column)


def _holds_durations(column: ColumnSurvey) -> bool:
    """Whether its numbers are spans of time, or times of the day, in more than one unit."""
    several = len(column.units) > 1 or ("", DURATION) in column.units
    return several and column.durations >= _SAME_UNIT * column.numbers


def _decimal_comma(columns: Sequence[ColumnSurvey]) -> bool:
    """Whether numbers of the table have a decimal comma: what can be read in no other style decides."""
    comma = point = 0
    for column in columns:
        best = {mark: max((column.styles[style] for style in STYLES if style[0] == mark), default=0) for mark in ",."}
        comma += max(best[","] - best["."], 0)
        point += max(best["."] - best[","], 0)
    return comma > point


def _notation(column: ColumnSurvey, comma: bool) -> tuple[Notation | None, str | None]:
    """How the column's numbers are written, None for plainly; a remark on those that are not read."""
    if _type(column) != "number":
        if column.numbers > _NUMERIC * column.filled:
            shown = ", ".join(" ".join(filter(None, unit)) for unit, _ in column.units.most_common(_MAX_SHOWN))
            return None, f"numbers with different units ({shown}): they are read as words, not as numbers"
        return None, None
    if _holds_durations(column):
        return Notation(suffix=DURATION), None
    # small numbers have no separator of thousands: a style with one counts for those without as well
    fits = {style: column.styles[style] + (column.styles[style[0], ""] if style[1] else 0) for style in STYLES}
    usable = [style for style in STYLES if column.styles[style]]
    mark = "," if comma else "."
    decimal, thousands = max(usable, key=lambda style: (fits[style], style[0] == mark, bool(style[1]) == comma))
    ((prefix, suffix),) = [unit for unit, _ in column.units.most_common(1)] or [("", "")]
    notation = Notation(decimal=decimal, thousands=thousands, prefix=prefix, suffix=suffix)
    remark = None
    if fits[decimal, thousands] < column.numbers:
        remark = (
            f"{column.numbers - fits[decimal, thousands]:,} numbers are written in another notation than {notation}"
        )
    return (None if notation == Notation() else notation), remark


def _note_on_categories(column: ColumnSurvey) -> str | None:
    """That values of a column are not compared in a table, of whose records no column is prose."""
    counted = min(column.filled, _MAX_DISTINCT)
    if _type(column) != "category" or are_compared(len(column.distinct), counted):
        return None
    return f"most values differ, so they are not compared; --text {column.name} judges records by them alone"


def _oddness(column: ColumnSurvey) -> str | None:
    differ = _RISING_ROWS <= column.numbers == column.filled == len(column.distinct)
    if differ and not (column.drops and column.climbs):
        moves = "falls" if column.drops else "rises"
        return f"{moves} from row to row: if it only counts, it says nothing about later rows; --text: what to keep"
    words = column.filled - column.numbers - column.booleans
    if not words or not column.numbers:
        return None
    shown = ", ".join(repr(word[:_MAX_CHARS]) for word, _ in column.words.most_common(_MAX_SHOWN))
    if column.numbers > _NUMERIC * column.filled:
        return f"{words:,} of {column.filled:,} cells are words instead of numbers, such as {shown}"
    if column.numbers > _PARTLY * column.filled:
        return f"{column.numbers:,} of {column.filled:,} cells are numbers among words such as {shown}"
    return None
