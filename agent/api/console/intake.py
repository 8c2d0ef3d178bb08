"""Where data comes in: the form to paste records or to drop a file."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from nicegui import ui

from agent.api.bodies import UPLOAD_BYTES
from agent.api.console.elements import notify_error, server, text
from agent.api.console.i18n import _
from agent.api.console.jobs import Upload
from agent.core.errors import PrecedentError
from agent.core.writing import writing

_PASTED = "pasted.txt"


def file_button(name: str) -> None:
    """The button that chooses a file to upload; one that is too large is refused before it is sent."""
    too_large = _("is larger than {limit} MB, the most that the console takes; the command takes any file: {command}")
    message = too_large.format(limit=UPLOAD_BYTES >> 20, command="precedent judge FILE --source NAME")
    with ui.element("label").classes("file-button"):
        text("span", name)
        chooser = ui.element("input").props(f'type="file" data-upload data-limit={UPLOAD_BYTES}')
        chooser.props(f'data-too-large="{message}"').classes("visually-hidden")


def data_form(on_pasted: Callable[[str], object]) -> None:
    """Where to paste records or drop a file; `uploaded` is emitted for a file."""
    with ui.element("div").classes("drop").props("data-drop"):
        area = ui.textarea(placeholder=_("Paste records here, one a line, or drop a file anywhere on this page"))
        area.props(f'outlined input-class="paste" aria-label="{_("Records")}"').classes("full").mark("records")
        with ui.element("div").classes("actions"):
            ui.button(_("Go on"), on_click=lambda: on_pasted(area.value or "")).props("unelevated no-caps").mark(
                "go-on"
            )
            file_button(_("Choose a file"))
            text("span", _("Logs, CSV, JSON, Parquet, also compressed; up to 100 MB"), "faint")
        text("p", "", "faint").props('data-upload-status role="status"')


async def store_pasted(pasted: str) -> Upload | None:
    """What was pasted as an upload; None, and a notice, if it is nothing."""
    if not pasted.strip():
        notify_error(_("Paste one or more records first."))
        return None
    try:
        upload = server().jobs.new_upload(_PASTED)
        with writing(upload.path):
            await asyncio.to_thread(upload.path.write_text, pasted, encoding="utf-8", errors="replace")
        server().jobs.add_upload(upload)
    except PrecedentError as error:
        notify_error(str(error))
        return None
    return upload
