"""The dialog that imports cases: a labelled file, how it is read, and then learned into the source."""

from __future__ import annotations

from collections.abc import Callable

from nicegui import events, ui

from agent.api.console.elements import for_role, notify_error, server, text
from agent.api.console.i18n import _
from agent.api.console.intake import file_button
from agent.api.console.jobs import Upload
from agent.api.console.label_choice import LabelChoice, Learning
from agent.api.console.reading_view import show_learned
from agent.api.console.source_form import reading_of
from agent.core.access import Role
from agent.core.errors import EXPECTED, describe


class CaseImport:
    """The dialog.

    Parameters
    ----------
    source : str
        Where the cases go.
    on_imported : callable
        Called when cases were added.
    """

    def __init__(self, source: str, on_imported: Callable[[], None]) -> None:
        self._source, self._on_imported = source, on_imported
        self._choice: LabelChoice | None = None
        title = f"{_('Import cases into')} {source}"
        # persistent: a click beside it must not end an import
        with (
            ui.dialog().props(f'persistent aria-label="{title}"') as self._dialog,
            ui.card().classes("dialog wide-dialog"),
        ):
            with ui.element("div").classes("panel-head"):
                text("h2", title)
                close = ui.button(icon="close", on_click=self._dialog.close).props("flat dense round size=sm")
                close.props(f'aria-label="{_("Close")}"')
            with ui.element("div").classes("actions").props("data-drop"):
                file_button(_("Choose a labelled file"))
                text("span", _("Logs, CSV, JSON, Parquet, also compressed; up to 100 MB"), "faint")
            text("p", "", "faint").props('data-upload-status role="status"')
            self._box = ui.element("div").classes("source-form")
        ui.on("uploaded", self._on_upload)

    def open(self) -> None:
        """Show the dialog, empty."""
        self._box.clear()
        self._dialog.open()

    async def _on_upload(self, event: events.GenericEventArguments) -> None:
        sent = event.args if isinstance(event.args, dict) else {}
        upload = server().jobs.upload(str(sent.get("upload", "")))
        if upload is not None:
            self._dialog.open()
            await self._show(upload)

    async def _show(self, upload: Upload) -> None:
        self._box.clear()
        with self._box:
            text("p", upload.name, "strong")
            without = _("no column: all its records are normal")
            self._choice = choice = LabelChoice(upload, reading_of(self._source), without, lambda: self._enable())
            with ui.element("div").classes("actions"):
                self._learn = ui.button(_("Import"), on_click=lambda: self._import(upload, choice))
                self._learn.props("unelevated no-caps").mark("import-cases")
            self._learning = Learning()
            self._enable()
            await choice.draw()

    def _enable(self) -> None:
        self._learn.set_enabled(self._choice is not None and self._choice.is_complete)
        for_role(self._learn, Role.ADMIN)

    async def _import(self, upload: Upload, choice: LabelChoice) -> None:
        self._learn.disable()
        try:
            is_normal = choice.label is None
            result = await self._learning.run(upload, self._source, choice.options, all_normal=is_normal)
        except EXPECTED as error:
            notify_error(upload.without_folder(describe(error)))
            self._enable()
            return
        self._box.clear()
        with self._box, ui.element("div").classes("note good").props('role="status"'):
            show_learned(result)
        self._on_imported()
