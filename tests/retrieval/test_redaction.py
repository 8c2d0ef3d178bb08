"""Secrets and personal data: what goes, what stays, and what the placeholders are."""

from __future__ import annotations

from typing import NoReturn

import polars as pl
import pytest

from benchmarks.redaction_held_out import held_out
from benchmarks.redaction_lines import first
from retrieval.text.masked_forms import masked_forms
from retrieval.text.masking import mask
from retrieval.text.redaction import DEFAULT_KINDS, KINDS, Redactor, is_of_placeholder
from retrieval.text.redaction_finders import FINDERS, PLACEHOLDER

KEY = b"of a test"
REDACTOR = Redactor(DEFAULT_KINDS, KEY)
ALL = Redactor(KINDS, KEY)
LINES = [line for make in (first, held_out) for line in make(5, 600)]

KEY_LINES = ("MIIEpAIBAAKCAQEAu1SU1LfVLPHCozMxH2Mo4lgOEePzNm0t", "RgeLezV6ffAt0gun")
PEM = "\n".join(["-----BEGIN RSA PRIVATE KEY-----", *KEY_LINES, "-----END RSA PRIVATE KEY-----"])
GONE = [
    ("password=hunter2 user=ann", "hunter2", "secret"),
    ('{"password": "a\\"b c", "user": "ann"}', 'a\\"b c', "secret"),
    ('{"m": "{\\"apiKey\\":\\"abc\\"}"}', "abc", "secret"),
    ("postgres://app:p@ss@db/x", "p@ss", "secret"),
    ("Authorization: Basic YW5uOmh1bnRlcjI=", "YW5uOmh1bnRlcjI=", "secret"),
    ("run --db-password swordfish now", "swordfish", "secret"),
    ("Cookie: a=b1; sid=c2d3", "c2d3", "secret"),
    ("the password is swordfish", "swordfish", "secret"),
    (f"loaded {PEM} from disk", KEY_LINES[0], "secret"),
    (PEM.replace("\n", "\\n"), "RgeLezV6ffAt0gun", "secret"),
    ("".join(KEY_LINES), "MIIEpAIBAAKC", "secret"),
    ("token ghp_0123456789abcdefABCDEF0123456789abcd", "ghp_", "secret"),
    ("password=" + "xy" * 5_000 + " end", "xyxy", "secret"),
    ('password="' + "x y" * 5_000 + '" end', "x y", "secret"),
    ("card 4111 1111 1111 1111 123", "4111 1111 1111 1111", "card"),
    ("pan=378282246310005", "378282246310005", "card"),
    ("to DE89 3704 0044 0532 0130 00 foo", "DE89 3704 0044 0532 0130 00", "iban"),
    ("mail ann.lee+x@example.co.uk bounced", "ann.lee+x@example.co.uk", "email"),
    ("ünïcode.ann@bücher.example", "ann@", "email"),
    ("?mail=ann%40example.com&x", "ann%40example.com", "email"),
    ("call +49 30 1234567", "1234567", "phone"),
    ("(212) 555-1234 called", "(212) 555-1234", "phone"),
    ("tel: 030 / 1234567", "030 / 1234567", "phone"),
]
STAYS = [
    "Failed password for root from 10.0.0.1 port 22 ssh2",
    "request 2038d30d-711d-43be-be81-c90d3c1e7cea took 12 ms",
    "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "ts=1600000000000 version 2.10.4 on 2026-01-02 03:04:05,678 +0200",
    "block blk_-1608999687919862906 and blk_4111111111111111",
    "at 0x00007f3a4111111111111111 in /var/log/app.log",
    "name@2x.png user@1000.service root@db.example.com:~# lodash@4.17.21",
    "password is expired; password=*** password=${DB_PASSWORD} pwd=null",
    "unexpected token: identifier, tokens=17 max_tokens=4096 password_length=9",
    "PWD=/srv/app ; USER=root",
    "sid=S-1-5-21-111-222-333 compass=north4you monkey=banana7x",
    "card 4111111111111112 and iban DE88370400440532013000",
    "404 512 1024",
    "",
    "ಠ_ಠ \U0001f600 \ufeff",
]


@pytest.mark.parametrize(("text", "value", "kind"), GONE)
def test_values_go(text: str, value: str, kind: str) -> None:
    redacted = REDACTOR.text(text)
    assert value not in redacted
    assert f"<{kind}:" in redacted


@pytest.mark.parametrize("text", STAYS)
def test_what_looks_alike_stays(text: str) -> None:
    assert REDACTOR.text(text) == text


def test_addresses_go_only_by_name() -> None:
    assert REDACTOR.text("from 10.0.0.1") == "from 10.0.0.1"
    assert ALL.text("10.0.0.1:22 fe80::1 12:34:56 1.2.3.4.5").count("<ip:") == 2


def test_kinds_are_those_that_were_asked_for() -> None:
    only = Redactor(["email"], KEY)
    assert only.text("password=hunter2 ann@example.com").startswith("password=hunter2 <email:")
    with pytest.raises(ValueError, match="emial"):
        Redactor(["emial"], KEY)


def test_the_same_value_has_the_same_placeholder_under_one_key_only() -> None:
    spellings = ["+1 (212) 555-1234", "212-555-1234", "(212) 555-1234"]
    assert len({REDACTOR.text(f"{text} x") for text in spellings}) == 1
    assert REDACTOR.text("4111-1111-1111-1111") == REDACTOR.text("4111111111111111")
    assert Redactor(KINDS, b"other").text("ann@example.com") != REDACTOR.text("ann@example.com")


@pytest.mark.parametrize("redactor", [REDACTOR, ALL])
def test_redacting_twice_changes_nothing(redactor: Redactor) -> None:
    texts = [line.text for line in LINES] + [text for text, *_ in GONE] + STAYS
    glued = [first + second for first, second in zip(texts, reversed(texts), strict=True)]
    for text in texts + glued:
        once = redactor.text(text)
        assert redactor.text(once) == once


@pytest.mark.parametrize("redactor", [REDACTOR, ALL])
def test_what_is_redacted_is_suspect_in_many_texts(redactor: Redactor) -> None:
    texts = [line.text for line in LINES] + [text for text, *_ in GONE] + STAYS
    texts += [first + second for first, second in zip(texts, reversed(texts), strict=True)]
    suspects = redactor.suspects(pl.Series(texts)).to_list()
    missed = [
        text for text, suspect in zip(texts, suspects, strict=True) if not suspect and redactor.text(text) != text
    ]
    assert not missed
    assert redactor.suspects(pl.Series([None, "a"], dtype=pl.String)).to_list() == [False, False]


def test_records_that_differ_in_such_values_alone_have_one_template() -> None:
    lines = [f"user {name}@example.com paid by 411111111111{digits} password={word}" for name, digits, word in
             [("ann", "1111", "hunter2"), ("bob.lee", "1129", "Tr0ub4dor"), ("x", "1145", "12345678")]]  # fmt: skip
    redacted = [REDACTOR.text(line) for line in lines]
    assert len(set(redacted)) == 3
    assert {mask(line) for line in redacted} == {"user <email:<n>> paid by <card:<n>> password=<secret:<n>>"}
    assert masked_forms(pl.Series(redacted), longest=1_000).n_unique() == 1


def test_fields() -> None:
    fields: dict[str, float | str | bool | None] = {"db_password": "a b", "pin": 4711.0, "card": 4111111111111111.0,
              "user": "ann@example.com", "n": 5.0,
              "token": 7.0, "mobile": "030 1234567", "ok": True, "none": None, "passwd": "expired"}  # fmt: skip
    redacted = REDACTOR.fields(fields)
    assert {name for name in fields if redacted[name] != fields[name]} == {"db_password", "card", "user", "mobile"}
    assert all(PLACEHOLDER.fullmatch(str(redacted[name])) for name in ("db_password", "card", "user", "mobile"))
    assert REDACTOR.fields(redacted) == redacted


def test_a_value_beside_something_like_a_placeholder_goes() -> None:
    assert "hunter2" not in REDACTOR.text("password=<secret:0123456789>hunter2")


@pytest.mark.parametrize("unit", ["pass='", "a@", "4111 ", "://a:", "eyJ", "a_", "auth:/a/", "<password ", "\\", "+1 "])
def test_hostile_texts_end(unit: str) -> None:
    text = unit * (100_000 // len(unit))
    redacted = REDACTOR.text(text)
    assert REDACTOR.text(redacted) == redacted


@pytest.mark.parametrize(
    "unit",
    [
        "authorization: digest a1 ",
        "authorization: hawk id='a1',",
        "pass='",
        "-----BEGIN PRIVATE KEY-----",
        "--password 'a ",
    ],
)
def test_no_part_of_a_text_is_looked_at_again_for_each_value(unit: str) -> None:
    text = unit * 50
    for finders in FINDERS.values():
        for find in finders:
            assert sum(end - start for start, end, *_ in find(text)) <= len(text), find.__name__


def test_placeholders_are_found_without_walking_to_them() -> None:
    class Places(list[tuple[int, int]]):
        def __iter__(self) -> NoReturn:
            raise AssertionError("all places are walked through for each value")

    taken = Places((place, place + 5) for place in range(0, 100, 10))
    assert [
        is_of_placeholder(start, end, taken) for start, end in ((20, 25), (21, 24), (25, 30), (18, 22), (18, 27))
    ] == [*(True, True, False, True, False)]
