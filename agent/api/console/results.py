"""The verdicts of a run: counts, search, the table, exports."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

from nicegui import events, ui

from agent.api.console.elements import notify_error, server, text
from agent.api.console.i18n import _
from agent.api.console.jobs import LISTED, Job
from agent.api.console.paged_grid import WITHOUT_TIME, PagedGrid, whole_switch
from agent.api.console.verdict_panel import VerdictPanel
from agent.core.errors import EXPECTED, describe
from agent.core.records import Verdict
from agent.core.requests import JudgeRequest
from agent.core.terminal import plural

_ORDER = ("anomalous", "unsure", "normal")
_SECONDARY = {"line": True, "why": True}
_EXPORTS = (("jsonl", "JSONL"), ("csv", "CSV"), ("html", "HTML"))


class Results:
    """The table of a run and the panel beside it."""

    def __init__(self, job: Job, judge_again: Callable[[], object], start_over: Callable[[], object]) -> None:
        self._job = job
        self._labels: set[str] = set()
        self._search = ""
        self._row: int | None = None
        self._row_of: dict[str, int] = {}
        self._buttons: dict[str, ui.button] = {}
        summary = job.summary
        assert summary is not None
        with ui.element("div").classes("toolbar"):
            self._counts()
            search = ui.input(placeholder=_("Search"), on_change=self._on_search).props("dense outlined clearable")
            search.props(f'debounce=250 aria-label="{_("Search the records")}"').classes("search")
            ui.space()
            self._tools = ui.element("div")
            ui.button(_("Judge again"), on_click=judge_again).props("flat dense no-caps")
            ui.button(_("Other data"), on_click=start_over).props("flat dense no-caps")
            with ui.element("div").classes("exports").props(f'role="group" aria-label="{_("Export")}"'):
                for kind, name in _EXPORTS:
                    link = text("a", name, "export")
                    link.props(f'href="/console/jobs/{job.id}/verdicts.{kind}" download')
        self._remarks()
        with ui.element("div").classes("split"):
            self._grid = self._table()
            self._panel = VerdictPanel(self._on_corrected)
        with self._tools:
            whole_switch(self._grid)
        ui.keyboard(on_key=self._panel.on_key, ignore=["input", "select", "textarea"])

    def _counts(self) -> None:
        summary = self._job.summary
        assert summary is not None
        with ui.element("div").classes("counts").props(f'role="group" aria-label="{_("Filter by label")}"'):
            for label in _ORDER:
                button = ui.button(on_click=lambda label=label: self._toggle(label)).props("flat dense no-caps")
                button.classes(f"count {label}").props('aria-pressed="false"')
                button.mark(f"count-{label}")
                with button:
                    text("strong", f"{summary.counts[label]:,}")
                    text("span", _(label))
                self._buttons[label] = button
                if label not in self._job.listed:
                    button.disable()

    def _remarks(self) -> None:
        job, summary = self._job, self._job.summary
        assert summary is not None
        line = f"{job.upload.name} · {_('source')} {job.source} · {summary.to_line()}"
        text("p", line, "faint run-line")
        if len(job.listed) < len(_ORDER):
            note = _("The file has more than {n} lines: its normal records are counted and not listed.")
            text("p", note.format(n=f"{LISTED:,}"), "note")
        if job.note:
            text("p", job.note, "note")
        if job.failed:
            text("p", f"{plural(job.failed, 'record')} {_('could not be judged')}", "note warn")
        if job.failures:
            with ui.element("details").classes("fields"):
                text("summary", _("Remarks on reading and judging"))
                for failure in job.failures:
                    text("p", failure)

    def _table(self) -> PagedGrid:
        names = json.dumps({name: _(name) for name in _ORDER})
        corrected = "names[p.value] + ' → ' + names[p.data.corrected]"
        label = (
            f"p => {{ const names = {names}; return !p.data ? '' : p.data.corrected ? {corrected} : names[p.value] }}"
        )
        columns = [
            {"field": "line", "headerName": _("line"), "width": 70, "type": "rightAligned"},
            {
                "field": "label",
                "headerName": _("label"),
                "width": 108,
                ":valueFormatter": label,
                ":cellClass": "p => 'cell-' + (p.data && (p.data.corrected || p.data.label))",
            },
            {
                "field": "probability",
                "headerName": _("anomaly"),
                "width": 88,
                "type": "rightAligned",
                ":valueFormatter": "p => p.value == null ? '' : (100 * p.value).toFixed(p.value < 0.1 ? 1 : 0) + ' %'",
            },
            {
                "field": "text",
                "headerName": _("record"),
                "flex": 4,
                "minWidth": 150,
                "cellClass": "cell-text",
                ":valueFormatter": WITHOUT_TIME,
            },
            {"field": "why", "headerName": _("why"), "flex": 2, "minWidth": 110, "cellClass": "cell-why"},
        ]
        return PagedGrid(f"/console/jobs/{self._job.id}/rows", columns, "row", self._on_row, secondary=_SECONDARY)

    def _refresh(self) -> None:
        self._grid.show({"labels": ",".join(sorted(self._labels)), "search": self._search})

    def _on_search(self, event: events.ValueChangeEventArguments[str | None]) -> None:
        self._search = event.value or ""
        self._refresh()

    def _toggle(self, label: str) -> None:
        self._labels ^= {label}
        for name in _ORDER:
            pressed = "true" if name in self._labels else "false"
            self._buttons[name].props(f'aria-pressed="{pressed}"')
        self._refresh()

    async def _on_row(self, row: object) -> None:
        if not isinstance(row, int) or row == self._row:
            return
        self._row = row
        try:
            verdict = await asyncio.to_thread(self._job.verdict, row)
        except IndexError:
            return
        if not verdict.explanation:
            verdict = await self._with_facts(verdict)
        if self._row == row:
            self._row_of[verdict.id] = row
            self._panel.show(verdict, self._job.corrected.get(row))

    async def _with_facts(self, verdict: Verdict) -> Verdict:
        """The verdict with its facts, if the record is still judged so."""
        request = JudgeRequest.about(verdict.record, verdict.source)
        try:
            again = (await server().batcher.judge([request]))[0]
        except EXPECTED as error:
            notify_error(describe(error))
            return verdict
        return again if again.id == verdict.id else verdict

    def _on_corrected(self, verdict: Verdict, label: str | None) -> None:
        row = self._row_of[verdict.id]
        if label is None:
            self._job.corrected.pop(row, None)
        else:
            self._job.corrected[row] = label
        self._grid.reload()
