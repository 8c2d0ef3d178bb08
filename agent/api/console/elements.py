"""Elements that all pages use, and the server's state behind a page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, cast

from nicegui import ui
from nicegui.elements.mixins.text_element import TextElement

from agent.api.console.i18n import _
from agent.core.access import Role, current_caller, missing_role

if TYPE_CHECKING:
    from agent.api.state import ServerState

STATE_KEY = "precedent.server"


def server() -> ServerState:
    """The state of the server that the page belongs to."""
    return cast("ServerState", ui.context.client.request.scope[STATE_KEY])


def text(tag: str, content: str, classes: str = "") -> TextElement:
    """An element with a text, which is never read as HTML."""
    return TextElement(tag=tag, text=content).classes(classes)


def for_role(button: ui.button, role: Role) -> ui.button:
    """The button, which says why it does nothing where the present key's role is not enough for what it does."""
    caller = current_caller()
    if caller is not None and caller.role < role:
        button.disable()
        reason = missing_role(role, caller).replace('"', "'")
        button.props(f'title="{reason}"')
    return button


def notify_error(message: str) -> None:
    """Show what went wrong, until it is dismissed."""
    ui.notify(message, type="negative", timeout=0, close_button=_("Close"))


def confirm(question: str, action: str, on_yes: Callable[[], Awaitable[None]]) -> None:
    """Have a person confirm an action that cannot be undone."""
    with ui.dialog().props(f'aria-label="{action}"') as dialog, ui.card().classes("dialog"):
        text("p", question)
        with ui.row().classes("actions"):
            ui.button(_("Cancel"), on_click=dialog.close).props("flat")

            async def accept() -> None:
                dialog.close()
                await on_yes()

            ui.button(action, on_click=accept).props("color=negative")
    dialog.open()


def show_no_source() -> None:
    """What a page about a source shows where there is none."""
    with ui.element("div").classes("intake"):
        text("p", _("There is no source yet: bring a file with labels, and it becomes one."))
        text("a", _("Bring data")).props('href="/"').classes("button-link")
