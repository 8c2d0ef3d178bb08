"""What reaches a terminal."""

from __future__ import annotations

import pytest

from agent.cli.options import print_status
from agent.core.terminal import escape_controls


def test_invisible_characters_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    bidi = [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]
    for code in (0x1B, 0x9B, 0xAD, 0x61C, 0x200B, 0x200E, 0xFEFF, 0xE0041, *bidi):
        shown = escape_controls(f"a{chr(code)}b")
        assert shown.isascii()
        assert f"{code:x}b" in shown
    for text in ("naïve 日本", "a\u200d\U0001f469\u200cb", "two\n\tlines"):
        assert escape_controls(text) == text
    print_status("file \u202egol.exe\x07")
    assert capsys.readouterr().err == "file \\u202egol.exe\\x07\n"
