"""The panel of one case: its record, who labelled it when, and changes: another label, removal, undo."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from nicegui import events, ui

from agent.api.console.elements import confirm, for_role, notify_error, server, text
from agent.api.console.held_queue import notify_held
from agent.api.console.i18n import _
from agent.api.console.verdict_panel import BY
from agent.core.access import Role
from agent.core.errors import EXPECTED, describe
from agent.core.records import Label
from agent.core.terminal import truncate
from agent.training.cases import CaseDetail, ChangeView, delete_case, relabel_case, show_case
from agent.training.feedback import refit_source_if_due, undo_correction

_KEYS: dict[str, Label] = {"n": "normal", "a": "anomalous"}
_TEXT, _SHOWN = 4_000, 60


class CasePanel:
    """A case at a time.

    Parameters
    ----------
    on_changed : callable
        Called when a case has changed.
    """

    def __init__(self, on_changed: Callable[[], None]) -> None:
        self._on_changed = on_changed
        self._case: CaseDetail | None = None
        with ui.element("aside").classes("panel").props(f'aria-label="{_("Case")}" tabindex="0"') as self._box:
            self._hint()

    def _hint(self, removed: str | None = None) -> None:
        with ui.element("div").classes("panel-empty"):
            if removed:
                text("p", f"{removed}: {_('removed from the casebook.')}")
                ui.button(_("Undo"), on_click=lambda: self._undo(removed)).props("outline dense no-caps")
                return
            text("p", _("Choose a case to see who labelled it when, and to change it."))
            with ui.element("dl").classes("keys"):
                for key, meaning in (("n", _("it is normal")), ("a", _("it is anomalous")), ("u", _("undo"))):
                    text("dt", key)
                    text("dd", meaning)

    async def open(self, case_id: str) -> None:
        """Show the case of that id."""
        try:
            case = await asyncio.to_thread(show_case, server().context, case_id)
        except EXPECTED as error:
            notify_error(describe(error))
            return
        self._show(case)

    def close(self, removed: str | None = None) -> None:
        """Show no case; with ``removed`` the one that was removed can be brought back."""
        self._case = None
        self._box.clear()
        self._box.classes(add="open" if removed else "", remove="" if removed else "open")
        with self._box:
            self._hint(removed)

    def _show(self, case: CaseDetail) -> None:
        self._case = case
        self._box.clear()
        self._box.classes("open")
        with self._box:
            with ui.element("div").classes("panel-head"):
                text("h2", f"{case.case_id}: {_(case.label)}", f"headline {case.label}")
                close = ui.button(icon="close", on_click=lambda: self.close()).props("flat dense round size=sm")
                close.props(f'aria-label="{_("Close")}"')
            place = ":".join(str(part) for part in (case.record.file, case.record.line) if part is not None)
            text("p", " · ".join(filter(None, [place, case.record.time, case.source])), "faint")
            self._buttons(case)
            self._record(case)
            self._history(case)

    def _buttons(self, case: CaseDetail) -> None:
        with ui.element("div").classes("correct"):
            for key, label in _KEYS.items():
                button = ui.button(on_click=lambda label=label: self.relabel(label)).props("outline dense no-caps")
                for_role(button, Role.CORRECT)
                button.classes("chosen" if case.label == label else "")
                button.props(f'aria-pressed="{"true" if case.label == label else "false"}"')
                with button:
                    text("span", _("It is normal") if label == "normal" else _("It is anomalous"))
                    text("kbd", key)
            question = _("Remove this case from the casebook?")
            remove = ui.button(_("Remove"), on_click=lambda: confirm(question, _("Remove"), self._remove))
            for_role(remove.props("flat dense no-caps color=negative"), Role.ADMIN)
            if (changed := _newest_change(case)) is not None:
                undo = ui.button(_("Undo"), on_click=lambda: self._undo(changed)).props("flat dense no-caps")
                for_role(undo.mark("undo"), Role.CORRECT)

    @staticmethod
    def _record(case: CaseDetail) -> None:
        record = case.record
        if record.text:
            text("pre", truncate(record.text, _TEXT), "record").props(f'tabindex="0" aria-label="{_("Record")}"')
        if record.fields:
            with ui.element("div").classes("fields"), ui.element("dl"):
                for name, value in list(record.fields.items())[:_SHOWN]:
                    text("dt", truncate(name, 80))
                    text("dd", truncate("" if value is None else str(value), 200))

    @staticmethod
    def _history(case: CaseDetail) -> None:
        text("h3", _("Who labelled it"))
        with ui.element("ul").classes("history"):
            if not case.history or case.history[0].label_before is not None or case.occurrences > 1:
                counted = f", {case.occurrences} ×" if case.occurrences > 1 else ""
                when = f"{case.given_at:%Y-%m-%d %H:%M}" if case.given_at else ""
                text("li", f"{when} {case.given_by}{counted}")
            for change in case.history:
                text("li", _described(change))

    async def relabel(self, label: Label) -> None:
        """Give the case another label."""
        case = self._case
        if case is None or case.label == label:
            return
        context = server().context
        await self._change(lambda: relabel_case(context, case.case_id or "", label, BY), case.source)

    async def _remove(self) -> None:
        case = self._case
        if case is not None:
            removed, context = case.case_id or "", server().context
            await self._change(lambda: delete_case(context, removed, BY), case.source, removed)

    async def _undo(self, changed: str) -> None:
        context = server().context

        def undo() -> CaseDetail:
            change = undo_correction(context, changed, BY)
            return show_case(context, change.case_id)

        await self._change(undo, self._case.source if self._case else None)

    async def _change(self, change: Callable[[], CaseDetail], source: str | None, removed: str | None = None) -> None:
        context = server().context
        try:
            case: Any = await asyncio.to_thread(change)
        except EXPECTED as error:
            notify_error(describe(error))
            return
        if removed:
            self.close(removed)
        else:
            self._show(case)
        if case.held:
            notify_held(case.held)
            return
        self._on_changed()
        await asyncio.to_thread(refit_source_if_due, context, source or case.source)

    async def on_key(self, event: events.KeyEventArguments) -> None:
        """Relabel the case by a key, or close the panel."""
        modified = event.modifiers.ctrl or event.modifiers.alt or event.modifiers.meta
        if not event.action.keydown or event.action.repeat or modified or self._case is None:
            return
        key = event.key.name.lower()
        if key == "escape":
            self.close()
        elif key == "u" and (changed := _newest_change(self._case)) is not None:
            await self._undo(changed)
        elif (label := _KEYS.get(key)) is not None:
            await self.relabel(label)


def _newest_change(case: CaseDetail) -> str | None:
    """The id of the newest change that the panel shows and that can be undone."""
    return next(
        (each.change_id for each in reversed(case.history) if not each.undone and each.action != "undone"), None
    )


def _described(change: ChangeView) -> str:
    before, after = (_(label) if label else _("no case") for label in (change.label_before, change.label_after))
    undone = f" ({_('undone')})" if change.undone else ""
    return f"{change.changed_at:%Y-%m-%d %H:%M} {_(change.action)}: {before} → {after}, {change.changed_by}{undone}"
