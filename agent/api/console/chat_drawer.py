"""The chat with the agent, beside every page: one conversation of the browser, which goes on with the next page."""

from __future__ import annotations

import asyncio

from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from nicegui import events, ui
from nicegui.elements.mixins.text_element import TextElement

from agent.api.console.conversation import CHAT_KEY
from agent.api.console.elements import notify_error, server, text
from agent.api.console.i18n import _
from agent.chat.memory import SessionHistory
from agent.core.cancellable_stream import stream_in_thread
from agent.core.errors import EXPECTED, describe

# messages that wait for their answers, and characters of one
_WAITING, _CHARS = 10, 20_000
# sends what is written, and empties the box at once, so that the next message can be written meanwhile
_TAKE = """
const box = document.querySelector(".chat-box textarea");
const message = box.value.trim();
if (message) {
  emit(message);
  box.value = "";
  box.dispatchEvent(new Event("input", { bubbles: true }));
}
"""


class ChatDrawer:
    """A drawer at the right with the browser's conversation."""

    def __init__(self) -> None:
        self._session = f"console:{ui.context.client.request.scope[CHAT_KEY]}"
        self._turn, self._waiting, self._is_loaded = asyncio.Lock(), 0, False
        with ui.right_drawer(value=False, bordered=True).props("width=420 breakpoint=900 overlay") as self.drawer:
            self.drawer.classes("chat").props(f'aria-label="{_("Chat")}"')
            with ui.element("div").classes("panel-head chat-head"):
                text("h2", _("Chat"))
                ui.space()
                new = ui.button(_("New conversation"), on_click=self._start_over).props("flat dense no-caps")
                new.mark("new-conversation")
                close = ui.button(icon="close", on_click=self.drawer.hide).props("flat dense round size=sm")
                close.props(f'aria-label="{_("Close the chat")}"')
            log = ui.element("div").classes("chat-log").props('role="log" aria-live="polite" tabindex="0"')
            self._log = log.props(f'aria-label="{_("Conversation")}"')
            with ui.element("div").classes("chat-input"):
                self._input = ui.textarea(placeholder=_("Message")).props("outlined dense autogrow")
                self._input.props(f'aria-label="{_("Message")}" maxlength={_CHARS}').classes("chat-box")
                self._input.mark("chat-message")
                on_enter = f"(e) => {{ if (!e.shiftKey && !e.isComposing) {{ e.preventDefault(); {_TAKE} }} }}"
                self._input.on("keydown.enter", self._on_message, js_handler=on_enter)
                send = ui.button(icon="send").props("flat dense round")
                send.on("click", self._on_message, js_handler=f"() => {{ {_TAKE} }}")
                send.props(f'aria-label="{_("Send")}"')

    async def toggle(self) -> None:
        """Open or close it."""
        self.drawer.toggle()
        if not self._is_loaded:
            self._is_loaded = True
            await self._load()

    def _history(self) -> SessionHistory:
        return SessionHistory(server().context, self._session)

    async def _load(self) -> None:
        """Show the messages of earlier pages."""
        context, session = server().context, self._session
        try:
            messages = await asyncio.to_thread(lambda: SessionHistory(context, session).messages)
        except EXPECTED as error:
            notify_error(describe(error))
            return
        self._show(messages)

    def _show(self, messages: list[BaseMessage]) -> None:
        self._log.clear()
        with self._log:
            text("p", _("Paste a record, ask why it was judged so, or correct a verdict."), "faint")
            for message in messages:
                extra_class = " mine" if isinstance(message, HumanMessage) else ""
                text("p", str(message.text), f"chat-message{extra_class}")
        self._scroll()

    async def _start_over(self) -> None:
        """Forget the conversation."""
        history = self._history()
        async with self._turn:
            try:
                await asyncio.to_thread(history.clear)
            except EXPECTED as error:
                notify_error(describe(error))
                return
            self._show([])

    async def _on_message(self, event: events.GenericEventArguments) -> None:
        """Answer a message when those before it are answered."""
        message = str(event.args or "").strip()[:_CHARS]
        if not message:
            return
        if self._waiting >= _WAITING:
            self._input.set_value(message)
            notify_error(_("Wait for the answers to your last messages, then send this one."))
            return
        with self._log:
            text("p", message, "chat-message mine")
            answer = text("p", "…", "chat-message").props('aria-busy="true"')
        self._scroll()
        self._waiting += 1
        try:
            async with self._turn:
                await self._answer(message, answer)
        finally:
            self._waiting -= 1
            answer.props(remove="aria-busy")

    async def _answer(self, message: str, shown: TextElement) -> None:
        so_far = ""
        try:
            session: RunnableConfig = {"configurable": {"session_id": self._session}}
            async for piece in stream_in_thread(server().remembering_chat.stream(message, session)):
                so_far += piece
                shown.set_text(so_far)
                self._scroll()
        except EXPECTED as error:
            shown.set_text(describe(error))

    def _scroll(self) -> None:
        ui.run_javascript(f"const log = getHtmlElement({self._log.id}); log && (log.scrollTop = log.scrollHeight)")
