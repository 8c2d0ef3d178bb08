"""A table whose rows come from the server as they are scrolled to, for any number of rows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import urlencode

from nicegui import events, ui

# the time that a record begins with, which a cell leaves out; the panel shows it
_LEADING_TIME = (
    r"/^(\d{4}[-\/]\d\d[-\/]\d\d[T ]\d\d:\d\d:\d\d([.,]\d+)?( ?(UTC|GMT|Z|[+-]\d\d:?\d\d))?|"
    r"[A-Z][a-z]{2} +\d{1,2} \d\d:\d\d:\d\d)\s+(?=\S)/"
)
WITHOUT_TIME = f"p => (p.value || '').replace({_LEADING_TIME}, '')"
_ROWS_A_REQUEST, _REQUESTS_KEPT = 200, 30


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
    """

    def __init__(
        self,
        address: str,
        columns: Sequence[dict[str, Any]],
        key: str,
        on_row: Callable[[Any], Awaitable[None]],
        query: dict[str, str] | None = None,
    ) -> None:
        self._address, self._on_row = address, on_row
        options = {
            "columnDefs": list(columns),
            "defaultColDef": {"sortable": True, "resizable": True, "suppressMovable": True},
            "rowModelType": "infinite",
            "cacheBlockSize": _ROWS_A_REQUEST,
            "maxBlocksInCache": _REQUESTS_KEPT,
            "rowHeight": 30,
            "headerHeight": 34,
            ":getRowId": f"p => String(p.data.{key})",
            "rowSelection": {"mode": "singleRow", "checkboxes": False, "enableClickSelection": True},
            "datasource": self._datasource(query or {}),
        }
        self.element = ui.aggrid(options, theme="quartz", auto_size_columns=False).classes("grid")
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

    def show(self, query: dict[str, str]) -> None:
        """Show the rows of another query."""
        self.element.run_grid_method("setGridOption", "datasource", self._datasource(query))

    def reload(self) -> None:
        """Fetch the shown rows again."""
        self.element.run_grid_method("refreshInfiniteCache")
