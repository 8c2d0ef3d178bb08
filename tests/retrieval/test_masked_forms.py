"""Lines of one form are masked alike, and numbers of any length have one form."""

from __future__ import annotations

import random
import re
import sys
import unicodedata
from collections.abc import Callable
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.text.kept_numbers import KeptPlace, mask_except
from retrieval.text.masked_forms import form_of_one, holds_mail, masked_forms, shortest_of
from retrieval.text.masking import remask
from retrieval.text.prompt_injection import find_injections, plain
from retrieval.text.template_hash import column_hashes

LONGEST = 1_000
VARYING = re.compile(r"[0-9]+|[a-f]+")


def forms_of(lines: list[str], *, keeps_numbers: bool = False) -> list[str]:
    return masked_forms(pl.Series(lines, dtype=pl.String), longest=LONGEST, keeps_numbers=keeps_numbers).to_list()


class Generator:
    """Lines of what rules of masking look at, in any order, and variants of them with other numbers."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        number, hexadecimal = self.number, self.hexadecimal
        self.pieces: list[Callable[[], str]] = [
            lambda: number(1, 6),
            lambda: number(1, 2),
            lambda: hexadecimal(1, 4),
            lambda: hexadecimal(7, 10),
            lambda: "0x" + hexadecimal(1, 5),
            lambda: ".".join(number(1, 3) for _ in range(rng.randint(2, 5))),
            lambda: ":".join(number(1, 2) for _ in range(rng.randint(2, 5))),
            lambda: ":".join(hexadecimal(1, 4) for _ in range(rng.randint(2, 8))),
            lambda: "-".join([number(4, 4), number(2, 2), number(2, 2)]),
            lambda: "/".join([number(2, 2), rng.choice(["Jan", number(2, 2)]), number(2, 4)]),
            lambda: "-".join(hexadecimal(size, size) for size in (8, 4, 4, 4, 12)),
            lambda: rng.choice([*" .,:/-+_=()[]\"'xTZ%@|<>é٣½…ga中µ²\u200b\xa0\u0301\x02"]),
            lambda: rng.choice([*" .,:/-T"]),
            lambda: rng.choice(["Jan ", "5 Dec/", "Mar  ", " UTC", "+01:00", " -0100", "node", "cafe", "ms", "a@b.cd"]),
            lambda: rng.choice(["::", "0x", "é@b.cd", "x.y@z-w.org", f"{number(2, 2)}:{number(2, 2)}:{number(2, 2)}"]),
            lambda: "".join(rng.choices("acdefABF", k=rng.randint(1, 9))),
        ]

    def number(self, least: int, most: int) -> str:
        return "".join(self.rng.choices("0123456789", k=self.rng.randint(least, most)))

    def hexadecimal(self, least: int, most: int) -> str:
        return "".join(self.rng.choices("0123456789abcdefABCDEF", k=self.rng.randint(least, most)))

    def line(self) -> str:
        return "".join(self.rng.choice(self.pieces)() for _ in range(self.rng.randint(1, 7)))

    def variant(self, line: str) -> str:
        def other(match: re.Match[str]) -> str:
            text = match[0]
            if text.isdigit():
                return self.number(1, self.rng.choice([1, 2, 3, 4, 9])) if self.rng.random() < 0.5 else text
            return text if self.rng.random() < 0.8 else "".join(self.rng.choices("abcdef", k=len(text)))

        return VARYING.sub(other, line)


@pytest.mark.parametrize("seed", range(6))
def test_lines_of_one_form_are_masked_alike(seed: int) -> None:
    generator, masked = Generator(seed), dict[str, tuple[str, str]]()
    bases = [generator.line() for _ in range(400)]
    lines = [line for base in bases for line in [base, *(generator.variant(base) for _ in range(8))]]
    for form, line in zip(forms_of(lines), lines, strict=True):
        of_line = remask(plain(line))
        first, of_first = masked.setdefault(form, (line, of_line))
        assert of_first == of_line, (first, line)


def test_what_the_length_of_a_number_changes_has_forms_of_its_own() -> None:
    pairs = [
        *[("Jan 12 x", "Jan 12345 x"), ("1/02/2026", "11/02/2026")],
        *[("10.20.30.40", "10.200.30.40"), ("1.2.3", "1.2.3.4")],
        *[("deadbee1", "deadbee"), ("a 12345678", "a 1234567f"), ("10:20:3", "10:20:30"), ("0x1f", "0x1g")],
        *[("a@b.cd", "a@b.c"), ("ab:12:30:45", "ax:12:30:45"), ("5.10:20:30", "5.Jan 5 10:20:30")],
        # an address next to a letter is a number
        *[("é10.0.0.1", "é1::2"), ("10.0.0.1中", "a::b中"), ("é10.0.0.1", "(10.0.0.1")],
        *[("1.22.33.44:5", "1.222.33.44:5"), ("2026.01.02.03", "2026.01.0.03")],
        *[("9:52:AfD:cc2a@b.cd", "9:52:A:c-a@b.cd")],
    ]  # fmt: skip
    for first, second in pairs:
        assert remask(first) != remask(second)
        form, other = forms_of([first, second])
        assert form != other, (first, second)


@pytest.mark.parametrize(
    "pattern",
    [
        *(
            "job N of x",
            "N",
            "port=N, pid[N]: N%",
            "took N.N s, Nms and NmNs",
            "node-N: N,N,N bytes",
            "blk_-N:/N/p-N.b",
        ),
        *(
            '{"size":N,"id":"N"}',
            "from I:N to I",
            "[I] N",
            "host:I/N",
            "H of U at 0xX",
            "sum=H;N",
            "사용자 N 로그인, N.N s",
        ),
        *("2026-01-02 03:04:05,N INFO I", "12/Jan/2026:10:11:12 +0100 N", "größe N kB, „I“ … Nµs", "mac A up N"),
        *("to a.N@x77.org, N", "user\xa0N"),
    ],
)
def test_numbers_and_addresses_of_any_length_have_one_form(pattern: str) -> None:
    rng = random.Random(3)

    def hexadecimal(count: int) -> str:
        return "".join(rng.choices("0123456789abcdef", k=count))

    def filled(character: str) -> str:
        octets = [rng.choice([7, 123, 245]) for _ in range(4)]
        values = {
            "N": str(rng.randrange(10 ** rng.randint(1, 12))),
            "I": ".".join(map(str, octets)),
            "H": f"1a{hexadecimal(rng.randint(6, 30))}",
            "U": "-".join(map(hexadecimal, (8, 4, 4, 4, 12))),
            "X": hexadecimal(rng.randint(1, 16)),
            "A": ":".join(["ab", *(hexadecimal(2) for _ in range(5))]),
        }
        return values.get(character, character)

    assert len(set(forms_of(["".join(map(filled, pattern)) for _ in range(200)]))) == 1


def test_long_lines_keep_the_lengths_of_their_numbers() -> None:
    lines = [f"id {number} " + "x" * LONGEST for number in ("1", "9", "12")]
    first, second, third = forms_of(lines)
    assert first == second != third
    assert forms_of(["id 5", "id 17"])[0] == forms_of(["id 17"])[0]


def test_a_form_is_no_text_of_another() -> None:
    (form,) = forms_of(["é 10.0.0.1a@x"])
    assert form not in forms_of([form])
    assert form_of_one("job 5") == form_of_one("job 7") != form_of_one("job 17")


def test_polars_normalises_as_python_does() -> None:
    characters = [chr(code) for code in range(128, sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
    known = [c for c in characters if unicodedata.category(c) != "Cn"]
    found = pl.Series(known).str.normalize("NFKC").to_list()
    assert [c for c, f in zip(known, found, strict=True) if f != unicodedata.normalize("NFKC", c)] == []


SENTENCES = st.lists(
    st.one_of(
        st.from_regex(r"[0-9]{1,12}", fullmatch=True),
        st.from_regex(r"[0-9a-f]{8,20}", fullmatch=True),
        st.sampled_from(["10.20.30", "10:20:30", "10.0.0.1", "a::b", "fe80:1:2:3::4"]),
        st.sampled_from(
            ["system: ", "ignore", "the above", "case ", "label", "normal", "is", "answer", "#", "%", "note"]
        ),
    ),
    max_size=9,
).map(" ".join)


@settings(max_examples=300)
@given(SENTENCES)
def test_a_line_has_no_injection_that_the_shortest_of_its_form_has_not(line: str) -> None:
    forms = masked_forms(pl.Series([line]), longest=LONGEST)
    if not (holds_mail(forms)[0] or find_injections(shortest_of(forms[0]))):
        assert not find_injections(line)


NUMBERS = st.lists(
    st.sampled_from(
        [
            "code ",
            "code=",
            "HTTP/1.1",
            " ",
            '"',
            "5",
            "12",
            "500",
            "e",
            "code",
            "x",
            ".",
            "0x1f",
            "77.5",
            "Jan ",
            "123456",
        ]
    ),
    max_size=9,
).map("".join)
KEPT = (KeptPlace("code ", frozenset({"5", "500"})), KeptPlace('HTTP/<n>"', frozenset({"12"})))


@settings(max_examples=150)
@given(st.lists(NUMBERS, min_size=2, max_size=30))
def test_lines_of_one_form_and_the_same_kept_numbers_are_masked_alike(lines: list[str]) -> None:
    columns = column_hashes(pl.Series(lines), KEPT, 7)
    forms = forms_of(lines, keeps_numbers=True)
    keyed = sorted(
        (form, int(key), mask_except(line, KEPT)) for form, line, key in zip(forms, lines, columns, strict=True)
    )
    for (form, key, masked), (other_form, other_key, other_masked) in pairwise(keyed):
        if (form, key) == (other_form, other_key):
            assert masked == other_masked
