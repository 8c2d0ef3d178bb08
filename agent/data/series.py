"""Tables with a column of times as series: rows to arrays, one series for each key."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from agent.core.errors import InputError, UsageError
from agent.core.records import NO_LABEL, Record, clean_text
from agent.data.readers.row import ParsedRow, ReadRequest, RowError
from agent.data.readers.values import Cell, is_missing, parse_number, to_label, to_text
from agent.data.series_times import TIME_NAMES, Moment, parse_time
from retrieval.arrays import Floats, Ints

# rows by which columns are found; values of all series of a file, of eight bytes each; fewest points of a window
_SAMPLE, MOST_VALUES, FEWEST_POINTS = 200, 100_000_000, 8


class SeriesOptions(BaseModel):
    """How a table is read as series; what is None or empty is found by the first file that is learned.

    Parameters
    ----------
    time : str or None
        The column of times.
    values, keys : tuple of str
        The columns of values; those that say which series a row is of.
    window, step : int or None
        Points of a window, and from one window's first to the next one's.
    ranges : str or None
        A file of anomalous ranges: JSON, from the names of files to pairs of times.
    """

    model_config = ConfigDict(frozen=True)

    time: str | None = None
    values: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    window: int | None = Field(None, ge=FEWEST_POINTS, le=10_000)
    step: int | None = Field(None, ge=1)
    ranges: str | None = None


@dataclass(frozen=True, slots=True)
class SeriesRequest(ReadRequest):
    """A request whose records are rows as they are: the cells, without a text."""

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
        """See `ReadRequest.parse_cells`; an empty cell is no error."""
        value = None if self.label is None else clean_text(to_text(cells.get(self.label)).strip())
        label = None if value is None else to_label(value, self.normal)
        if value is not None and label is None and not self.lenient:
            return self.row_error(line, f"{NO_LABEL} {self.label!r}")
        if self.redactor is not None:
            # numbers are the series
            cells = {
                name: self.redactor.field(name, cell) if isinstance(cell, str) and parse_number(cell) is None else cell
                for name, cell in cells.items()
            }
        record = Record.model_construct(text="", fields=dict(cells), file=self.file, line=line)
        return ParsedRow(record, label, value, notes)


@dataclass
class PointSeries:
    """The points of one series as they were read.

    Attributes
    ----------
    times : shape (n,)
        In seconds.
    values : shape (n, columns)
    lines : shape (n,)
    anomalous : shape (n,)
        1 and 0; -1 without a label.
    zoned, plain
        See `agent.data.series_times.Moment`.
    notes
        What was changed in reading.
    """

    file: str
    key: str
    names: tuple[str, ...]
    times: Floats
    values: Floats
    lines: Ints
    anomalous: NDArray[np.int8]
    zoned: bool = False
    plain: bool = False
    notes: tuple[str, ...] = ()


@dataclass
class _Columns:
    """Where the rows of a file have what."""

    time: str
    values: tuple[str, ...]
    keys: tuple[str, ...]


@dataclass
class _Points:
    """The rows of one key so far."""

    times: array[float] = field(default_factory=lambda: array("d"))
    values: array[float] = field(default_factory=lambda: array("d"))
    lines: array[int] = field(default_factory=lambda: array("q"))
    anomalous: array[int] = field(default_factory=lambda: array("b"))


def found_columns(options: SeriesOptions, rows: Sequence[ParsedRow], file: str, label: str | None) -> SeriesOptions:
    """The options with the columns that the first rows of a file show.

    Raises
    ------
    InputError
        The file lacks a column, or has none of times or of numbers.
    """
    cells = {name: [row.record.fields.get(name) for row in rows] for name in rows[0].record.fields}
    for name in (*options.values, *options.keys, *([options.time] if options.time else [])):
        if name not in cells:
            raise InputError(f"no column {name!r}; its columns are {', '.join(map(repr, list(cells)[:40]))}", file)
    time = options.time or _time_column(cells, label)
    if time is None:
        raise InputError(
            "no column of times in ISO 8601 or seconds, milliseconds … since 1970 was found: --time names it", file
        )
    others = [name for name in cells if name not in (time, label, *options.keys)]
    values = options.values or tuple(name for name in others if _are_numbers(cells[name]))
    if not values:
        raise InputError(f"no column of numbers beside the time {time!r}: a series has at least one", file)
    if time in values or label in values or set(options.keys) & {time, *values, label}:
        raise UsageError("a column is either the time, the label, a key, or a value of a series")
    return options.model_copy(update={"time": time, "values": values})


def _time_column(cells: Mapping[str, Sequence[Cell]], label: str | None) -> str | None:
    known = [name for name in cells if name != label and _are_times(cells[name])]
    named = [name for wanted in TIME_NAMES for name in known if name.casefold() == wanted]
    written = [name for name in known if not _are_numbers(cells[name])]
    return next(iter((*named, *written)), None)


def _are_times(cells: Sequence[Cell]) -> bool:
    filled = [cell for cell in cells if cell is not None and not (isinstance(cell, str) and is_missing(cell))]
    return bool(filled) and sum(parse_time(cell) is not None for cell in filled) * 10 >= len(filled) * 9


def _are_numbers(cells: Sequence[Cell]) -> bool:
    filled = [cell for cell in cells if cell is not None and not (isinstance(cell, str) and is_missing(cell))]
    return bool(filled) and sum(_number(cell) is not None for cell in filled) * 10 >= len(filled) * 9


def _number(cell: Cell) -> float | None:
    """The cell as a number; NaN where there is none, and None if it is written as none."""
    if cell is None:
        return math.nan
    if isinstance(cell, str):
        return math.nan if is_missing(cell) else parse_number(cell)
    number = float(cell)
    return None if math.isinf(number) else number


def read_points(
    rows: Iterable[ParsedRow | RowError], options: SeriesOptions, request: ReadRequest
) -> Iterator[PointSeries | RowError]:
    """The series of one file's rows, after the rows that could not be read.

    Parameters
    ----------
    rows
        Of a `SeriesRequest`.
    options
        What is None or empty in them is found.
    request
        As which the file is read.

    Raises
    ------
    InputError
        The file has no such columns, or more values than fit into memory.
    """
    rows = iter(rows)
    held = list(islice(rows, _SAMPLE))
    sample = [row for row in held if isinstance(row, ParsedRow)]
    if not sample:
        yield from (row for row in chain(held, rows) if isinstance(row, RowError))
        return
    options = found_columns(options, sample, request.file, request.label)
    columns = _Columns(options.time or "", options.values, options.keys)
    found, zoned, plain, notes, count = dict[str, _Points](), False, True, list[str](), 0
    for row in chain(held, rows):
        if isinstance(row, RowError):
            yield row
            continue
        notes += row.notes
        read = _point(row, columns)
        if isinstance(read, str):
            yield request.row_error(row.record.line, read)
            continue
        key, moment, values = read
        zoned, plain, count = zoned or moment.zoned, plain and moment.plain, count + len(values)
        if count > MOST_VALUES:
            raise InputError(
                f"more than {MOST_VALUES:,} values ({MOST_VALUES * 8 >> 20} MiB): split it by time, or name fewer "
                "columns with --value",
                request.file,
            )
        points = found.setdefault(key, _Points())
        points.times.append(moment.seconds)
        points.values.extend(values)
        points.lines.append(row.record.line or 0)
        points.anomalous.append(-1 if row.label is None else row.label == "anomalous")
    for key, points in found.items():
        yield PointSeries(
            request.file,
            key,
            columns.values,
            np.frombuffer(points.times),
            np.frombuffer(points.values).reshape(-1, len(columns.values)),
            np.frombuffer(points.lines, np.int64),
            np.frombuffer(points.anomalous, np.int8),
            zoned,
            plain,
            tuple(dict.fromkeys(notes)),
        )
        notes.clear()


def _point(row: ParsedRow, columns: _Columns) -> tuple[str, Moment, list[float]] | str:
    """Key, time and values of a row, or what is wrong with it."""
    cells = row.record.fields
    moment = parse_time(cells.get(columns.time))
    if moment is None:
        return f"{clean_text(to_text(cells.get(columns.time)))[:40]!r} in column {columns.time!r} is no time"
    values = []
    for name in columns.values:
        number = _number(cells.get(name))
        if number is None:
            return f"{clean_text(to_text(cells.get(name)))[:40]!r} in column {name!r} is no number"
        values.append(number)
    return " ".join(clean_text(to_text(cells.get(name))) for name in columns.keys), moment, values
