"""NAB's series as a data set of the page: points of whole series instead of records, and no labels to learn from."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import series
from benchmarks.progress import print_status
from benchmarks.systems.measuring import PRECEDENT, Row
from benchmarks.systems.results import Section, machine

NAME = "nab"
_PROTOCOL = (
    "NAB, realKnownCause and artificialWithAnomaly: each series is scored as a whole and by itself, without labels. "
    "Means over the series; figures are of points, F1 at its best threshold without point adjustment. The last column "
    f"has the mean VUS-PR ({series.PUBLISHED})."
)


def measure_nab(systems: Sequence[str] | None) -> Section:
    """A row for each of the series' systems, or for the named ones of them.

    Raises
    ------
    UsageError
        The series are not on this machine.
    """
    truths = [labelled.truth for _, labelled in series.load_nab()]
    points = sum(map(len, truths))
    rows = []
    for name, of_series in series.rows(names=systems, show=print_status).items():
        mean = series.mean(list(of_series.values()))
        seconds = sum(figures.seconds for figures in of_series.values())
        rows.append(
            Row(
                PRECEDENT if name == "precedent" else name, "the series", f1=mean.f1, roc_auc=mean.auc,
                average_precision=mean.ap, records_per_second=points / seconds, labels="0",
                note=f"VUS-PR {mean.vus_pr:.3f}",
            )
        )  # fmt: skip
    anomalous = sum(int(truth.sum()) for truth in truths)
    return Section(NAME, _PROTOCOL, 0, points, anomalous, 0, 0, machine(), tuple(rows))
