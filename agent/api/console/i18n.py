"""The console's texts in the language of the page: gettext catalogs (`locale/ko.po`, `locale/zh.po`).

The English text is the key; one that a catalog lacks is looked up among the agent's sentences, and else stays English.
"""

from __future__ import annotations

from pathlib import Path

from fastapi import Request
from nicegui import ui
from nicegui.slot import Slot

from agent.core.locale import read_catalog, translator

LANGUAGES = {"en": "English", "ko": "한국어", "zh": "中文"}
LANGUAGE_COOKIE, THEME_COOKIE = "precedent_language", "precedent_theme"
_CATALOGS = Path(__file__).with_name("locale")


def catalog(language: str) -> dict[str, str]:
    """The texts of a language by their English ones."""
    return read_catalog(_CATALOGS, language)


def _(text: str) -> str:
    """The text in the language of the page that is being built or that an event comes from."""
    if not Slot.get_stack():
        return text
    language = language_of(ui.context.client.request)
    return catalog(language).get(text) or translator(language)(text)


def language_of(request: Request) -> str:
    """The language that the user chose, else the first known one that the browser prefers."""
    chosen = request.cookies.get(LANGUAGE_COOKIE)
    accepted = request.headers.get("accept-language", "").split(",")
    preferred = [part.split(";")[0].strip()[:2].lower() for part in accepted]
    return next((code for code in [chosen, *preferred] if code in LANGUAGES), "en")


def is_dark(request: Request) -> bool | None:
    """Whether the user chose dark colours; None follows the system's setting."""
    return {"dark": True, "light": False}.get(request.cookies.get(THEME_COOKIE, ""))
