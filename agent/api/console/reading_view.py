"""What reading a file found, as a part of a page: the console's form of what `learn` prints."""

from __future__ import annotations

from nicegui import ui

from agent.api.console.elements import text
from agent.api.console.i18n import _
from agent.core.terminal import plural, truncate
from agent.training.learn import LearnResult
from agent.training.reading_report import ReadingReport
from retrieval.types import LABELS

_COLUMNS, _REMARKS, _VALUES, _CHARS = 40, 10, 8, 300


def show_reading(report: ReadingReport) -> None:
    """Show records, columns, what is left out and why, what looks odd, and the first records as the models see them."""
    kind = f", {plural(report.sessions, 'session')}" if report.sessions else ""
    text("p", f"{plural(report.records, 'record')} {_('read')}{kind}", "strong")
    if any(report.labels[label] for label in LABELS):
        counts = ", ".join(f"{report.labels[label]:,} {_(label)}" for label in LABELS)
        values = ", ".join(f"{value} ({count:,})" for value, count in report.label_values.most_common(_VALUES))
        text("p", f"{counts}; {_('label values')}: {truncate(values, _CHARS)}")
    if report.unreadable:
        rows = plural(report.unreadable, "row")
        text("p", f"{rows} {_('could not be read, the first')}: {report.errors[0]}", "note warn")
    if report.table is not None:
        _columns(report)
    if not report.preview:
        return
    text("p", _("The first records, as the models see them"), "strong")
    with ui.element("ol").classes("preview"):
        for label, record in report.preview:
            with ui.element("li"):
                if label:
                    text("span", _(label), f"tag {label}")
                text("code", truncate(" ".join(record.text.split()) or str(record.fields), _CHARS))


def show_learned(result: LearnResult) -> None:
    """Show what became of a file's records, and what is worth knowing of them."""
    line = f"{result.source}: {plural(result.added, _('new case'))}"
    if known := result.read - result.added - result.relabelled:
        line += f", {known:,} {_('known already')}"
    if result.relabelled:
        line += f", {result.relabelled:,} {_('with another label than before')}"
    text("p", line, "strong")
    if result.unreadable:
        text("p", f"{plural(len(result.unreadable), 'row')} {_('could not be read, the first')}:")
    remarks = [*map(str, result.unreadable[:3]), *result.case_notes, result.language_note]
    remarks += [f"{_('brief')}: {result.brief}" if result.brief else None]
    if result.language_missing:
        remarks.append(f"{_('Learned without the language model')}: {result.language_missing}")
    for remark in filter(None, remarks):
        text("p", remark)


def _columns(report: ReadingReport) -> None:
    assert report.table is not None
    schema, distinct = report.table.schema, report.table.distinct
    with ui.element("details"):
        text("summary", plural(len(schema.columns), "column"))
        with ui.element("ul").classes("columns"):
            for column in schema.columns[:_COLUMNS]:
                values = distinct[column.name]
                details = [] if column.type == "number" else [f"{'many' if values is None else f'{values:,}'} values"]
                details += [f"written as {column.notation}"] if column.notation else []
                details += [f"empty in {1 - column.filled:.1%}"] if column.filled < 1 else []
                with ui.element("li"):
                    text("code", column.name)
                    text("span", f" {column.type}" + "".join(f", {detail}" for detail in details))
            if (more := len(schema.columns) - _COLUMNS) > 0:
                text("li", f"and {plural(more, 'more column')}")
    for name, why in schema.left_out.items():
        text("p", f"{_('left out')}: {name!r}, {why}", "faint")
    for remark in report.table.remarks[:_REMARKS]:
        text("p", f"{_('odd')}: {remark}", "note warn")
