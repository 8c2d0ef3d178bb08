"""Fixed sentences in English, Korean and Chinese: gettext catalogs (`ko.po`, `zh.po`) beside this file.

The English sentence is the key; one that a catalog lacks stays English.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

LANGUAGES = ("en", "ko", "zh")
Translate = Callable[[str], str]
FOLDER = Path(__file__).parent
_HANGUL = re.compile(r"[\u1100-\u11ff\u3130-\u318f\uac00-\ud7af]")
_HAN = re.compile(r"[\u3400-\u9fff]")


@cache
def read_catalog(folder: Path, language: str) -> dict[str, str]:
    """The sentences of a language by their English ones, from ``LANGUAGE.po`` in a folder."""
    if language == "en":
        return {}
    from babel.messages.pofile import read_po

    with (folder / f"{language}.po").open("rb") as file:
        catalog = read_po(file, locale=language)
    return {str(message.id): str(message.string) for message in catalog if message.id and message.string}


def translator(language: str) -> Translate:
    """The function that translates a sentence into ``language``, one of `LANGUAGES`."""
    catalog = read_catalog(FOLDER, language)
    return lambda sentence: catalog.get(sentence, sentence)


def language_of(text: str) -> str | None:
    """The language that the script of a text shows: Korean, Chinese, or None (English, or no words at all)."""
    if _HANGUL.search(text):
        return "ko"
    return "zh" if _HAN.search(text) else None
