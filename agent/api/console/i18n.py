"""The language of the console's texts."""

from __future__ import annotations

from fastapi import Request

LANGUAGES = {"en": "English", "ko": "한국어", "zh": "中文"}
LANGUAGE_COOKIE, THEME_COOKIE = "precedent_language", "precedent_theme"


def _(text: str) -> str:
    """The text in the language of the page."""
    return text


def language_of(request: Request) -> str:
    """The language that the user chose, else the first known one that the browser prefers."""
    chosen = request.cookies.get(LANGUAGE_COOKIE)
    preferred = [
        part.split(";")[0].strip()[:2].lower() for part in request.headers.get("accept-language", "").split(",")
    ]
    return next((code for code in [chosen, *preferred] if code in LANGUAGES), "en")


def is_dark(request: Request) -> bool | None:
    """Whether the user chose dark colours; None follows the system's setting."""
    return {"dark": True, "light": False}.get(request.cookies.get(THEME_COOKIE, ""))
