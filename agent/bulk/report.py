"""The summary of a bulk run for people: on a screen, and as one HTML page without external resources."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agent.bulk.summary import ON_PAGE, ON_SCREEN, Group, Span, Summary
from agent.core.html_page import write_page
from agent.core.records import VERDICT_LABELS, Verdict
from agent.core.terminal import (
    STYLES,
    console,
    escape_controls,
    plural,
    rich_text,
    truncate,
    unfamiliar_records_warning,
)
from agent.detectors.neighbours import SAME
from agent.detectors.novelty import mostly_unfamiliar

# bars of the chart; reasons for missing signals; times on its axis
_BARS, _REASONS, _TICKS = 120, 3, 5
# lines of a terminal that a template takes, and all else
_LINES_PER_ROW, _LINES_AROUND = 6, 10
_TEXT_CHARS, _REASON_CHARS, _ID_CHARS = 160, 200, 33


def write_screen(summary: Summary, stream: Any = None) -> None:
    """Write the summary, the anomalous templates with most records first, to ``stream`` or standard error."""
    from rich.table import Table

    stream = stream or sys.stderr
    screen = console(stream)
    shown = ON_SCREEN
    if stream.isatty():
        shown = min(shown, max(2, (screen.height - _LINES_AROUND) // _LINES_PER_ROW))
    for label in ("anomalous", "unsure"):
        groups = summary.ranked(label)
        if not groups:
            continue
        table = Table(expand=screen.is_terminal, pad_edge=False)
        for name, ratio in (("records", 2), ("p", 1), ("first seen", 5), ("last seen", 5), (f"{label}, and why", 14)):
            table.add_column(name, ratio=ratio, overflow="fold")
        # an id can be copied from one line
        table.columns[-1].min_width = _ID_CHARS
        for group in groups[: shown if label == "anomalous" else max(1, shown // 4)]:
            text = rich_text(truncate(group.verdict.record.text, _TEXT_CHARS), STYLES[label])
            reasons = filter(None, (group.decides, why(group), group.verdict_id))
            text.append("".join(f"\n{escape_controls(reason)}" for reason in reasons), style="dim")
            cells = f"{group.count:,}", f"{group.verdict.probability:.2f}", str(group.first), str(group.last)
            table.add_row(*(rich_text(cell) for cell in cells), text)
        screen.print(table)
        if len(groups) > len(table.rows):
            screen.print(plural(len(groups) - len(table.rows), f"more {label} template"))
    screen.print(rich_text(summary.to_line()), soft_wrap=True)
    if mostly_unfamiliar(summary.far, summary.records):
        screen.print(
            rich_text(unfamiliar_records_warning(summary.source, summary.far, summary.records), "yellow"),
            soft_wrap=True,
        )
    if summary.rate_note:
        screen.print(rich_text(summary.rate_note, "yellow"), soft_wrap=True)
    if summary.degraded:
        screen.print(rich_text(missing_signals(summary), "yellow"), soft_wrap=True)
    if summary.blank:
        screen.print(f"{plural(summary.blank, 'blank line')} skipped")


def write_report(summary: Summary, path: Path) -> None:
    """Write the summary as one HTML page, with a chart in the order of the input.

    Raises
    ------
    UsageError
        The page cannot be written.
    """
    bars = merge_spans(summary.spans, _BARS)
    groups = {label: summary.ranked(label) for label in ("anomalous", "unsure")}
    write_page(
        Path(__file__).with_name("report.html.j2"),
        path,
        summary=summary,
        groups={label: ranked[:ON_PAGE] for label, ranked in groups.items()},
        more={label: max(0, len(ranked) - ON_PAGE) for label, ranked in groups.items()},
        bars=bars,
        charts=list(summary.charts.values()),
        ticks=_ticks(bars),
        most=max((sum(bar.counts[label] for label in ("anomalous", "unsure")) for bar in bars), default=0) or 1,
        why=why,
        missing_signals=missing_signals(summary),
        plural=plural,
    )


def _ticks(bars: Sequence[Span]) -> list[str]:
    """Times under the chart, at equal distances; none where records have none."""
    count = min(_TICKS, len(bars))
    places = [round(number * (len(bars) - 1) / max(1, count - 1)) for number in range(count)]
    times = [bars[place].start.time or "" for place in places]
    return times if any(times) else []


def missing_signals(summary: Summary) -> str:
    """How many records lack a signal, and the most frequent reasons."""
    ranked = sorted(summary.lacking.items(), key=lambda item: -item[1])
    reasons = "; ".join(f"{reason} ({count:,})" for reason, count in ranked[:_REASONS])
    more = f"; and {plural(len(ranked) - _REASONS, 'other reason')}" if len(ranked) > _REASONS else ""
    return f"{plural(summary.degraded, 'record')} with a degraded verdict: {escape_controls(reasons)}{more}"


def why(group: Group) -> str:
    """The first two facts of a group's verdict."""
    if not isinstance(group.verdict, Verdict):
        return ""
    reason = "; ".join(group.verdict.facts[:2])
    if group.count > 1:
        reason = reason.replace(SAME, "exactly the first of these records")
    return truncate(reason, _REASON_CHARS)


def merge_spans(spans: list[Span], max_spans: int) -> list[Span]:
    """Merge neighbours until there are at most ``max_spans``."""
    size = max(1, -(-len(spans) // max_spans))
    parts = [spans[start : start + size] for start in range(0, len(spans), size)]
    return [
        Span(start=part[0].start, counts={label: sum(span.counts[label] for span in part) for label in VERDICT_LABELS})
        for part in parts
    ]
