"""Prometheus metrics: verdicts by source and label, and each source's drift."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import prometheus_client
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from agent.core.errors import describe, translate
from agent.core.logs import log_error, log_event
from agent.pipeline.context import AppContext
from agent.training.drift import Drift, measure_drift

REFRESH_SECONDS = 60.0
_GAUGES: dict[str, tuple[str, Callable[[Drift], float | None]]] = {
    "novel_share": ("Share of recent contents whose template no case has", lambda drift: drift.novel_share),
    "field_psi": (
        "Population stability index of the field that moved most",
        lambda drift: max(drift.field_psi.values(), default=None),
    ),
    "unsure_share": ("Share of unsure verdicts among the recent ones", lambda drift: drift.unsure_share),
    "anomalous_share": ("Share of anomalous verdicts among the recent ones", lambda drift: drift.anomalous_share),
    "contradicted_share": (
        "Share of contradictions among the corrections of decided verdicts",
        lambda drift: drift.contradicted_share,
    ),
}


class Metrics(Collector):
    """The process's metrics.

    Drift and the log line with the verdicts' counts come from a thread, once a minute: a scrape computes nothing.
    """

    def __init__(self, context: AppContext) -> None:
        self.registry = CollectorRegistry()
        self._context = context
        self._verdicts = prometheus_client.Counter(
            "precedent_verdicts_total", "Verdicts given", ("source", "label"), registry=self.registry
        )
        self._unlogged: Counter[tuple[str, str]] = Counter()
        self._lock, self._stopping = threading.Lock(), threading.Event()
        self._drift: dict[str, Drift] = {}
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)

    def start(self) -> None:
        """Start the thread that computes drift."""
        self._thread.start()

    def close(self) -> None:
        """Stop the thread after the source that it is measuring."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def count(self, verdicts: Mapping[tuple[str, str], int]) -> None:
        """Count verdicts by source and label."""
        for labels, number in verdicts.items():
            self._verdicts.labels(*labels).inc(number)
        with self._lock:
            self._unlogged.update(verdicts)

    def scrape(self) -> bytes:
        """All metrics in Prometheus' text format; counts are those of all processes that serve."""
        counts = self.registry
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            MultiProcessCollector(counts := CollectorRegistry())  # type: ignore[no-untyped-call]
        gauges = CollectorRegistry()
        gauges.register(self)
        return generate_latest(counts) + generate_latest(gauges)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges of drift as last computed, a sample for each source that has a value."""
        drift_by_source = self._drift
        for name, (description, value_of) in _GAUGES.items():
            gauge = GaugeMetricFamily(f"precedent_{name}", description, labels=("source",))
            for source, drift in drift_by_source.items():
                if (value := value_of(drift)) is not None:
                    gauge.add_metric((source,), value)
            yield gauge

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._refresh()
            self._stopping.wait(REFRESH_SECONDS)
        self._log_verdicts()

    def _refresh(self) -> None:
        self._log_verdicts()
        drift_by_source = dict[str, Drift]()
        try:
            for source in self._context.casebook.names():
                if self._stopping.is_set():
                    return
                drift_by_source[source] = measure_drift(self._context, source)
        except Exception as error:  # a source may be removed meanwhile; the next minute tries again
            if translate(error):
                log_event("drift was not measured", "warning", reason=describe(error))
            else:
                log_error("drift was not measured", error)
            return
        self._drift = drift_by_source

    def _log_verdicts(self) -> None:
        with self._lock:
            counts, self._unlogged = self._unlogged, Counter()
        for source in sorted({source for source, _ in counts}):
            labels: dict[str, Any] = {label: n for (name, label), n in counts.items() if name == source}
            log_event("verdicts", source=source, **labels)
