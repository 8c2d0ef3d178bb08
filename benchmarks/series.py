"""Detectors of time series on NAB: Precedent's, its parts alone, and the usual ones beside it.

Each series of `realKnownCause` and `artificialWithAnomaly` is scored as a whole and without labels: it is its own
reference (unsupervised, the whole series, as TSB-AD has it). Figures are those of points: VUS-PR (Paparrizos et al.
2022) with margins up to the series' period (TSB-AD's rule), the area under the ROC curve, average precision, and F1
without point adjustment at the best threshold. NAB's labels are ranges of a tenth of a series around what happened, so
that a score which spreads over a window is better than one which is sharp. `python -m benchmarks.series`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.signal import argrelextrema
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from agent.core.errors import UsageError
from agent.data.read_options import ReadOptions
from agent.data.series import SeriesOptions
from agent.data.series_choice import load_series
from agent.data.series_windows import Run, choose_window, labelled, read_ranges, runs_of
from agent.detectors.contrib import catalog
from agent.detectors.contrib.series_detector import detector
from agent.detectors.contrib.series_own import own_scores
from agent.training.series_metrics import vus_pr
from benchmarks.bgl import BGL
from retrieval.arrays import Floats

NAB = BGL.parents[2] / "nab"
FOLDERS = ("artificialWithAnomaly", "realKnownCause")
PUBLISHED = "best published mean VUS-PR on the NAB part of TSB-AD-U: .48"
_WHOLE, _MAX_CHARS = 1 << 62, 20_000


class LabelledSeries(NamedTuple):
    """A series as its file has it, and on a grid of equal distances, as Precedent reads it.

    ``values`` and ``truth`` are of the n rows in their order, and ``places`` where each row is in the ``run``.
    """

    run: Run
    places: NDArray[np.int64]
    values: Floats
    truth: NDArray[np.bool_]


# scores of the n rows
Score = Callable[[LabelledSeries], Floats]


@dataclass(frozen=True)
class Figures:
    """Of one system on one series, or the means of several."""

    vus_pr: float
    auc: float
    ap: float
    f1: float
    seconds: float


def load_nab(folder: Path = NAB) -> Iterator[tuple[str, LabelledSeries]]:
    """The labelled series by name.

    Raises
    ------
    UsageError
        They are not on this machine.
    """
    ranges = folder / "combined_windows.json"
    if not ranges.exists():
        raise UsageError(f"NAB's series are not in {folder}")
    options = ReadOptions(series=SeriesOptions(ranges=str(ranges)))
    for part in FOLDERS:
        for path in sorted((folder / part).glob("*.csv")):
            (series,), _ = load_series(options, path, _MAX_CHARS)
            (run,), _ = runs_of(series, _WHOLE)
            run = labelled(run, read_ranges(str(ranges), str(path)))
            places = np.round((series.times - run.begins) / run.step).astype(np.int64)
            yield path.stem, LabelledSeries(run, places, series.values[:, 0], run.anomalous[places] == 1)


def tsb_period(values: Floats) -> int:
    """The period by which TSB-AD sets windows: the highest peak of the autocorrelation, or 125."""
    centred = values[:20_000] - values[:20_000].mean()
    power = np.abs(np.fft.rfft(centred, 2 * len(centred))) ** 2
    correlation = np.fft.irfft(power)[3:401]
    peaks = argrelextrema(correlation, np.greater)[0]
    best = int(peaks[np.argmax(correlation[peaks])]) if len(peaks) else 0
    return best + 3 if 3 <= best <= 300 else 125


def _padded(scores: Floats, total: int, window: int) -> Floats:
    before = -(-(window - 1) // 2)
    return np.concatenate([np.full(before, scores[0]), scores, np.full(total - len(scores) - before, scores[-1])])


def sub_pca(series: LabelledSeries) -> Floats:
    """TSB-AD's Sub-PCA: distances of standardised windows to components, weighed by what these do not explain."""
    values = series.values
    window = tsb_period(values)
    x = sliding_window_view(values, window)
    x = (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-12)
    fitted = PCA(random_state=0).fit(x)
    weights = np.maximum(fitted.explained_variance_ratio_, 1e-30)
    return _padded((cdist(x, fitted.components_) / weights).sum(axis=1), len(values), window)


def matrix_profile(series: LabelledSeries) -> Floats:
    """The plain matrix profile by stumpy."""
    import stumpy

    values = series.values
    window = tsb_period(values)
    profile = stumpy.stump(values, window)[:, 0].astype(np.float64)
    return _padded(np.where(np.isfinite(profile), profile, 0.0), len(values), window)


def isolation_forest(series: LabelledSeries) -> Floats:
    """An isolation forest on z-normalised windows."""
    values = series.values
    window = tsb_period(values)
    x = sliding_window_view(values, window)
    x = (x - x.mean(axis=1, keepdims=True)) / np.maximum(x.std(axis=1, keepdims=True), 1e-12)
    return _padded(-IsolationForest(random_state=0).fit(x).score_samples(x), len(values), window)


def _ours(name: str) -> Score:
    def score(series: LabelledSeries) -> Floats:
        run = series.run
        size, _ = choose_window(run.values, run.step)
        found = own_scores([run], size, kernels=detector(name).kernels)
        # a series without a calendar, or too short, has nothing unusual to this kind
        return np.zeros(len(series.truth)) if found is None else found.of_points(0, len(run.values))[series.places]

    return score


def systems() -> Mapping[str, Score]:
    """The systems by name; those whose extra is missing are left out."""
    ours = [name for name, entry in catalog.CATALOG.items() if name.startswith("series") and not entry.missing]
    found = {("precedent" if name == "series" else name): _ours(name) for name in ours}
    found |= {"sub_pca": sub_pca, "iforest_windows": isolation_forest}
    return found | ({"mp": matrix_profile} if catalog.is_installed("timeseries") else {})


def measure(series: LabelledSeries, score: Score) -> Figures:
    """The figures of a system on a series."""
    started = time.perf_counter()
    scores, truth = score(series), series.truth
    seconds = time.perf_counter() - started
    precision, recall, _ = precision_recall_curve(truth, scores)
    volume = vus_pr(truth, scores, tsb_period(series.values))
    assert volume is not None
    return Figures(
        volume,
        float(roc_auc_score(truth, scores)),
        float(average_precision_score(truth, scores)),
        float((2 * precision * recall / np.maximum(precision + recall, 1e-12)).max()),
        seconds,
    )


def mean(figures: Sequence[Figures]) -> Figures:
    """The means."""
    return Figures(*(float(np.mean([getattr(each, name) for each in figures])) for name in Figures.__annotations__))


def rows(
    folder: Path = NAB, names: Sequence[str] | None = None, show: Callable[[str], None] | None = None
) -> dict[str, dict[str, Figures]]:
    """By system, its figures for each series: the section "nab" of `precedent bench systems`."""
    chosen = {name: score for name, score in systems().items() if names is None or name in names}
    found: dict[str, dict[str, Figures]] = {name: {} for name in chosen}
    for title, series in load_nab(folder):
        for name, score in chosen.items():
            found[name][title] = measure(series, score)
        if show:
            show(f"{title:38}" + " ".join(f"{name} {found[name][title].vus_pr:.3f}" for name in chosen))
    return found


def table(found: Mapping[str, Mapping[str, Figures]]) -> str:
    """The means as a Markdown table, the best VUS-PR first."""
    lines = [
        "| system | VUS-PR | AUC | AP | F1 (best threshold, no point adjustment) | seconds a series |",
        "|---|---|---|---|---|---|",
    ]
    means = {name: mean(list(of_series.values())) for name, of_series in found.items()}
    for name, row in sorted(means.items(), key=lambda item: -item[1].vus_pr):
        lines.append(f"| {name} | {row.vus_pr:.3f} | {row.auc:.3f} | {row.ap:.3f} | {row.f1:.3f} | {row.seconds:.1f} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.series", description="Detectors of series on NAB.")
    parser.add_argument("--folder", type=Path, default=NAB, help="where NAB's folders and combined_windows.json are")
    parser.add_argument("--systems", metavar="NAME,NAME", help="those to measure [all]")
    parser.add_argument("--json", action="store_true", help="the figures of each series as one JSON object")
    options = parser.parse_args(arguments)
    names = None if options.systems is None else options.systems.split(",")
    found = rows(options.folder, names, None if options.json else print)
    if options.json:
        print(json.dumps({name: {key: vars(row) for key, row in of.items()} for name, of in found.items()}))
        return
    print(f"\n{table(found)}\n\n{PUBLISHED}")
    if not catalog.is_installed("timeseries"):
        print(f"left out: mp and series_matrix need {catalog.hint_of('timeseries')}")


if __name__ == "__main__":
    main()
