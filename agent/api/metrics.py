"""Prometheus metrics: verdicts by source and label, each source's drift, and what is proposed for it."""

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
from agent.training.drift_findings import Drift
from agent.training.proposal import Proposals, propose

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
    "drift_score": (
        "Minus log10 of the smallest p-value of the tests that found drift, 0 if none",
        lambda drift: drift.score,
    ),
}


class Metrics(Collector):
    """The process's metrics.

    Drift, what is proposed for each source, and the log line with the verdicts' counts come from a thread, once a
    minute: a scrape computes nothing.
    """

    def __init__(self, context: AppContext) -> None:
        self.registry = CollectorRegistry()
        self._context = context
        self._verdicts = prometheus_client.Counter(
            "precedent_verdicts_total", "Verdicts given", ("source", "label"), registry=self.registry
        )
        self._unlogged: Counter[tuple[str, str]] = Counter()
        self._lock, self._stopping = threading.Lock(), threading.Event()
        self._proposals: dict[str, Proposals] = {}
        # what they were made from
        self._states: dict[str, tuple[object, ...]] = {}
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
        proposals = self._proposals
        for name, (description, value_of) in _GAUGES.items():
            gauge = GaugeMetricFamily(f"precedent_{name}", description, labels=("source",))
            for source, found in proposals.items():
                if (value := value_of(found.drift)) is not None:
                    gauge.add_metric((source,), value)
            yield gauge
        pending = GaugeMetricFamily(
            "precedent_proposal_pending", "1 for what is proposed for a source, else 0", labels=("source", "action")
        )
        for source, found in proposals.items():
            actions = {proposal.action for proposal in found.proposals}
            for action in ("refit", "label", "tune"):
                pending.add_metric((source, action), float(action in actions))
        yield pending

    def proposal(self, source: str) -> Proposals | None:
        """What was last proposed for a source; None until it was looked at."""
        return self._proposals.get(source)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._refresh()
            self._stopping.wait(REFRESH_SECONDS)
        self._log_verdicts()

    def _refresh(self) -> None:
        self._log_verdicts()
        proposals, states = dict[str, Proposals](), dict[str, tuple[object, ...]]()
        try:
            for source in self._context.casebook.names():
                if self._stopping.is_set():
                    return
                states[source] = self._context.source(source).revision, self._context.history.newest_at(source)
                if states[source] == self._states.get(source) and source in self._proposals:
                    proposals[source] = self._proposals[source]
                    continue
                proposals[source] = propose(self._context, source, labels=0)
                self._log_new(source, proposals[source])
        except Exception as error:  # a source may be removed meanwhile; the next minute tries again
            if translate(error):
                log_event("drift was not measured", "warning", reason=describe(error))
            else:
                log_error("drift was not measured", error)
            return
        self._proposals, self._states = proposals, states

    def _log_new(self, source: str, found: Proposals) -> None:
        """Log an action that was not proposed before, with the command that shows the evidence."""
        before = self._proposals.get(source)
        if found.action not in ("nothing", before.action if before else None):
            command = f"precedent sources propose {source}"
            log_event("proposal", "warning", source=source, action=found.action, command=command)

    def _log_verdicts(self) -> None:
        with self._lock:
            counts, self._unlogged = self._unlogged, Counter()
        for source in sorted({source for source, _ in counts}):
            labels: dict[str, Any] = {label: n for (name, label), n in counts.items() if name == source}
            log_event("verdicts", source=source, **labels)
