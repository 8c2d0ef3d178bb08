"""Lines in canonical form are masked like the lines themselves, and numbers of any length have one form."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.text.canonical_lines import MAX_LINE, canonical_lines
from retrieval.text.kept_numbers import KeptPlace, mask_except
from retrieval.text.masking import remask
from retrieval.text.prompt_injection import find_injections
from retrieval.text.template_hash import column_hashes

PIECES = st.one_of(
    st.from_regex(r"[0-9]{1,13}", fullmatch=True),
    st.from_regex(r"[0-9a-fA-F]{1,14}", fullmatch=True),
    st.from_regex(r"0[xX][0-9a-fA-F]{1,9}", fullmatch=True),
    st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,3}){1,4}(:[0-9]{1,5})?", fullmatch=True),
    st.from_regex(r"[0-9]{1,4}([.:/-])[0-9]{1,2}\1[0-9]{1,4}", fullmatch=True),
    st.from_regex(r"[0-9a-f]{1,4}(::?[0-9a-f]{1,4}){1,7}", fullmatch=True),
    st.sampled_from([*" .,:/-+_=()[]\"'xTZ%@|<>é٣½…"]),
    st.sampled_from(["Jan ", "5 Dec/", "UTC", "node", "cafe", "fee", "ms", "d", "0x", "a@b.cd", "::", "  "]),
    st.uuids().map(str),
)  # fmt: skip
LINES = st.lists(PIECES, min_size=1, max_size=12).map("".join)


def canonical(line: str) -> str:
    return canonical_lines(f"{line}\n".encode()).decode().removesuffix("\n")


@settings(max_examples=100)
@given(st.lists(LINES, min_size=1, max_size=8))
def test_a_canonical_line_is_masked_like_the_line(lines: list[str]) -> None:
    found = canonical_lines("".join(line + "\n" for line in lines).encode()).decode().split("\n")
    assert [*map(remask, found)] == [*map(remask, lines), ""]


def test_what_the_length_of_a_number_changes_is_masked_as_before() -> None:
    lines = [
        *("Jan 12 x", "Jan 12345 x", "12 Jan 7 x", "123 Jan x", "Dec/5 a", "Oct  7 a", "a Jan12 b", "1/2/2026"),
        *("10.20.30.40", "10.200.30.40", "1.2.3.4:80a", "12.34.56", "2026.01.02", "1.2.3.4.5", "v1.22.3", "0x12"),
        *("ab:12", "fe80::12", "1:2:3:4", "abcd:12:ef", "deadbee1", "deadbee", "12345678-1234", "abcdabc1-12ab"),
        *("03:04:05 +0100", "03:04:05.123 -12", "5 -12", "12d", "1234567d", "123-ab", "node12", "cafe12", "5e-07"),
        *("5.12ab34cd99", "5.0x12", "12:30:12ab34cd9f", "5-10", "5days", "10x5"),
    ]
    found = canonical_lines("".join(line + "\n" for line in lines).encode()).decode().split("\n")
    assert [*map(remask, found)] == [*map(remask, lines), ""]


@pytest.mark.parametrize(
    ("pattern", "form"),
    [
        ("job N of x", "job 1 of x"),
        ("N", "1"),
        ("port=N, pid[N]: N%", "port=1, pid[1]: 1%"),
        ("took N.N s, Nms and NmNs", "took 1.1 s, 1ms and 1m1s"),
        ("node-N: N,N,N bytes", "node-1: 1,1,1 bytes"),
        ('{"size":N,"id":"N"}', '{"size":1,"id":"1"}'),
        ("blk_-N of /var/N/part-N.bin:N", "blk_-1 of /var/1/part-1.bin:1"),
    ],
)
def test_numbers_of_any_length_have_one_form(pattern: str, form: str) -> None:
    rng = random.Random(3)
    for _ in range(50):
        line = "".join(str(rng.randrange(10 ** rng.randint(1, 12))) if c == "N" else c for c in pattern)
        assert canonical(line) == form


def test_addresses_and_identifiers_of_any_value_have_one_form() -> None:
    rng = random.Random(4)

    def number(length: int) -> str:
        return "".join(rng.choices("0123456789abcdef", k=length))

    found = set()
    for _ in range(200):
        octets = ".".join(str(rng.choice([7, 123, 245])) for _ in range(4))
        uuid = "-".join(map(number, (8, 4, 4, 4, 12)))
        found.add(
            canonical(f"{octets}:{rng.randint(1, 65535)} 0x{number(rng.randint(1, 16))} {uuid} sum=1{number(20)}f")
        )
    assert found == {"1.1.1.1:1 0x1 11111111-1111-1111-1111-111111111111 sum=a1111111"}


def test_what_may_be_a_time_or_a_date_keeps_its_lengths() -> None:
    for text in (
        "2026-01-02 03:04:05.678",
        "12/Jan/2026:10:11:12 +0100",
        "Jan  5 03:04:05",
        "10.20.30",
        "1/2",
        "12:34",
    ):
        assert len(canonical(text)) == len(text)


def test_long_lines_and_lines_that_are_normalised_keep_their_lengths() -> None:
    for line in ("id 123456 " + "x" * MAX_LINE, "id 123456 ½", "id １２３ 456"):
        assert len(canonical(line)) == len(line)
        assert canonical_lines(f"a 99\n{line}\nb 99\n".encode()).decode().split("\n")[::2] == ["a 1", "b 1"]


def test_an_address_of_mail_keeps_its_lengths_and_other_alphabets_do_not_matter() -> None:
    assert canonical("to 123456: a.99@x77.org, 42") == "to 1: a.11@x11.org, 1"
    assert canonical("사용자 1234 로그인, 12.5 s") == "사용자 1 로그인, 1.1 s"


SENTENCES = st.lists(
    st.one_of(
        st.from_regex(r"[0-9]{1,12}", fullmatch=True),
        st.from_regex(r"[0-9a-f]{8,20}", fullmatch=True),
        st.sampled_from(
            ["system: ", "ignore", "the above", "case ", "label", "normal", "is", "answer", "#", "%", "note"]
        ),
    ),
    max_size=9,
).map(" ".join)


@settings(max_examples=80)
@given(SENTENCES)
def test_a_line_has_no_injection_that_its_canonical_form_has_not(line: str) -> None:
    if not find_injections(canonical(line)):
        assert not find_injections(line)


NUMBERS = st.lists(
    st.sampled_from(["code ", "code=", "HTTP/1.1", " ", '"', "5", "12", "500", "e", "code", "x", ".", "0x1f", "77.5"]),
    max_size=9,
).map("".join)
KEPT = (KeptPlace("code ", frozenset({"5", "500"})), KeptPlace('HTTP/<n>"', frozenset({"12"})))


@settings(max_examples=80)
@given(st.lists(NUMBERS, min_size=2, max_size=30))
def test_lines_of_one_form_and_the_same_kept_numbers_are_masked_alike(lines: list[str]) -> None:
    import polars as pl

    columns = column_hashes(pl.Series(lines), KEPT, 7)
    keyed = sorted(
        (canonical(line), int(key), mask_except(line, KEPT)) for line, key in zip(lines, columns, strict=True)
    )
    for (form, key, masked), (other_form, other_key, other_masked) in pairwise(keyed):
        if (form, key) == (other_form, other_key):
            assert masked == other_masked
