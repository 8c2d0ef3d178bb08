"""Findings in windows of series as sentences; every number is one of the window or of the normal part."""

from __future__ import annotations

from collections.abc import Sequence

from agent.core.records import Series
from agent.data.series_times import spell_time
from agent.detectors.contrib.series_arrays import Scale
from agent.detectors.contrib.series_kernels import Finding, spell_moment

_UNITS = ((7 * 86_400.0, "weeks"), (86_400.0, "days"), (3_600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))
_FACTS = 3


def facts_of(
    series: Series,
    scale: Scale,
    key: int,
    found: Sequence[tuple[str, Finding, int, int]],
    span: float,
    slot: float | None,
    others: str,
) -> tuple[str, ...]:
    """The sentences.

    Parameters
    ----------
    series : Series
        The window.
    scale : Scale
    key : int
        Its key's number in the scale.
    found : sequence
        Kind and finding, how many normal windows are as unusual, and of how many.
    span : float
        Seconds of the normal part.
    slot : float or None
        Seconds of a slot of the calendar.
    others : str
        What the window was compared with.
    """
    facts = [_fact(series, scale, key, item, span, slot, others) for item in found[:_FACTS]]
    return tuple(facts) or (f"no single point, time or shape stands out among {others}; its distances together count",)


def _fact(
    series: Series,
    scale: Scale,
    key: int,
    item: tuple[str, Finding, int, int],
    span: float,
    slot: float | None,
    others: str,
) -> str:
    kind, finding, as_far, total = item
    name = scale.names[finding.column]
    of_column = f" of {name}" if len(scale.names) > 1 else ""
    value = series.values[name][finding.point]
    seconds = (series.begins or 0.0) + series.step * finding.point
    written = "no value" if value is None else f"{value:g}"
    usual = [f"{scale.raw(x, key, finding.column):.4g}" for x in finding.usual]
    often = f"{as_far:,} of {total:,} {others} are as far off"
    if kind == "contextual":
        when = spell_moment(seconds, series.step, slot)
        return f"contextual: {written}{of_column} at {when}, usual {usual[0]} to {usual[1]} then ({often})"
    if kind == "point":
        when = time_of(series, finding.point)
        return f"point: {written}{of_column} at {when}, where {usual[0]} follows from the points before ({often})"
    whole = f"{time_of(series, 0)} to {time_of(series, len(series) - 1)}"
    if kind == "reconstruction":
        return f"collective: {whole} cannot be made of what {others} have in common ({often})"
    if finding.nearest is None:
        return f"collective: {whole} has no other window to be compared with"
    nearest = _spell(series, finding.nearest)
    return (
        f"collective: this shape{of_column}, {whole}, is unlike its nearest in {duration(span, series)} "
        f"(nearest at {nearest}, most unlike at {time_of(series, finding.point)}; {often})"
    )


def time_of(series: Series, point: int) -> str:
    """The time of a window's point."""
    return _spell(series, (series.begins or 0.0) + series.step * point)


def _spell(series: Series, seconds: float) -> str:
    return spell_moment(seconds, series.step) if series.has_calendar else spell_time(seconds, zoned=False, plain=True)


def duration(seconds: float, series: Series) -> str:
    """A length of time in words, in points where there is no calendar.

    >>> duration(86_400 * 3.5, Series(start="2024-01-01", step=60, values={"x": (1, 2)}))
    '3.5 days'
    """
    if not series.has_calendar:
        return f"{round(seconds / series.step):,} points"
    size, unit = next(((size, unit) for size, unit in _UNITS if seconds >= 2 * size), _UNITS[-1])
    return f"{seconds / size:.3g} {unit}"
