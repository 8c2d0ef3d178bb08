"""The chat with the agent, beside every page."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from nicegui import ui

from agent.api.console.elements import server, text
from agent.api.console.i18n import _
from agent.chat.commands import ChatInput
from agent.core.errors import EXPECTED, describe

# messages of a conversation that the agent gets
_REMEMBERED = 60


class ChatDrawer:
    """A drawer at the right with one conversation, which ends with the page."""

    def __init__(self) -> None:
        self._history: list[BaseMessage] = []
        self._answering = False
        with ui.right_drawer(value=False, bordered=True).props("width=400 breakpoint=900 overlay") as self.drawer:
            self.drawer.classes("chat").props(f'aria-label="{_("Chat")}"')
            with ui.element("div").classes("panel-head chat-head"):
                text("h2", _("Chat"))
                close = ui.button(icon="close", on_click=self.drawer.hide).props("flat dense round size=sm")
                close.props(f'aria-label="{_("Close the chat")}"')
            log = ui.element("div").classes("chat-log").props('role="log" aria-live="polite" tabindex="0"')
            self._log = log.props(f'aria-label="{_("Conversation")}"')
            with self._log:
                text("p", _("Paste a record, ask why it was judged so, or correct a verdict."), "faint")
            with ui.element("div").classes("chat-input"):
                self._input = ui.textarea(placeholder=_("Message")).props("outlined dense autogrow")
                self._input.props(f'aria-label="{_("Message")}" maxlength=20000').classes("full").mark("chat-message")
                self._input.on(
                    "keydown.enter",
                    self.send,
                    js_handler="(e) => { if (!e.shiftKey && !e.isComposing) { e.preventDefault(); emit(); } }",
                )
                send = ui.button(icon="send", on_click=self.send).props("flat dense round")
                send.props(f'aria-label="{_("Send")}"')

    def toggle(self) -> None:
        """Open or close it."""
        self.drawer.toggle()

    async def send(self) -> None:
        """Send what is written, and show the answer as it comes."""
        message = (self._input.value or "").strip()
        if not message or self._answering:
            return
        self._answering = True
        self._input.set_value("")
        with self._log:
            text("p", message, "chat-message mine")
            answer = text("p", "…", "chat-message")
        self._scroll()
        self._history.append(HumanMessage(message))
        try:
            await self._answer(answer)
        finally:
            self._answering = False

    async def _answer(self, shown: Any) -> None:
        so_far = ""
        try:
            messages: Any = self._history[-_REMEMBERED:]
            async for piece in server().chat.astream(ChatInput(messages=messages)):
                so_far += piece
                shown.set_text(so_far)
                self._scroll()
        except EXPECTED as error:
            so_far = describe(error)
            shown.set_text(so_far)
        self._history.append(AIMessage(so_far))

    def _scroll(self) -> None:
        ui.run_javascript(f"const log = getHtmlElement({self._log.id}); log && (log.scrollTop = log.scrollHeight)")
