"""Loaders of time series: windows of series in tables, and synthetic control charts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.core.errors import InputError
from agent.data.datasets.files import Member, decode_text
from agent.data.datasets.rows import NORMAL, LabelRule, LeftOut, Part, Row, RowSet
from agent.data.datasets.tables import TableFile
from agent.data.readers.csv_rows import Dialect

# of each series, the share of its points that is learned
_TRAIN_SHARE = 0.5
_POINTS = 60
_CHARTS = ("normal", "cyclic", "increasing trend", "decreasing trend", "upward shift", "downward shift")
_EACH = 100


def load_series(files: Mapping[str, Sequence[Member]], options: Mapping[str, Any], rule: LabelRule) -> RowSet:
    """Series, one a table; a record is a window of points, anomalous if one of its points is.

    The first half of a series is for learning. Values are scaled by the median and the quartiles of that half, so that
    series of different size are alike; each second window overlaps the one before it by half.

    Raises
    ------
    InputError
        A table lacks a column.
    """
    width = int(options["window"])
    members = [member for found in files.values() for member in found]
    _columns_of(TableFile(members[0], Dialect(",", True)), options)
    columns = ("id", "time", *(f"v{number}" for number in range(1, width + 1)))

    def read() -> Iterator[Row | LeftOut]:
        for member in members:
            yield from _windows(member, width, options, rule)

    return RowSet(columns, read)


def _columns_of(table: TableFile, options: Mapping[str, Any]) -> list[int]:
    """The numbers of the columns of time, value and label; the first of several names that the table has."""
    known = {name.casefold() for name in table.names}
    named = [
        next((name for name in options[key] if name in known), options[key][0]) for key in ("time", "value", "label")
    ]
    return [table.position(name) for name in named]


def _windows(member: Member, width: int, options: Mapping[str, Any], rule: LabelRule) -> Iterator[Row | LeftOut]:
    table = TableFile(member, Dialect(",", True))
    time_at, value_at, label_at = _columns_of(table, options)
    times, values, labels = list[str](), list[float](), list[str]()
    for row in table:
        if isinstance(row, LeftOut):
            yield row
            continue
        label = rule.label(row.cells[label_at])
        try:
            value = float(row.cells[value_at])
        except ValueError:
            yield LeftOut("the value is no number", f"{member.path}:{row.line}")
            continue
        if label is None:
            yield LeftOut("no label", f"{member.path}:{row.line}", expected=True)
            continue
        times.append(row.cells[time_at])
        values.append(value)
        labels.append(label)
    cut = int(len(values) * _TRAIN_SHARE)
    if cut < width:
        yield LeftOut(f"a series of fewer than {2 * width} points", member.path, expected=True)
        return
    name = "/".join(member.path.split("/")[-2:]).removesuffix(".csv")
    scaled = _scaled(np.asarray(values), cut)
    parts: tuple[tuple[Part, int, int], ...] = (("train", 0, cut), ("test", cut, len(values)))
    for part, begin, end in parts:
        for start in range(begin, end - width + 1, max(width // 2, 1)):
            kinds = [label for label in labels[start : start + width] if label != NORMAL]
            cells = [f"{name} {times[start]}", times[start], *scaled[start : start + width].tolist()]
            yield Row(kinds[0] if kinds else NORMAL, cells, part)


def _scaled(values: NDArray[np.float64], cut: int) -> NDArray[np.float64]:
    low, middle, high = np.percentile(values[:cut], [25, 50, 75])
    spread = (high - low) or values[:cut].std() or 1.0
    scaled: NDArray[np.float64] = np.round((values - middle) / spread, 6)
    return scaled


def generate_charts(each: int, seed: int) -> RowSet:
    """Synthetic control charts by the equations of Alcock and Manolopoulos (1999).

    A chart has 60 points ``y(t) = m + r s`` with m = 30, s = 2 and r uniform in (-3, 3), and by its kind is added

    - cyclic: ``a sin(2 pi t / T)``, a and T uniform in (10, 15);
    - increasing or decreasing trend: ``+ g t`` or ``- g t``, g uniform in (0.2, 0.5);
    - upward or downward shift: ``+ x`` or ``- x`` from t3 on, x uniform in (7.5, 20), t3 in (n / 3, 2 n / 3).

    Parameters
    ----------
    each
        How many charts there are of each of the six kinds.
    seed
        The seed of the random numbers.
    """

    def read() -> Iterator[Row | LeftOut]:
        random = np.random.default_rng(seed)
        for kind in _CHARTS:
            for _ in range(each):
                yield Row(kind, np.round(_chart(kind, random), 4).tolist())

    return RowSet(_chart_columns(), read)


def _chart(kind: str, random: np.random.Generator) -> NDArray[np.float64]:
    t = np.arange(1, _POINTS + 1)
    chart: NDArray[np.float64] = 30 + 2 * random.uniform(-3, 3, _POINTS)
    if kind == "cyclic":
        amplitude, period = random.uniform(10, 15, 2)
        chart += amplitude * np.sin(2 * np.pi * t / period)
    if kind.endswith("trend"):
        slope = random.uniform(0.2, 0.5)
        chart += (slope if kind.startswith("increasing") else -slope) * t
    if kind.endswith("shift"):
        size, begin = random.uniform(7.5, 20), random.uniform(_POINTS / 3, 2 * _POINTS / 3)
        chart += (size if kind.startswith("upward") else -size) * (t >= begin)
    return chart


def load_charts(files: Mapping[str, Sequence[Member]], options: Mapping[str, Any], rule: LabelRule) -> RowSet:
    """The published file of 600 charts, a line each, 100 of each kind one after the other.

    Raises
    ------
    InputError
        It has another number of lines or of points.
    """
    member = files["all"][0]
    charts = [decode_text(line.data).split() for line in member.lines() if line.data.strip()]
    wrong = next((number for number, chart in enumerate(charts, start=1) if len(chart) != _POINTS), None)
    if wrong is not None:
        raise InputError(f"chart {wrong} has {len(charts[wrong - 1])} points, not {_POINTS}", member.path)
    if len(charts) != _EACH * len(_CHARTS):
        raise InputError(f"expected {_EACH * len(_CHARTS)} charts, a line each, found {len(charts)}", member.path)

    def read() -> Iterator[Row | LeftOut]:
        for number, chart in enumerate(charts):
            yield Row(_CHARTS[number // _EACH], chart)

    return RowSet(_chart_columns(), read)


def _chart_columns() -> tuple[str, ...]:
    return tuple(f"t{number}" for number in range(1, _POINTS + 1))


def load_process(files: Mapping[str, Sequence[Member]], options: Mapping[str, Any], rule: LabelRule) -> RowSet:
    """Runs of the Tennessee Eastman process as files of numbers, d00.dat to d21_te.dat.

    The number in the file's name is the fault, 0 for none. In a test file of a fault it begins after the first 160
    samples, which are normal. A file of 52 lines has the variables in its lines.

    Raises
    ------
    InputError
        A file has neither 52 columns nor 52 lines.
    """
    names = tuple(options["columns"])
    members = [(member, part) for part in ("train", "test") for member in files.get(part, ())]
    if not members:
        raise InputError("has no files named d00.dat to d21.dat or d00_te.dat to d21_te.dat")
    _read_process(members[0][0], len(names))

    def read() -> Iterator[Row | LeftOut]:
        for member, part in members:
            fault = int(member.name[1:3])
            begin = int(options["test_begin"]) if part == "test" else 0
            for number, cells in enumerate(_read_process(member, len(names)).tolist()):
                label = f"fault {fault}" if fault and number >= begin else NORMAL
                yield Row(label, cells, "test" if part == "test" else "train")

    return RowSet(names, read)


def _read_process(member: Member, width: int) -> NDArray[np.float64]:
    lines = [decode_text(line.data).split() for line in member.lines() if line.data.strip()]
    try:
        values = np.array(lines, dtype=np.float64)
    except ValueError as error:
        raise InputError(f"is not a table of numbers: {error}", member.path) from error
    if values.ndim == 2 and values.shape[1] != width and values.shape[0] == width:
        values = values.T
    if values.ndim != 2 or values.shape[1] != width:
        raise InputError(f"expected {width} columns of numbers, found an array of {values.shape}", member.path)
    return values


def load_runs(files: Mapping[str, Sequence[Member]], options: Mapping[str, Any], rule: LabelRule) -> RowSet:
    """Runs of the Tennessee Eastman process as tables with ``faultNumber``, ``simulationRun`` and ``sample``.

    A fault begins after sample 20 of a training run and after sample 160 of a test run; samples before are normal.

    Raises
    ------
    InputError
        A table lacks a column.
    """
    members: list[tuple[Member, Part]] = [(member, "train") for member in files.get("train", ())]
    members += [(member, "test") for member in files.get("test", ())]
    first = TableFile(members[0][0], Dialect(",", True))
    fault, sample = first.position("faultNumber"), first.position("sample")
    aside = {fault, sample, first.position("simulationRun")}
    # R writes the numbers of rows in a column without a name
    names = [name for at, name in enumerate(first.names) if at not in aside and name.casefold().startswith("xm")]

    def read() -> Iterator[Row | LeftOut]:
        for member, part in members:
            table = TableFile(member, Dialect(",", True))
            fault_at, sample_at = table.position("faultNumber"), table.position("sample")
            kept = [table.position(name) for name in names]
            begin = int(options["test_begin" if part == "test" else "train_begin"])
            for row in table:
                if isinstance(row, LeftOut):
                    yield row
                    continue
                try:
                    number, position = int(float(row.cells[fault_at])), int(float(row.cells[sample_at]))
                except ValueError:
                    yield LeftOut("faultNumber or sample is no number", f"{member.path}:{row.line}")
                    continue
                label = f"fault {number}" if number and position > begin else NORMAL
                yield Row(label, [row.cells[at] for at in kept], part)

    return RowSet(tuple(names), read)
