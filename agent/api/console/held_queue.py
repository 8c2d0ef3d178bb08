"""Corrections that wait for a second person, each confirmed or rejected by a click."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from nicegui import ui

from agent.api.console.elements import for_role, notify_error, server, text
from agent.api.console.i18n import _
from agent.core.access import Role
from agent.core.errors import EXPECTED, describe
from agent.core.terminal import truncate
from agent.pipeline.context import AppContext
from agent.training.feedback import refit_source_if_due
from agent.training.held_corrections import confirm_held, list_held, reject_held
from agent.training.opposing_corrections import HeldView

_BY, _SHOWN, _TEXT = "console", 20, 240


def notify_held(held: HeldView) -> None:
    """Say that a correction waits, and why."""
    sentence = _("It waits as {held} for a second person, without effect: {reason}.")
    ui.notify(sentence.format(held=held.held_id, reason=held.reason), type="warning", timeout=6000)


class HeldQueue:
    """The corrections of a source that wait, oldest first."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._box = ui.element("div").classes("queue").mark("held")

    async def load(self) -> None:
        """Read them anew."""
        page = await asyncio.to_thread(list_held, server().context, self._source, _SHOWN)
        self._box.clear()
        with self._box:
            if not page.held:
                text("p", _("No correction waits."), "faint")
            for held in page.held:
                self._row(held)
            if page.total > len(page.held):
                text("p", _("and {n} more").format(n=f"{page.total - len(page.held):,}"), "faint")

    def _row(self, held: HeldView) -> None:
        with ui.element("div").classes("queue-row"):
            with ui.element("div").classes("queue-text"):
                record = held.record
                shown = truncate(record.text or str(record.fields), _TEXT) if record else _("not stored any more")
                text("code", shown)
                labels = f"{_(held.label_before or 'no case')} → {_(held.label)}"
                text("span", f"{held.held_id}, {labels}, {held.held_by}: {held.reason}", "faint")
            for name, decide in ((_("Confirm"), confirm_held), (_("Reject"), reject_held)):
                button = ui.button(name, on_click=partial(self._decide, decide, held.held_id))
                for_role(button.props("outline dense no-caps"), Role.CORRECT)

    async def _decide(self, decide: Callable[[AppContext, str, str], HeldView], held_id: str) -> None:
        context = server().context
        try:
            await asyncio.to_thread(decide, context, held_id, _BY)
        except EXPECTED as error:
            notify_error(describe(error))
            return
        await self.load()
        await asyncio.to_thread(refit_source_if_due, context, self._source)
