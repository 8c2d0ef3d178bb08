"""Places of numbers, masking that keeps some, and the columns that bulk judging groups by."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.encoding.representation import Representation
from retrieval.text.kept_numbers import KeptPlace, mask_except, number_columns, placed_numbers, unseen_number
from retrieval.text.masking import mask
from retrieval.text.template_hash import template_skeleton

HTTP = KeptPlace('HTTP/<n>" ', frozenset({"200", "500"}))
CODE = KeptPlace("code ", frozenset({"0", "137", "0xC000006A"}))
KEPT = (HTTP, CODE)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (
            '10.0.0.7 - [2024-03-01 10:00:00] "GET /a/7 HTTP/1.1" 500 17',
            '<ip> - [<time>] "GET /a/<n> HTTP/<n>" 500 <n>',
        ),
        ('"GET /a/7 HTTP/1.1" 404 17', '"GET /a/<n> HTTP/<n>" <n> <n>'),
        ("job 137: exit  code   137", "job <n>: exit code 137"),
        ("failed, code 0xC000006A at 0xC000006A", "failed, code 0xC000006A at <hex>"),
        ("code 0 10.1.2.3:80 code 1", "code 0 <ip> code <n>"),
        ("nothing here", "nothing here"),
        ("code 0\ncode\n0", "code 0 code <n>"),
    ],
)
def test_only_known_values_at_the_place_are_kept(text: str, masked: str) -> None:
    assert mask_except(text, KEPT) == masked


def test_without_kept_numbers_it_is_mask() -> None:
    assert mask_except("job 17 code 137", ()) == mask("job 17 code 137") == "job <n> code <n>"


def test_a_value_that_no_case_has_is_found() -> None:
    assert unseen_number("exit code 9", KEPT) == ("code ", "9", 10, 11)
    assert unseen_number("exit code 137, took 9", KEPT) is None


def test_a_place_is_the_same_in_other_templates_and_after_the_lines_start() -> None:
    places = [[n.place for n in placed_numbers(text)] for text in ("a b status=1", "2024-01-01 x status=7", "7 8")]
    assert places == [["status="], ["status="], ["", "<n> "]]


def test_a_long_word_takes_no_time() -> None:
    assert next(placed_numbers("z" * 200_000 + "1")).value == "1"


LINES = st.lists(
    st.one_of(
        st.sampled_from(["code ", " code  ", 'HTTP/1.1" ', "status=", " ", ",", "x", "0x", "é", "@", '"', "CODE "]),
        st.integers(0, 2000).map(str),
        st.sampled_from(["137", "500", "200", "0xC000006A", "10.0.0.1", "2024-01-01 10:00:00", "1,5", "deadbeef12"]),
    ),
    min_size=1,
    max_size=12,
).map("".join)


@given(LINES, LINES)
def test_equal_skeletons_and_columns_mean_equal_masked_texts(first: str, second: str) -> None:
    columns = number_columns(pl.Series([first, second]), KEPT)
    if template_skeleton(first) == template_skeleton(second) and all(column[0] == column[1] for column in columns):
        assert mask_except(first, KEPT) == mask_except(second, KEPT)


@given(LINES)
def test_the_columns_hold_every_kept_number(line: str) -> None:
    columns = [column[0] or "" for column in number_columns(pl.Series([line]), KEPT)]
    for number in placed_numbers(line):
        for kept, column in zip(KEPT, columns, strict=True):
            assert number.place != kept.place or number.value in column


def test_the_representation_keeps_them_in_the_store() -> None:
    representation = Representation(kept=KEPT)
    assert Representation.from_json(representation.to_json()) == representation
    assert Representation.from_json({"prose": [], "axes": None}) == Representation()
