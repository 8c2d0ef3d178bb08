"""What varies from line to line gives way to a placeholder; everything else stays as it was."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from retrieval.text.masking import mask, strip_placeholders

_PIECES = (
    *("1", "a", "ab", "ab:", "::", ":", "@", "b.cc", "a@b.cc", "-", "_", ".", "+", " ", "\n", "\t", "<", ">", "/", ","),
    *("Jan ", "12:34:56", "2026-01-02", "T", "Z", "UTC", "10.0.0.1", "deadbeef", "0x1f", "<n>", "<ip>", "é", "٣"),
    *("1" * 70, "a" * 70, "fe80::1", "01/02/2026", "123e4567-e89b-12d3-a456-426614174000", "\x00", "\ufffd", "🙂"),
)
glued = st.lists(st.sampled_from(_PIECES), max_size=20).map("".join)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("2026-01-02 03:04:05 start", "<time> start"),
        ("2026-01-02T03:04:05.678Z start", "<time> start"),
        ("2026/01/02 03.04.05,678 +01:00 start", "<time> start"),
        ("Jun  9 06:06:20 combo sshd[19939]: failed", "<time> combo sshd[<n>]: failed"),
        ("09 Jun 2026 done", "<time>done"),
        ("at 23:59:59.999 UTC", "at <time>"),
        ("on 2026-01-02, due 01/02/26", "on <date>, due <date>"),
        ("from 10.0.0.7 to 10.0.0.8:5432", "from <ip> to <ip>"),
        ("from fe80::1 and 2001:db8:0:0:1:0:0:1", "from <ip> and <ip>"),
        ("id 123e4567-e89b-12d3-a456-426614174000", "id <uuid>"),
        ("mail from jane.doe+x@example.org bounced", "mail from <email> bounced"),
        ("at 0x7fFF", "at <hex>"),
        ("commit deadbeef01", "commit <hex>"),
        ("blk_-1608999687919862906 size 67,108,864 took 1.5", "blk_-<n> size <n> took <n>"),
        ("core.2275 eth0 x86_64", "core.<n> eth<n> x<n>_<n>"),
    ],
)
def test_what_varies_is_masked(text: str, masked: str) -> None:
    assert mask(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "the quick brown fox",
        "decade facade bead",  # letters that could be hexadecimal, but are words
        "std::string in May",
        "<n> and <time> stood in the line as they are",
        "a < b > c <unknown>",
    ],
)
def test_what_does_not_vary_stays(text: str) -> None:
    assert mask(text) == text


def test_lines_that_differ_in_what_varies_only_have_one_template() -> None:
    first = "Jun 14 15:16:01 combo sshd[19939]: failure from 218.188.2.4 after 12 tries"
    second = "Jul  1 01:02:03 combo sshd[7]: failure from 10.0.0.1 after 999 tries"
    assert mask(first) == mask(second)


def test_white_space_is_folded() -> None:
    assert mask("  a \t b\r\n\u00a0c  ") == "a b c"


@settings(max_examples=1_500)
@given(st.text() | glued)
@example("12345ab:cd:ef:ab")  # an address that the number before it hid
@example("a@b.com1")
@example("2026-01-02 03:04:05a@b.cc")
@example("a" * 40 + "1" + "a" * 40 + "@b.com")
def test_a_template_is_its_own_template(text: str) -> None:
    assert mask(mask(text)) == mask(text)


@given(st.text() | glued)
def test_no_digit_survives(text: str) -> None:
    assert not any(letter.isdecimal() for letter in mask(text))


@given(st.text() | glued)
def test_any_text_has_words_or_stays(text: str) -> None:
    masked = mask(text)
    stripped = strip_placeholders(masked)
    assert stripped or not masked


def test_placeholders_are_not_embedded() -> None:
    assert strip_placeholders("<time> link <n> is down at <hex>") == "link is down at"
    assert strip_placeholders("<time> <n>") == "<time> <n>"
