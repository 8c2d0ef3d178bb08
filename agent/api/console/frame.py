"""What every page of the console has: navigation, theme, language, the state of the server, and the chat beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import Request
from nicegui import ui
from nicegui.elements.mixins.text_element import TextElement

from agent.api.console.chat_drawer import ChatDrawer
from agent.api.console.elements import server, text
from agent.api.console.i18n import LANGUAGE_COOKIE, LANGUAGES, THEME_COOKIE, _, is_dark, language_of
from agent.core.access import current_caller

if TYPE_CHECKING:
    from agent.api.state import ServerState

STATIC = Path(__file__).with_name("static")
_ASSETS = ("console.css", "console.js")
_COOKIE_SECONDS = 365 * 24 * 3600


@dataclass(frozen=True)
class PageLink:
    """A page in the navigation."""

    path: str
    name: str
    icon: str


LINKS = (
    PageLink("/", "Judge", "fact_check"),
    PageLink("/unlabelled", "No labels yet?", "filter_list"),
    PageLink("/live", "Live", "monitor_heart"),
    PageLink("/casebook", "Casebook", "library_books"),
    PageLink("/source", "Source", "tune"),
)
PAGES = frozenset(link.path for link in LINKS)
_MORE = (
    ("/chain/playground/", "Chat playground"),
    ("/verdict/playground/", "One record, one verdict"),
    ("/docs", "The API"),
    ("/metrics", "Metrics"),
)


@cache
def _head() -> str:
    """The console's style sheet and script; their addresses change with their contents."""
    digest = {name: hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12] for name in _ASSETS}
    style, script = (f"/console/static/{name}?v={digest[name]}" for name in _ASSETS)
    return f'<link rel="stylesheet" href="{style}"><script src="{script}" defer></script>'


@contextmanager
def page_frame(title: str) -> Iterator[ui.element]:
    """The frame of a page; elements made within it are the page's main content."""
    request = ui.context.client.request
    ui.add_head_html(_head())
    ui.page_title(f"{title} · Precedent")
    dark = ui.dark_mode(is_dark(request))
    ui.colors(primary="#1f6075", secondary="#45616d", accent="#b5532f", negative="#b3261e", positive="#1b6e4b")
    ui.run_javascript(f"document.documentElement.lang={language_of(request)!r}")
    TextElement(tag="a", text=_("Skip to the content")).props('href="#main"').classes("skip")
    drawer, chat_drawer = _navigation(request), ChatDrawer()
    with ui.header().classes("bar"):
        menu = ui.button(icon="menu", on_click=drawer.toggle).props("flat dense round").classes("menu-button")
        menu.props(f'aria-label="{_("Menu")}"')
        text("h1", title, "bar-title")
        ui.space()
        chat_button = ui.button(icon="chat", on_click=lambda: chat_drawer.toggle()).props("flat dense round")
        chat_button.props(f'aria-label="{_("Chat with the agent")}"')
        _language_menu(request)
        _theme_button(dark)
    state = server()
    with ui.element("div").props('id="main" tabindex="-1"').classes("main") as main:
        if state.not_ready:
            _loading_note(state)
        yield main


def _navigation(request: Request) -> ui.left_drawer:
    drawer = ui.left_drawer(value=False, bordered=True).classes("nav")
    with drawer.props(f'width=200 breakpoint=900 show-if-above aria-label="{_("Menu")}"'):
        with ui.element("a").props('href="/" aria-label="Precedent"').classes("brand"):
            ui.element("img").props('src="/console/static/favicon.svg" alt="" width="26" height="26"')
            text("span", "Precedent")
        with ui.element("nav").props(f'aria-label="{_("Pages")}"'):
            for link in LINKS:
                here = request.url.path == link.path
                entry = ui.element("a").props(f'href="{link.path}"').classes("nav-link")
                if here:
                    entry.props('aria-current="page"')
                with entry:
                    ui.icon(link.icon).props('aria-hidden="true"')
                    text("span", _(link.name))
        with ui.element("nav").props(f'aria-label="{_("More")}"').classes("nav-more"):
            for path, name in _MORE:
                text("a", _(name), "nav-small").props(f'href="{path}"')
            if (caller := current_caller()) is not None:
                text("span", f"{caller.name}: {caller.role.word}", "nav-small").props(
                    f'title="{_("API key and role")}"'
                )
                text("a", _("Sign out"), "nav-small").props('href="/logout"')
    return drawer


def _set_cookie(name: str, value: str, then: str = "") -> None:
    ui.run_javascript(f"document.cookie='{name}={value};path=/;max-age={_COOKIE_SECONDS};samesite=strict';{then}")


def _language_menu(request: Request) -> None:
    current = language_of(request)
    with ui.button(icon="translate").props(f'flat dense round aria-label="{_("Language")}"'), ui.menu():
        for code, name in LANGUAGES.items():
            item = ui.menu_item(
                name, on_click=lambda code=code: _set_cookie(LANGUAGE_COOKIE, code, "location.reload()")
            )
            item.props(f'lang="{code}"').classes("chosen" if code == current else "")


def _theme_button(dark: ui.dark_mode) -> None:
    def choose(value: bool | None, name: str) -> None:
        dark.set_value(value)
        _set_cookie(THEME_COOKIE, name)

    with ui.button(icon="contrast").props(f'flat dense round aria-label="{_("Colours")}"'), ui.menu():
        choices = ((None, "auto", _("As the system")), (False, "light", _("Light")), (True, "dark", _("Dark")))
        for value, name, label in choices:
            ui.menu_item(label, on_click=lambda value=value, name=name: choose(value, name))


def _loading_note(state: ServerState) -> None:
    note = text("p", f"{_('Records cannot be judged yet')}: {state.not_ready}", "note warn").props('role="status"')

    def look() -> None:
        if state.not_ready is None:
            note.delete()
            timer.cancel()
        else:
            note.set_text(f"{_('Records cannot be judged yet')}: {state.not_ready}")

    timer = ui.timer(1.0, look)
