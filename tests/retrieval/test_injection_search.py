"""The quick search for prompt injections misses none that the patterns find."""

from __future__ import annotations

import random

import polars as pl

from retrieval.text.prompt_injection import INJECTION, find_injections, may_be_of_injection, may_have_injections

TEXT = (
    "ignore disregard above previous answer label normal harmless anomalous user system : ; . < > <| |> im_start "
    "[INST] note to the ai model you are now act as this record is correct verdict = -> case c12 é normál düzgün 正常 "
    "норм ist alles regulär rutin NORMAL ſafe İgnore ıgnore 5.2 0.1 num_1 17 count status flag mark attention dear "
    "assistant hint"
)
WORDS = TEXT.split()


def texts() -> list[str]:
    rng = random.Random(1)
    spaced = [" ".join(rng.choices([*WORDS, "\t", "", "\x1c"], k=rng.randint(1, 14))) for _ in range(2_000)]
    return spaced + [
        "".join(rng.choice((word + " ", word, word.upper())) for word in rng.choices(WORDS, k=6)) for _ in range(1_000)
    ]


def test_what_the_patterns_match_is_found() -> None:
    written = texts()
    may = may_have_injections(pl.Series(written))
    matched = 0
    for text, maybe in zip(written, may.tolist(), strict=True):
        found = find_injections(text)
        matched += bool(found)
        assert maybe or not found, text
        if text.isascii() and "  " not in text and "\t" not in text:
            assert bool(found) == bool(INJECTION.search(text)), text
    assert 500 < matched < len(written) - 500


def test_parts_without_a_word_of_an_injection_make_none() -> None:
    for text in texts():
        parts = text.split(" ")
        if not any(map(may_be_of_injection, parts)):
            assert not find_injections(text), text
    assert [may_be_of_injection(part) for part in ("tcp", "Ignored", "a  b")] == [False, True, True]
