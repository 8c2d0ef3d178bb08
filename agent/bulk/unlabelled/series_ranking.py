"""Series without labels: their windows by how unlike the rest of their series they are. Nothing is called anomalous."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from agent.bulk.series_chart import SeriesChart, add_window
from agent.core.errors import InputError
from agent.core.html_page import write_page
from agent.core.records import Record
from agent.core.terminal import console, plural, rich_text
from agent.data.read_options import ReadOptions
from agent.data.readers import RowError
from agent.data.series_choice import found_options, load_series
from agent.data.series_windows import Run, runs_of
from agent.detectors.contrib.series_own import OwnScores, own_scores

# windows that are shown on a screen and on a page
_ON_SCREEN, _ON_PAGE = 12, 100
NOTE = "Nothing here is labelled: windows are ranked by how unlike the rest of their series they are."


class RankedWindow(BaseModel):
    """A window; ``score`` is its distance from the rest, in units of how much windows usually differ."""

    rank: int
    score: float
    record: Record
    facts: tuple[str, ...]


@dataclass
class SeriesRanking:
    """The most unusual windows of files, none of which overlap.

    Attributes
    ----------
    windows : list of RankedWindow
    compared : int
        Windows that were compared.
    notes : list of str
        How the series were read.
    unreadable : list of RowError
    charts : dict of str to SeriesChart
    """

    windows: list[RankedWindow] = field(default_factory=list)
    compared: int = 0
    notes: list[str] = field(default_factory=list)
    unreadable: list[RowError] = field(default_factory=list)
    charts: dict[str, SeriesChart] = field(default_factory=dict)


def rank_series(
    paths: Sequence[str], options: ReadOptions, max_chars: int, progress: Callable[[str, int, int], None]
) -> SeriesRanking:
    """Rank the windows of all series of some files; each file is its own reference.

    Raises
    ------
    InputError
        A file cannot be read as series, or has too few points to compare.
    """
    ranking = SeriesRanking()
    for number, path in enumerate(paths):
        progress("comparing windows", number, len(paths))
        series, unreadable = load_series(options, path, max_chars)
        ranking.unreadable += unreadable
        assert options.series is not None
        chosen, note = found_options(options.series, series)
        size = chosen.window or 0
        runs = list[Run]()
        for points in series:
            found, notes = runs_of(points, size)
            runs += found
            ranking.notes += [f"{path}: {text}" for text in notes]
        scored = own_scores(runs, size, chosen.keys)
        if scored is None:
            raise InputError(f"too few windows of {size} points to compare: --window takes fewer points", path)
        ranking.notes.append(f"{path}: {note.replace(f'every {chosen.step} points', f'every {scored.step} points')}")
        ranking.compared += int((~np.isnan(scored.scores)).sum())
        _add(ranking, scored, size)
    ranking.windows.sort(key=lambda window: -window.score)
    ranking.windows = [window.model_copy(update={"rank": n}) for n, window in enumerate(ranking.windows, start=1)]
    for window in ranking.windows[:_ON_SCREEN]:
        add_window(ranking.charts, window.record, "unsure", only_mark=True)
    return ranking


def _add(ranking: SeriesRanking, scored: OwnScores, size: int) -> None:
    """Add the windows of one file that overlap none of a higher score."""
    taken = list[tuple[int, int]]()
    for index in np.argsort(-np.nan_to_num(scored.scores, nan=-1.0), kind="stable").tolist():
        place = scored.places[index]
        if len(taken) >= _ON_PAGE or not scored.scores[index] > 0:
            break
        if any(run == place.run and abs(start - place.start) < size for run, start in taken):
            continue
        taken.append(place)
        ranking.windows.append(
            RankedWindow(
                rank=0, score=float(scored.scores[index]), record=scored.records[index], facts=scored.facts(index)
            )
        )
    for record in scored.records:
        add_window(ranking.charts, record)


def write_windows(ranking: SeriesRanking, stream: Any = None) -> None:
    """Write the first windows as a table to ``stream`` or standard output."""
    from rich.table import Table

    screen = console(stream)
    table = Table(expand=screen.is_terminal, pad_edge=False)
    for name, ratio in (("", 1), ("score", 1), ("file:line", 4), ("window, and why", 20)):
        table.add_column(name, ratio=ratio, overflow="fold")
    for window in ranking.windows[:_ON_SCREEN]:
        text = rich_text(window.record.text, "bold")
        for fact in window.facts:
            text.append_text(rich_text(f"\n{fact}", "dim"))
        place = f"{window.record.file}:{window.record.line}"
        table.add_row(str(window.rank), f"{window.score:.1f}", rich_text(place), text)
    screen.print(table)
    more = len(ranking.windows) - min(_ON_SCREEN, len(ranking.windows))
    screen.print(f"{plural(ranking.compared, 'window')} compared; {more:,} more are unusual. {NOTE}", soft_wrap=True)


def write_series_page(ranking: SeriesRanking, path: Path) -> None:
    """Write the windows as one HTML page with a chart of each series.

    Raises
    ------
    UsageError
        The page cannot be written.
    """
    template = Path(__file__).with_name("series_ranking.html.j2")
    write_page(template, path, ranking=ranking, charts=list(ranking.charts.values()), note=NOTE, plural=plural)
