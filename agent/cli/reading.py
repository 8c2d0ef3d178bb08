"""What `learn` prints of the files that it read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.core.records import LABELS
from agent.core.terminal import plural, print_line, truncate

if TYPE_CHECKING:
    from agent.training.reading_report import ReadingReport

_MAX_COLUMNS, _MAX_REMARKS, _MAX_VALUES, _MAX_CHARS = 40, 20, 8, 160


def reading_report(report: ReadingReport) -> None:
    """Print records, columns, what is left out and why, what looks odd, and the first records as models see them."""
    values = ", ".join(f"{value} ({count:,})" for value, count in report.label_values.most_common(_MAX_VALUES))
    counts = ", ".join(f"{report.labels[label]:,} {label}" for label in LABELS)
    kind = f", {plural(report.sessions, 'session')}" if report.sessions else ""
    labels = f"{counts}; label values: {values}" if report.options.is_labelled else "all of them normal, as named"
    print_line(f"{plural(report.records, 'record')} read{kind}: {labels}")
    if report.unreadable:
        print_line(f"{plural(report.unreadable, 'row')} could not be read, the first: {report.errors[0]}", "yellow")
    if report.table is not None:
        _columns(report)
        for remark in report.table.remarks[:_MAX_REMARKS]:
            print_line(f"odd: {remark}", "yellow")
    for label, record in report.preview:
        begins = f"{label}: " if label else ""
        print_line(begins + truncate(" ".join(record.text.split()), _MAX_CHARS), "dim")


def _columns(report: ReadingReport) -> None:
    assert report.table is not None
    schema, distinct = report.table.schema, report.table.distinct
    for column in schema.columns[:_MAX_COLUMNS]:
        values = distinct[column.name]
        count = "many" if values is None else f"{values:,}"
        details = [] if column.type == "number" else [f"{count} values"]
        if column.notation:
            details.append(f"written as {column.notation}")
        if column.filled < 1:
            details.append(f"empty in {1 - column.filled:.1%} of the records")
        print_line(
            f"  {column.name}: {column.type}" + "".join(f", {detail}" for detail in details if column.type != "empty")
        )
    if (more := len(schema.columns) - _MAX_COLUMNS) > 0:
        print_line(f"  and {plural(more, 'more column')}")
    for name, why in schema.left_out.items():
        print_line(f"  left out: column {name!r}, {why} (--text with the columns to keep takes it in)")
