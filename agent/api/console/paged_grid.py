"""A table whose rows come from the server as they are scrolled to, for any number of rows."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import urlencode

from nicegui import events, ui

from agent.api.console.i18n import _

# the time that a record begins with, which a cell leaves out; the panel shows it
_LEADING_TIME = (
    r"/^(\d{4}[-\/]\d\d[-\/]\d\d[T ]\d\d:\d\d:\d\d([.,]\d+)?( ?(UTC|GMT|Z|[+-]\d\d:?\d\d))?|"
    r"[A-Z][a-z]{2} +\d{1,2} \d\d:\d\d:\d\d)\s+(?=\S)/"
)
WITHOUT_TIME = f"p => (p.value || '').replace({_LEADING_TIME}, '')"
_ROWS_A_REQUEST, _REQUESTS_KEPT = 200, 30
_TOOLTIP_MS = 600
# pixels: the width of a table below which it is a phone's; heights of a row, of one line or of several
_PHONE, _LINE, _PHONE_LINES, _LINES, _MOST_LINES = 560, 30, 62, 110, 160
# fits the rows' heights and the columns to the width, and to whether whole records are shown
_FIT = f"""(api, box, secondary) => {{
    const narrow = box.clientWidth < {_PHONE}, whole = box.classList.contains("whole");
    const height = whole ? (narrow ? {_MOST_LINES} : {_LINES}) : (narrow ? {_PHONE_LINES} : {_LINE});
    for (const [column, wanted] of Object.entries(secondary)) {{
        const shown = wanted && !narrow;
        if (api.getColumn(column).isVisible() !== shown) api.setColumnsVisible([column], shown);
    }}
    if (api.getGridOption("rowHeight") === height) return;
    api.setGridOption("rowHeight", height);
    api.setGridOption("datasource", {{...api.getGridOption("datasource")}});
}}"""


class PagedGrid:
    """The table.

    Parameters
    ----------
    address : str
        Gives the rows as JSON: ``{"rows": […], "total": n}``, from ``start`` to ``end``, in the order of the column
        ``sort``.
    columns : sequence of dict
        Column definitions of AG Grid.
    key : str
        The field that identifies a row.
    on_row : callable
        Called with the key of the row that has the focus.
    query : dict of str to str, optional
        Of the first rows.
    secondary : dict of str to bool, optional
        Columns that a phone leaves out, and whether a wide table shows them.
    """

    def __init__(
        self,
        address: str,
        columns: Sequence[dict[str, Any]],
        key: str,
        on_row: Callable[[Any], Awaitable[None]],
        query: dict[str, str] | None = None,
        secondary: dict[str, bool] | None = None,
    ) -> None:
        self._address, self._on_row = address, on_row
        self._secondary = dict(secondary or {})
        columns = [{**column, "tooltipField": column["field"]} for column in columns]
        options = {
            "columnDefs": columns,
            "defaultColDef": {"sortable": True, "resizable": True, "suppressMovable": True},
            "rowModelType": "infinite",
            "cacheBlockSize": _ROWS_A_REQUEST,
            "maxBlocksInCache": _REQUESTS_KEPT,
            "rowHeight": _LINE,
            "tooltipShowDelay": _TOOLTIP_MS,
            "tooltipHideDelay": 60_000,
            "tooltipInteraction": True,
            "headerHeight": 34,
            ":getRowId": f"p => String(p.data.{key})",
            "rowSelection": {"mode": "singleRow", "checkboxes": False, "enableClickSelection": True},
            "datasource": self._datasource(query or {}),
        }
        self.element = ui.aggrid(options, theme="quartz", auto_size_columns=False).classes("grid")
        self.element.on("gridSizeChanged", js_handler=f"() => {{ {self._fit()} }}")
        picked = f"getElement({self.element.id}).api.getDisplayedRowAtIndex(e.rowIndex)?.data?.{key}"
        self.element.on("cellFocused", self._focused, js_handler=f"(e) => emit({picked})")

    async def _focused(self, event: events.GenericEventArguments) -> None:
        if event.args is not None:
            await self._on_row(event.args)

    def _datasource(self, query: dict[str, str]) -> dict[str, str]:
        address = f"{self._address}?{urlencode(query)}"
        return {
            ":getRows": f"""p => {{
                const order = p.sortModel[0];
                const sort = order ? `&sort=${{order.colId}}&descending=${{order.sort === "desc"}}` : "";
                fetch(`{address}&start=${{p.startRow}}&end=${{p.endRow}}${{sort}}`)
                    .then(r => r.ok ? r.json() : Promise.reject())
                    .then(d => p.successCallback(d.rows, d.total))
                    .catch(() => p.failCallback());
            }}"""
        }

    def _fit(self) -> str:
        element = self.element.id
        return f"({_FIT})(getElement({element}).api, getHtmlElement({element}), {json.dumps(self._secondary)})"

    def show_whole(self, whole: bool) -> None:
        """Whether each record is shown on several lines."""
        self.element.classes(add="whole" if whole else "", remove="" if whole else "whole")
        # after the class has reached the page
        ui.run_javascript(f"await new Promise(resolve => setTimeout(resolve, 60)); {self._fit()}")

    def show_column(self, name: str, shown: bool) -> None:
        """Whether a wide table shows that secondary column."""
        self._secondary[name] = shown
        ui.run_javascript(self._fit())

    def show(self, query: dict[str, str]) -> None:
        """Show the rows of another query."""
        self.element.run_grid_method("setGridOption", "datasource", self._datasource(query))

    def reload(self) -> None:
        """Fetch the shown rows again."""
        self.element.run_grid_method("refreshInfiniteCache")


def whole_switch(grid: PagedGrid) -> None:
    """The button that shows whole records, or one line of each."""

    def press() -> None:
        pressed = button.props["aria-pressed"] != "true"
        button.props(f'aria-pressed="{"true" if pressed else "false"}"')
        grid.show_whole(pressed)

    button = ui.button(icon="wrap_text", on_click=press).props("flat dense round").classes("toggle")
    button.props(f'aria-pressed="false" aria-label="{_("Whole records")}" title="{_("Whole records")}"')
