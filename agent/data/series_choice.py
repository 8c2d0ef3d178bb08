"""What the options leave open about series, found by its first file: the columns, and the points of a window."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from agent.core.errors import InputError
from agent.data.readers import RowError, read_rows
from agent.data.series import FEWEST_POINTS, PointSeries, SeriesOptions, read_points
from agent.data.series_windows import choose_window, runs_of

if TYPE_CHECKING:
    from agent.data.read_options import ReadOptions

# windows that begin within the points of one, and how many the longest series has at least, where it has the points
_OVERLAP, _FEWEST_WINDOWS = 2, 24
_COLUMNS_NAMED = 5


def load_series(
    options: ReadOptions, path: str | Path, max_chars: int, *, stdin: BinaryIO | None = None
) -> tuple[list[PointSeries], list[RowError]]:
    """All series of a file, and its rows that cannot be read.

    Raises
    ------
    InputError
        The file as a whole cannot be read as series, or has no points.
    """
    assert options.series is not None
    with options.open(path, max_chars, lenient=True, stdin=stdin) as (stream, kind, request):
        items = list(read_points(read_rows(stream, kind, request), options.series, request))
    series = [item for item in items if isinstance(item, PointSeries)]
    failures = [item for item in items if isinstance(item, RowError)]
    if not series:
        first = f", the first: {failures[0].reason}" if failures else ""
        raise InputError(f"has no point of a series{first}", str(path), failures[0].line if failures else None)
    return series, failures


def found_options(options: SeriesOptions, series: Sequence[PointSeries]) -> tuple[SeriesOptions, str]:
    """The options with window and step, by the longest of the series of a file, and what was chosen, in words.

    Raises
    ------
    InputError
        No series has enough points.
    """
    longest = max(series, key=lambda item: len(item.times))
    # a gap that is longer than the series is a wrong time, or the beginning of another series
    runs, _ = runs_of(longest, len(longest.times))
    run = max(runs, key=lambda item: len(item.values))
    values, step = run.values, run.step
    if len(values) < 2 * FEWEST_POINTS or not np.isfinite(values).any():
        raise InputError(
            f"its longest series has {len(values)} points: a series takes at least {2 * FEWEST_POINTS}", longest.file
        )
    if options.window is not None and options.window > len(values):
        raise InputError(f"--window {options.window}: its longest series has {len(values)} points", longest.file)
    size, why = choose_window(values, step) if options.window is None else (options.window, "as named")
    begun = options.step or max(1, min(size // _OVERLAP, (len(values) - size) // _FEWEST_WINDOWS))
    names = ", ".join(longest.names[:_COLUMNS_NAMED])
    more = f" and {len(longest.names) - _COLUMNS_NAMED} more" if len(longest.names) > _COLUMNS_NAMED else ""
    unit = "" if longest.plain else " s"
    note = (
        f"{len(series):,} series of {names}{more}, a point every {step:g}{unit}; windows of {size} points ({why}), "
        f"one every {begun} points; --window and --step choose others"
    )
    chosen = options.model_copy(update={"window": size, "step": begun, "values": longest.names})
    return chosen, note


def with_series_found(
    options: ReadOptions, path: str | Path, max_chars: int, *, stdin: BinaryIO | None = None
) -> tuple[ReadOptions, str]:
    """The options of a source with all that was left open about its series; see `found_options`."""
    assert options.series is not None
    if stdin is not None:
        stdin.seek(0)
    series, _ = load_series(options, path, max_chars, stdin=stdin)
    chosen, note = found_options(options.series, series)
    return options.model_copy(update={"series": chosen}), note
