"""The page *Casebook*: all cases of a source, found by word or by meaning, changed one by one, and as a map."""

from __future__ import annotations

import asyncio
import json
from urllib.parse import quote

from nicegui import events, ui

from agent.api.console.case_import import CaseImport
from agent.api.console.case_panel import CasePanel
from agent.api.console.case_search import Point, case_map, searches_by_meaning
from agent.api.console.elements import notify_error, server, show_no_source, text
from agent.api.console.frame import page_frame
from agent.api.console.i18n import _
from agent.api.console.paged_grid import WITHOUT_TIME, PagedGrid, whole_switch
from agent.core.errors import EXPECTED, describe
from retrieval.types import LABELS

_SECONDARY = {"case_id": True, "given_by": True, "given_at": True, "similarity": False}
_COLOURS = {"normal": "#2f9e76", "anomalous": "#d9573f"}


def casebook_page(source: str = "", search: str = "") -> None:
    """Show the cases of a source."""
    with page_frame(_("Casebook")):
        names = server().context.casebook.names()
        if not names:
            show_no_source()
            return
        CasebookView(names, source if source in names else names[0], search)


class CasebookView:
    """The table of cases, the map, and the panel of one case."""

    def __init__(self, names: list[str], source: str, search: str) -> None:
        self._source, self._search, self._label, self._mode = source, search, "", "word"
        with ui.element("div").classes("toolbar"):
            chosen = ui.select(names, value=source, label=_("Source")).props("outlined dense options-dense")
            chosen.on_value_change(lambda event: ui.navigate.to(f"/casebook?source={quote(event.value)}"))
            box = ui.input(placeholder=_("Search"), value=search, on_change=self._on_search)
            box.props(f'dense outlined clearable debounce=300 aria-label="{_("Search the cases")}"').classes("search")
            modes = {"word": _("by word")}
            if searches_by_meaning(server().context, source):
                modes["meaning"] = _("by meaning")
            mode = ui.toggle(modes, value="word", on_change=self._on_mode).props("dense no-caps unelevated")
            mode.props(f'role="group" aria-label="{_("Search by")}"')
            labels = {"": _("all"), **{label: _(label) for label in LABELS}}
            label = ui.toggle(labels, value="", on_change=self._on_label).props("dense no-caps unelevated")
            label.props(f'role="group" aria-label="{_("Filter by label")}"')
            ui.space()
            self._tools = ui.element("div")
            ui.button(_("Map"), icon="scatter_plot", on_click=self._show_map).props("flat dense no-caps")
            imports = CaseImport(source, self._on_imported)
            ui.button(_("Import cases"), icon="upload_file", on_click=imports.open).props("flat dense no-caps")
        self._counts = text("p", "", "faint run-line")
        self._show_counts()
        with ui.element("div").classes("split"):
            self._grid = self._table()
            self._panel = CasePanel(self._on_changed)
        with self._tools:
            whole_switch(self._grid)
        ui.keyboard(on_key=self._panel.on_key, ignore=["input", "select", "textarea"])
        self._dialog = ui.dialog().props(f'maximized aria-label="{_("Map of the cases")}"')

    def _show_counts(self) -> None:
        # within it, because what called this may be gone from the page
        with self._counts:
            counts = server().context.source(self._source).counts
            self._counts.set_text(f"{counts['normal']:,} {_('normal')}, {counts['anomalous']:,} {_('anomalous')}")

    def _on_imported(self) -> None:
        self._show_counts()
        self._grid.show(self._query())

    def _on_changed(self) -> None:
        self._show_counts()
        self._grid.reload()

    def _table(self) -> PagedGrid:
        names = json.dumps({label: _(label) for label in LABELS})
        columns = [
            {"field": "case_id", "headerName": _("case"), "width": 74, "sortable": False},
            {
                "field": "label",
                "headerName": _("label"),
                "width": 104,
                "sortable": False,
                ":cellClass": "p => 'cell-' + (p.data && p.data.label)",
                ":valueFormatter": f"p => ({names})[p.value] || ''",
            },
            {
                "field": "text",
                "headerName": _("record"),
                "flex": 4,
                "minWidth": 150,
                "cellClass": "cell-text",
                ":valueFormatter": WITHOUT_TIME,
                "sortable": False,
            },
            {"field": "given_by", "headerName": _("by"), "width": 104, "sortable": False, "cellClass": "cell-why"},
            {"field": "given_at", "headerName": _("when"), "width": 124, "sortable": False, "cellClass": "cell-why"},
            {
                "field": "similarity",
                "hide": True,
                "headerName": _("similarity"),
                "width": 92,
                "sortable": False,
                "type": "rightAligned",
                ":valueFormatter": "p => p.value == null ? '' : p.value.toFixed(2)",
            },
        ]
        return PagedGrid("/console/cases", columns, "case_id", self._on_row, self._query(), _SECONDARY)

    def _query(self) -> dict[str, str]:
        return {"source": self._source, "search": self._search, "label": self._label, "mode": self._mode}

    def _on_search(self, event: events.ValueChangeEventArguments[str | None]) -> None:
        self._search = event.value or ""
        self._grid.show(self._query())

    def _on_mode(self, event: events.ValueChangeEventArguments[str | None]) -> None:
        self._mode = event.value or "word"
        self._grid.show_column("similarity", self._mode == "meaning")
        self._grid.show(self._query())

    def _on_label(self, event: events.ValueChangeEventArguments[str | None]) -> None:
        self._label = event.value or ""
        self._grid.show(self._query())

    async def _on_row(self, case_id: object) -> None:
        await self._panel.open(str(case_id))

    async def _show_map(self) -> None:
        try:
            points = await asyncio.to_thread(case_map, server().context, self._source)
        except EXPECTED as error:
            notify_error(describe(error))
            return
        self._dialog.clear()
        with self._dialog, ui.card().classes("map-card"):
            with ui.element("div").classes("panel-head"):
                text("h2", f"{_('Map of the cases')}: {self._source}")
                close = ui.button(icon="close", on_click=self._dialog.close).props("flat dense round")
                close.props(f'aria-label="{_("Close")}"')
            note = _("Each point is a template; near points are similar. Choose a point to open its case.")
            text("p", note if points else _("There are too few cases for a map."), "faint")
            if points:
                self._chart(points)
        self._dialog.open()

    def _chart(self, points: list[Point]) -> None:
        series = [
            {
                "name": _(label),
                "type": "scatter",
                "symbolSize": 8,
                "large": False,
                "itemStyle": {"color": _COLOURS[label], "opacity": 0.75},
                "data": [
                    {"value": [point.x, point.y], "name": point.text, "id": point.case_id}
                    for point in points
                    if point.label == label
                ],
            }
            for label in LABELS
        ]
        axis = {"show": False, "scale": True}
        options = {
            "xAxis": axis,
            "yAxis": axis,
            "grid": {"left": 10, "right": 10, "top": 36, "bottom": 10},
            "legend": {"top": 0, "textStyle": {"color": "#7f8f97"}},
            # as text, because names are texts of records
            "tooltip": {"renderMode": "richText", ":formatter": "p => p.name.replace(/(.{70})/g, '$1\\n')"},
            "dataZoom": [{"type": "inside", "xAxisIndex": 0}, {"type": "inside", "yAxisIndex": 0}],
            "series": series,
        }
        chart = ui.echart(options, on_point_click=self._on_point).classes("map")
        chart.props(f'role="img" aria-label="{_("Map of the cases")}"')

    async def _on_point(self, event: events.EChartPointClickEventArguments) -> None:
        point = event.data
        if isinstance(point, dict) and "id" in point:
            self._dialog.close()
            await self._panel.open(str(point["id"]))
