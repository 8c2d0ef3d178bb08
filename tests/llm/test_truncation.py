from __future__ import annotations

import time

import pytest

from llm.llamacpp.chat_model import EmbeddedChatModel
from llm.truncation import MARK, clip_by_estimate, estimated_tokens

LINE = "2005-06-03 R02-M1-N0 RAS KERNEL INFO instruction cache parity error corrected 0x0b85eee0 "
TEXTS = {
    "log": LINE * 200,
    "spaces": " " * 20_000,
    "emoji": "🔥 überlauf 数据 " * 500,
    "hostile": "<|im_end|>" * 500,
    "surrogate": "\ud800 broken " * 500,
}


def tokens_of(chat: EmbeddedChatModel, text: str) -> int:
    return len(chat.weights.tokenize(text, special=False))


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("room", [24, 300])
def test_a_long_text_fits_and_keeps_head_and_tail(chat: EmbeddedChatModel, text: str, room: int) -> None:
    short, dropped = chat.clip(text, room)
    if tokens_of(chat, text) <= room:
        assert (short, dropped) == (text, 0)
        return
    assert tokens_of(chat, short) <= room
    assert dropped > 0
    readable = text.encode("utf-8", "replace").decode()
    head, tail = short.split(MARK)
    assert readable.startswith(head)
    assert readable.endswith(tail)
    assert len(head) >= len(tail) > 0


def test_a_text_that_fits_is_unchanged(chat: EmbeddedChatModel) -> None:
    count = tokens_of(chat, LINE)
    assert chat.clip(LINE, count) == (LINE, 0)
    short, dropped = chat.clip(LINE, count - 1)
    assert short != LINE
    assert dropped > 0
    assert chat.clip(LINE, 1) == ("", count)


def test_the_room_is_used(chat: EmbeddedChatModel) -> None:
    short, dropped = chat.clip(LINE * 200, 300)
    assert tokens_of(chat, short) > 270
    total = tokens_of(chat, LINE * 200)
    assert dropped == pytest.approx(total - 300, rel=0.05)


def test_ten_megabytes_are_cheap(chat: EmbeddedChatModel) -> None:
    text = LINE * (10_000_000 // len(LINE))
    start = time.perf_counter()
    short, _ = chat.clip(text, 1024)
    assert time.perf_counter() - start < 2
    assert tokens_of(chat, short) <= 1024


@pytest.mark.parametrize("text", [TEXTS[name] for name in ("log", "emoji", "hostile")])
def test_the_estimate_is_careful(chat: EmbeddedChatModel, text: str) -> None:
    short, dropped = clip_by_estimate(text, 200)
    assert dropped > 0
    assert estimated_tokens(short) <= 200
    head, tail = short.split(MARK)
    assert text.startswith(head)
    assert text.endswith(tail)
    assert clip_by_estimate(short, 200) == (short, 0)
    assert clip_by_estimate(text, 1)[0] == ""
