"""Every source's drift as gauges for `/metrics`, computed at most once a minute."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from agent.pipeline.context import AppContext
from agent.training.drift import Drift, measure_drift

_KEPT_SECONDS = 60.0
_GAUGES: dict[str, tuple[str, Callable[[Drift], float | None]]] = {
    "novel_share": ("Recent contents whose template no case has, of all", lambda found: found.novel_share),
    "field_psi": (
        "Stability index of the field that moved farthest",
        lambda found: max(found.field_psi.values(), default=None),
    ),
    "unsure_share": ("Unsure verdicts, of the recent ones", lambda found: found.unsure_share),
    "anomalous_share": ("Anomalous verdicts, of the recent ones", lambda found: found.anomalous_share),
    "contradicted_share": (
        "Contradictions, of the corrections of decided verdicts",
        lambda found: found.contradicted_share,
    ),
}


class DriftGauges(Collector):
    """One sample a source for each gauge that there is something to say of."""

    def __init__(self, context: AppContext) -> None:
        self._context, self._lock = context, threading.Lock()
        self._kept: dict[str, Drift] = {}
        self._computed: float | None = None

    def collect(self) -> Iterator[GaugeMetricFamily]:
        with self._lock:
            now = time.monotonic()
            if self._computed is None or now - self._computed > _KEPT_SECONDS:
                self._kept = {name: measure_drift(self._context, name) for name in self._context.casebook.names()}
                self._computed = now
            kept = dict(self._kept)
        for name, (said, value_of) in _GAUGES.items():
            gauge = GaugeMetricFamily(f"precedent_{name}", said, labels=("source",))
            for source, found in kept.items():
                if (value := value_of(found)) is not None:
                    gauge.add_metric((source,), value)
            yield gauge
