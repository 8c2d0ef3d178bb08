"""The summary of a bulk run for people: one screen, and a page that needs nothing else."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from agent.bulk.summary import LABELS, Group, Span, Summary
from agent.core.errors import UsageError
from agent.core.terminal import STYLES, escape_controls, rich_text, truncate, unfamiliar_records_warning
from agent.detectors.neighbours import SAME
from agent.detectors.novelty import mostly_unfamiliar

_SHOWN, _ON_PAGE, _BARS = 12, 200, 120
# lines of the screen that a group takes, and the rest; reasons shown
_LINES, _AROUND, _REASONS = 6, 10, 3
_TEXT, _WHY = 160, 200


def screen(summary: Summary, stream: Any = None) -> None:
    """What was found, the anomalous templates with most records first; on standard error unless told otherwise."""
    from rich.console import Console
    from rich.table import Table

    stream = stream or sys.stderr
    console = Console(file=stream, highlight=False, width=None if stream.isatty() else 160)
    shown = min(_SHOWN, max(2, (console.height - _AROUND) // _LINES)) if stream.isatty() else _SHOWN
    for label in ("anomalous", "unsure"):
        groups = summary.ranked(label)
        if not groups:
            continue
        table = Table(expand=True, pad_edge=False)
        for name, ratio in (("records", 2), ("p", 1), ("first seen", 5), ("last seen", 5), (f"{label}, and why", 14)):
            table.add_column(name, ratio=ratio, overflow="fold")
        for group in groups[: shown if label == "anomalous" else max(1, shown // 4)]:
            said = rich_text(truncate(group.verdict.record.text, _TEXT), STYLES[label])
            said.append(f"\n{escape_controls(why(group))}\n{group.verdict.id}", style="dim")
            cells = f"{group.count:,}", f"{group.verdict.probability:.2f}", str(group.first), str(group.last)
            table.add_row(*(rich_text(cell) for cell in cells), said)
        console.print(table)
        if len(groups) > len(table.rows):
            console.print(f"{len(groups) - len(table.rows):,} more {label} templates")
    console.print(rich_text(summary.told()), soft_wrap=True)
    if mostly_unfamiliar(summary.far, summary.records):
        console.print(
            rich_text(unfamiliar_records_warning(summary.source, summary.far, summary.records), "yellow"),
            soft_wrap=True,
        )
    if summary.degraded:
        console.print(rich_text(lacking(summary), "yellow"), soft_wrap=True)
    if summary.blank:
        console.print(f"{summary.blank:,} blank lines are no records")


def page(summary: Summary, path: Path) -> None:
    """Write the summary as one HTML page, with a chart over the input's order.

    Raises:
        UsageError: it cannot be written.
    """
    from jinja2 import Environment, StrictUndefined

    template = Path(__file__).with_name("report.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    bars = together(summary.spans, _BARS)
    groups = {label: summary.ranked(label) for label in ("anomalous", "unsure")}
    said = environment.from_string(template).render(
        summary=summary,
        groups={label: some[:_ON_PAGE] for label, some in groups.items()},
        more={label: max(0, len(some) - _ON_PAGE) for label, some in groups.items()},
        bars=bars,
        most=max((sum(bar.counts[label] for label in ("anomalous", "unsure")) for bar in bars), default=0) or 1,
        why=why,
        lacking=lacking(summary),
    )
    try:
        path.write_text(said, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error


def lacking(summary: Summary) -> str:
    """How many records lack a witness, and the commonest reasons."""
    reasons = sorted(summary.lacking.items(), key=lambda one: -one[1])
    said = "; ".join(f"{reason} ({count:,})" for reason, count in reasons[:_REASONS])
    return f"{summary.degraded:,} records have verdicts that lack a witness: {escape_controls(said)}"


def why(group: Group) -> str:
    """The first two facts of a group's verdict."""
    facts = group.verdict.facts
    said = "; ".join(facts[:2])
    return truncate(said.replace(SAME, "exactly the first of these records") if group.count > 1 else said, _WHY)


def together(spans: list[Span], most: int) -> list[Span]:
    """At most so many spans, neighbours put together."""
    size = max(1, -(-len(spans) // most))
    parts = [spans[start : start + size] for start in range(0, len(spans), size)]
    return [
        Span(start=part[0].start, counts={label: sum(one.counts[label] for one in part) for label in LABELS})
        for part in parts
    ]
