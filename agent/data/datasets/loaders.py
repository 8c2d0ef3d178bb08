"""The loaders by the names that `catalog.toml` uses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agent.data.datasets import arrays, series, sessions, tables, texts
from agent.data.datasets.files import Member
from agent.data.datasets.rows import LabelRule, RowSet

Loader = Callable[[Mapping[str, Sequence[Member]], Mapping[str, Any], LabelRule], RowSet]

LOADERS: Mapping[str, Loader] = {
    "table": tables.load_table,
    "lines": texts.load_lines,
    "mails": texts.load_mails,
    "blocks": sessions.load_blocks,
    "traces": sessions.load_traces,
    "sequences": sessions.load_sequences,
    "events": sessions.load_events,
    "arrays": arrays.load_arrays,
    "channels": arrays.load_channels,
    "series": series.load_series,
    "charts": series.load_charts,
    "process": series.load_process,
    "runs": series.load_runs,
}
# loaders whose records are windows of points
WINDOWED = frozenset({"series", "channels"})
# loaders whose labels are values of the files
BY_VALUE = frozenset({"table", "lines", "mails", "blocks", "traces", "events", "arrays", "series"})
