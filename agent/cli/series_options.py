"""Options of time series that several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from agent.core.errors import UsageError

if TYPE_CHECKING:
    from agent.data.read_options import ReadOptions
    from retrieval.casebook import SourceSnapshot

SeriesOption = Annotated[
    bool, typer.Option("--series", help="Read tables with a column of times as time series: windows are records.")
]
TimeColumnOption = Annotated[
    str | None, typer.Option("--time", metavar="COL", help="Of series: the column of times. [detected]")
]
ValuesOption = Annotated[
    list[str] | None,
    typer.Option("--value", metavar="COL", help="Of series: column of values; repeat it. [every column of numbers]"),
]
KeysOption = Annotated[
    list[str] | None,
    typer.Option("--key", metavar="COL", help="Of series: column that says which series a row is of; repeat it."),
]
WindowOption = Annotated[
    int | None, typer.Option("--window", min=8, max=10_000, help="Of series: points of a window. [by the period]")
]
StepOption = Annotated[
    int | None,
    typer.Option("--step", min=1, help="Of series: points from one window's first to the next one's. [half a window]"),
]
RangesOption = Annotated[
    str | None,
    typer.Option(
        "--windows",
        metavar="JSON",
        help="Of series: file of anomalous ranges, {file: [[from, to], …]}, in place of --label.",
    ),
]


def with_series(
    options: ReadOptions,
    row: SourceSnapshot | None,
    *,
    series: bool,
    time: str | None = None,
    values: list[str] | None = None,
    keys: list[str] | None = None,
    window: int | None = None,
    step: int | None = None,
    ranges: str | None = None,
) -> ReadOptions:
    """The options with those of series; a source that was learned as series is read so without ``--series``.

    Raises
    ------
    UsageError
        An option of series without ``--series``, or the source was not learned as series.
    """
    from agent.data.read_options import ReadOptions
    from agent.data.series import SeriesOptions

    if options.series is None and row is not None:
        options = options.model_copy(update={"series": ReadOptions.model_validate(row.reading or {}).series})
    given = {"time": time, "values": values, "keys": keys, "window": window, "step": step, "ranges": ranges}
    given = {name: value for name, value in given.items() if value}
    if options.series is None:
        if given and not series:
            names = ", ".join(f"--{_FLAGS.get(name, name)}" for name in given)
            raise UsageError(f"{names}: of time series, which --series reads")
        if not series:
            return options
        if row is not None and any(row.counts.values()):
            raise UsageError(f"{row.name} was learned from records, not from series: use a source of its own")
    elif window is not None and window != options.series.window and row is not None:
        raise UsageError(f"--window {window}: {row.name} was learned with windows of {options.series.window} points")
    if options.text:
        raise UsageError("--text is for records: of series, --value names the columns")
    if step is not None and (size := window or (options.series and options.series.window)) and step > size:
        raise UsageError(f"--step {step}: more than the {size} points of a window leaves points out")
    chosen = {**(options.series.model_dump() if options.series else {}), **given}
    return options.model_copy(update={"series": SeriesOptions.model_validate(chosen)})


_FLAGS = {"values": "value", "keys": "key", "ranges": "windows"}
