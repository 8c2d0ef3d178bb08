"""Series at equal distances, and their windows as records."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.core.errors import InputError
from agent.core.records import MAX_SERIES_VALUES, FieldValue, Label, Record, Series
from agent.data.readers.row import ParsedRow, ReadRequest, RowError
from agent.data.series import FEWEST_POINTS, MOST_VALUES, PointSeries, SeriesOptions, read_points
from agent.data.series_times import parse_time, spell_time
from retrieval.arrays import Floats, Ints

# a window without a period; periods that are looked for; points of a window at least; share of a series at most
_DEFAULT, _LONGEST_PERIOD, _SHORTEST, _MOST_SHARE = 100, 1_500, 64, 8
# autocorrelation that makes a period, how far it stands out of that around it, and the share of the highest one that a
# shorter period must have
_CORRELATED, _PROMINENT, _AS_GOOD = 0.2, 0.1, 0.7
_SAMPLED = 20_000
# seconds of an hour, a day and a week, and how far a period may be from one
_UNITS, _NEARLY = (3_600.0, 86_400.0, 604_800.0), 0.02
# distances from the usual one by which a sampling is irregular, and the share of points that may lack a value
_OFF, _IRREGULAR, _MOST_MISSING = 0.25, 0.05, 0.5
# columns whose figures are all fields of a window; of others only the mean is
_DETAILED, _NAMED = 8, 3
_ENORMOUS = float(np.finfo(np.float64).max)


@dataclass(frozen=True)
class Run:
    """A part of a series without a gap as long as a window, its points at equal distances.

    Attributes
    ----------
    begins, step : float
        In seconds.
    values : shape (n, columns)
        NaN where there is none.
    lines : shape (n,)
        0 where there is no row.
    anomalous : shape (n,)
        1 and 0; -1 without a label.
    """

    series: PointSeries
    begins: float
    step: float
    values: Floats
    lines: Ints
    anomalous: NDArray[np.int8]

    def time_at(self, index: int) -> str:
        """The time of a point, as a record has it."""
        return spell_time(self.begins + index * self.step, zoned=self.series.zoned, plain=self.series.plain)


def find_period(values: Floats) -> int | None:
    """The period of n values by their autocorrelation, None without one.

    >>> find_period(np.sin(np.arange(500) * 2 * np.pi / 24))
    24
    """
    # slow to import
    from scipy.signal import find_peaks

    filled = fill_gaps(values[:_SAMPLED, None])[:, 0]
    # enormous values have no square
    filled = filled / (np.abs(filled).max(initial=0.0) or 1.0)
    centred = filled - filled.mean()
    n, longest = len(centred), min(_LONGEST_PERIOD, len(centred) // 3)
    if longest < 4 or not centred.any():
        return None
    power = np.abs(np.fft.rfft(centred, 2 * n)) ** 2
    # the longest peak has both of its sides
    lags = np.arange(longest * 3 // 2)
    correlation = np.fft.irfft(power)[lags]
    correlation = correlation / correlation[0] * n / (n - lags)
    peaks = find_peaks(correlation, height=_CORRELATED, prominence=_PROMINENT)[0]
    peaks = peaks[(peaks >= 4) & (peaks <= longest)]
    if not len(peaks):
        return None
    return int(peaks[correlation[peaks] >= _AS_GOOD * correlation[peaks].max()][0])


def choose_window(values: Floats, step: float) -> tuple[int, str]:
    """Points of a window for a series of n points, shape (n, columns), and why so many.

    ``step``: seconds from point to point; a period that is nearly an hour, a day or a week is one.
    """
    period, n = find_period(values[:, 0]), len(values)
    size, why = _DEFAULT, "no period was found"
    if period is not None:
        exact = [unit / step for unit in _UNITS if abs(period * step - unit) <= _NEARLY * unit]
        period = max(2, round(exact[0])) if exact else period
        size, why = period * -(-_SHORTEST // period), f"the period by autocorrelation is {period} points"
    most = max(FEWEST_POINTS, n // _MOST_SHARE)
    return (size, why) if size <= most else (most, f"an eighth of the series ({why})")


def fill_gaps(values: Floats) -> Floats:
    """Values of shape (n, columns) with gaps filled by straight lines; a column without any value is 0."""
    filled = values.astype(np.float64, copy=True)
    for column in filled.T:
        known = ~np.isnan(column)
        if known.all():
            continue
        column[~known] = np.interp(np.flatnonzero(~known), np.flatnonzero(known), column[known]) if known.any() else 0
    return filled


def runs_of(series: PointSeries, longest_gap: int) -> tuple[list[Run], list[str]]:
    """A series as runs at equal distances, and notes on what that changed; see `Run`."""
    notes = list(series.notes)
    order = np.argsort(series.times, kind="stable")
    if backwards := int((np.diff(series.times) < 0).sum()):
        notes.append(f"times go back {backwards:,} times: the rows are sorted by time")
    times, steps = series.times[order], np.diff(series.times[order])
    if repeated := int((steps == 0).sum()):
        notes.append(
            f"{repeated:,} times are there more than once: their values are averaged (--key for several series)"
        )
    # times since 1970 are exact to a quarter of a microsecond
    step = max(round(float(np.median(steps[steps > 0])), 6), 1e-6) if (steps > 0).any() else 1.0
    off = np.abs(steps / step - np.maximum(np.round(steps / step), 1)) > _OFF
    if off[steps > 0].mean() > _IRREGULAR if (steps > 0).any() else False:
        notes.append(f"the points are not equally far apart: each is taken to the nearest of every {step:g} s")
    places = np.round((times - times[0]) / step).astype(np.int64)
    gaps = np.diff(places)
    parts = np.flatnonzero(gaps > longest_gap) + 1
    if (points := int(gaps[gaps <= longest_gap].sum()) + len(parts) + 1) * series.values.shape[1] > MOST_VALUES:
        raise InputError(
            f"a point every {step:g} s, which is the usual distance of its times, makes {points:,} points, too many: "
            "aggregate it to equal distances first, or split it",
            series.file,
        )
    runs = [_run(series, part, times[0], step, at) for part, at in _parts(order, places, parts)]
    if missing := sum(int(np.isnan(run.values).sum()) for run in runs):
        notes.append(f"{missing:,} values are missing between others: straight lines stand for them")
    if len(runs) > 1:
        notes.append(f"{len(runs) - 1:,} gaps are longer than a window: no window spans them")
    return runs, notes


def _parts(order: Ints, places: Ints, cuts: Ints) -> Iterator[tuple[Ints, Ints]]:
    yield from zip(np.split(order, cuts), np.split(places, cuts), strict=True)


def _run(series: PointSeries, rows: Ints, first: float, step: float, places: Ints) -> Run:
    index = places - places[0]
    size, columns = int(index[-1]) + 1, series.values.shape[1]
    read, known = series.values[rows], ~np.isnan(series.values[rows])
    sums, counts = np.zeros((size, columns)), np.zeros((size, columns))
    with np.errstate(over="ignore"):
        np.add.at(sums, index, np.where(known, read, 0.0))
    np.add.at(counts, index, known)
    values = np.where(counts > 0, np.clip(sums, -_ENORMOUS, _ENORMOUS) / np.maximum(counts, 1), np.nan)
    lines, anomalous = np.zeros(size, np.int64), np.full(size, -1, np.int8)
    # of rows with one time the first names the line
    lines[index[::-1]] = series.lines[rows][::-1]
    np.maximum.at(anomalous, index, series.anomalous[rows])
    return Run(series, first + float(places[0]) * step, step, values, lines, anomalous)


def series_windows(
    rows: Iterable[ParsedRow | RowError], options: SeriesOptions, request: ReadRequest
) -> Iterator[ParsedRow | RowError]:
    """The windows of one file's series as records; the label of one is anomalous if that of a point is.

    Parameters
    ----------
    rows, options, request
        See `agent.data.series.read_points`.
    """
    ranges = None if options.ranges is None else read_ranges(options.ranges, request.file)
    for series in read_points(rows, options, request):
        if isinstance(series, RowError):
            yield series
            continue
        runs, notes = runs_of(series, options.window or len(series.times))
        size = options.window or choose_window(runs[0].values, runs[0].step)[0]
        for run in runs:
            if len(run.values) < size:
                yield request.row_error(
                    int(run.lines[0]), f"{len(run.values)} points between gaps are fewer than a window of {size}"
                )
                continue
            run = run if ranges is None else labelled(run, ranges)
            for window in windows_of_run(run, size, options.step or max(1, size // 2), options.keys):
                yield window if isinstance(window, RowError) else with_notes(window, notes)
                notes = []


def with_notes(window: ParsedRow, notes: Iterable[str]) -> ParsedRow:
    """The window with further notes."""
    return ParsedRow(window.record, window.label, window.label_value, (*window.notes, *notes))


def starts_of(points: int, size: int, step: int) -> list[int]:
    """First points of the windows of so many points; the last window ends with the last point."""
    starts = list(range(0, points - size + 1, step))
    return starts if starts[-1] + size == points else [*starts, points - size]


def windows_of_run(run: Run, size: int, step: int, keys: tuple[str, ...]) -> Iterator[ParsedRow | RowError]:
    """The windows of a run; one of which half the values are missing is an error."""
    if size * run.values.shape[1] > MAX_SERIES_VALUES:
        raise InputError(
            f"windows of {size} points with {run.values.shape[1]} columns are more than {MAX_SERIES_VALUES:,} values: "
            "--window takes fewer points, --value fewer columns",
            run.series.file,
        )
    for start in starts_of(len(run.values), size, step):
        values = run.values[start : start + size]
        line = int(run.lines[start : start + size].max()) if run.lines[start] == 0 else int(run.lines[start])
        missing = float(np.isnan(values).mean())
        if missing > _MOST_MISSING:
            yield RowError(run.series.file, line, f"{missing:.0%} of the values from {run.time_at(start)} are missing")
            continue
        marks = run.anomalous[start : start + size]
        label: Label | None = None if (marks < 0).all() else "anomalous" if (marks == 1).any() else "normal"
        yield ParsedRow(_record(run, start, values, keys, line), label, label)


def _record(run: Run, start: int, values: Floats, keys: tuple[str, ...], line: int) -> Record:
    listed = {
        name: tuple(None if np.isnan(value) else float(value) for value in column)
        for name, column in zip(run.series.names, values.T, strict=True)
    }
    series = Series(start=run.time_at(start), step=run.step, values=listed, key=run.series.key)
    text, fields = described(series, keys)
    return Record(text=text, fields=fields, file=run.series.file, line=line or None, time=series.start, series=series)


def described(series: Series, keys: tuple[str, ...]) -> tuple[str, dict[str, FieldValue]]:
    """The text of a window, and its fields: what a person reads, and figures of each column."""
    fields: dict[str, FieldValue] = {" ".join(keys): series.key} if keys else {}
    shown = list[str]()
    for name, values in series.values.items():
        known = np.array([value for value in values if value is not None])
        figures = _figures(known) if len(known) else [None] * 4
        fields[f"{name} mean"] = figures[0]
        if len(series.values) <= _DETAILED:
            fields |= dict(zip((f"{name} spread", f"{name} lowest", f"{name} highest"), figures[1:], strict=True))
        if len(shown) < _NAMED and figures[0] is not None:
            shown.append(f"{name} {figures[2]:g} to {figures[3]:g}, mean {figures[0]:g}")
    more = f" and {len(series.values) - _NAMED} more columns" if len(series.values) > _NAMED else ""
    first = parse_time(series.start)
    assert first is not None
    plain = not series.has_calendar
    last = spell_time(first.seconds + series.step * (len(series) - 1), zoned=first.zoned, plain=plain)
    key = f"{series.key}: " if series.key else ""
    return f"{key}{series.start} to {last}, {len(series)} points: {'; '.join(shown)}{more}", fields


def _figures(values: Floats) -> list[float | None]:
    """Mean, standard deviation, lowest and highest; enormous values have no sum, and no square."""
    scale = float(np.abs(values).max())
    scale = scale if scale > 1e100 else 1.0
    return [*(float(f(values / scale)) * scale for f in (np.mean, np.std)), float(values.min()), float(values.max())]


def read_ranges(path: str, file: str) -> list[tuple[float, float]]:
    """The anomalous ranges of a file, as seconds, from a JSON object of lists of pairs of times by name.

    Raises
    ------
    InputError
        The object cannot be read, or has no name that ends as the file's does.
    """
    try:
        content: Any = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be read as JSON: {error}", path) from error
    if not isinstance(content, dict):
        raise InputError("is no JSON object from names of files to pairs of times", path)
    parts = Path(file).parts
    matches = {
        name: next((n for n, (a, b) in enumerate(zip(Path(name).parts[::-1], parts[::-1], strict=False)) if a != b), 99)
        for name in content
        if Path(name).name == Path(file).name
    }
    if not matches:
        raise InputError(f"names no file {Path(file).name!r}", path)
    ranges = []
    for pair in content[max(matches, key=lambda name: matches[name])]:
        times = [parse_time(time) for time in pair] if isinstance(pair, list) and len(pair) == 2 else [None]
        if any(time is None for time in times):
            raise InputError(f"{str(pair)[:60]} is no pair of times", path)
        ranges.append((times[0].seconds, times[1].seconds))  # type: ignore[union-attr]
    return ranges


def labelled(run: Run, ranges: Iterable[tuple[float, float]]) -> Run:
    """The run with the points within ``ranges`` anomalous, and the others normal."""
    times = run.begins + np.arange(len(run.values)) * run.step
    flags = np.zeros(len(times), np.int8)
    for first, last in ranges:
        flags[(times >= first) & (times <= last)] = 1
    return Run(run.series, run.begins, run.step, run.values, run.lines, flags)
