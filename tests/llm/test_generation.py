from __future__ import annotations

import pytest

from llm.llamacpp.generation import Options, StopSequenceBuffer


def spooled(stop: tuple[str, ...], *pieces: bytes) -> list[str]:
    spool = StopSequenceBuffer(stop)
    shown = []
    for piece in pieces:
        text, stopped = spool.feed(piece)
        shown.append(text)
        if stopped:
            return shown
    return [*shown, spool.flush()]


def test_a_character_is_shown_when_it_is_whole() -> None:
    fire = "🔥".encode()
    assert spooled((), b"a" + fire[:2], fire[2:3], fire[3:] + b"b") == ["a", "", "🔥b", ""]


def test_half_a_character_at_the_end_is_marked_as_such() -> None:
    assert spooled((), "🔥".encode()[:3]) == ["", "�"]


def test_a_stop_text_is_found_across_pieces_and_never_shown() -> None:
    assert spooled(("END",), b"one E", b"N", b"D two") == ["one ", "", ""]


def test_what_only_began_like_a_stop_text_is_shown() -> None:
    assert spooled(("END",), b"one E", b"Nough") == ["one ", "ENough", ""]
    assert spooled(("END",), b"one EN") == ["one ", "EN"]


def test_the_earliest_of_several_stop_texts_counts() -> None:
    assert spooled(("two", "on"), b"zero one two") == ["zero "]


@pytest.mark.parametrize(
    "wrong", [{"max_tokens": 0}, {"top_logprobs": 0}, {"stop": ("",)}], ids=lambda wrong: next(iter(wrong))
)
def test_options_that_cannot_be_right_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong)).split("_")[0]):
        Options(**({"max_tokens": 1, "stop": (), "top_logprobs": None} | wrong))  # type: ignore[arg-type]
