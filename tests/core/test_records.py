"""A record has the same content hash at every entry point."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from agent.core.errors import InputError
from agent.core.records import Case, Record, clean_text
from agent.core.requests import JudgeRequest, parse_request, parse_request_fast, parse_requests, parse_text_line
from agent.data.readers import ParsedRow
from agent.pipeline.verdict_json import text_content
from tests.data.reading import read

DIRTY = st.text(
    st.one_of(st.characters(codec="utf-8"), st.sampled_from("\0\ud800\udbff\udc00\udfff\ufffd")),
    min_size=1,
    max_size=12,
)
# a letter in front: no number, no missing value, no space at the ends that a table's cell would lose
WORD = DIRTY.map(lambda text: f"w{text}w")


def by_file(row: dict[str, Any]) -> Record:
    (item,) = read("-", stdin=io.BytesIO(json.dumps(row).encode()), format="jsonl")
    assert isinstance(item, ParsedRow)
    return item.record


def by_every_entry_point(parts: dict[str, Any]) -> dict[str, Record]:
    sent = json.loads(json.dumps(parts))
    return {
        "Record": Record(**parts),
        "JudgeRequest": JudgeRequest(**parts).record,
        "parse_request": parse_request(sent, 10_000).record,
        "parse_request_fast": parse_request_fast(sent, 10_000).record,
    }


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("plain", "plain"),
        ("a\0b", "a\ufffdb"),
        ("a\ud800b\udfff", "a\ufffdb\ufffd"),
        ("\ud83d\ude00", "\U0001f600"),
        ("\udc00\ud800\0é", "\ufffd\ufffd\ufffdé"),
    ],
)
def test_only_what_cannot_be_stored_is_replaced(text: str, cleaned: str) -> None:
    assert clean_text(text) == cleaned == clean_text(cleaned)


@settings(max_examples=200, deadline=None)
@given(DIRTY)
def test_clean_text_can_be_stored_and_is_no_longer_than_before(text: str) -> None:
    cleaned = clean_text(text)
    assert "\0" not in cleaned.encode().decode()
    assert len(cleaned) <= len(text)


@settings(max_examples=150, deadline=None)
@given(WORD)
def test_a_text_has_one_content_hash(text: str) -> None:
    expected = by_file({"text": text}).content_hash
    for entry_point, record in by_every_entry_point({"text": text}).items():
        assert record.content_hash == expected, entry_point
    request = JudgeRequest(text=text)
    assert request.text == request.record.text


@settings(max_examples=150, deadline=None)
@given(st.lists(WORD, min_size=1, max_size=4))
def test_a_session_has_one_content_hash(events: list[str]) -> None:
    expected = by_file({"events": events})
    for parts in ({"text": " ; ".join(events), "events": events}, {"events": events}, {"text": "", "events": events}):
        for entry_point, record in by_every_entry_point(parts).items():
            assert record.content_hash == expected.content_hash, entry_point
    assert JudgeRequest(events=events).text == expected.text


def test_sessions_of_a_batch_need_no_text() -> None:
    expected = by_file({"events": ["a", "b"]}).content_hash
    (request,), _ = parse_requests({"records": [{"events": ["a", "b"]}]}, 10_000)
    assert request.record.content_hash == expected
    assert Case.model_validate({"record": {"events": ["a", "b"]}, "label": "normal"}).record.content_hash == expected


@pytest.mark.parametrize("events", [5, [5], ["a", None], {"a": 1}])
def test_events_of_another_type_are_refused(events: object) -> None:
    with pytest.raises(ValidationError):
        parse_request({"events": events}, 10_000)


def test_the_text_of_a_session_does_not_count_beside_its_events() -> None:
    session = {"events": ["word"] * 10}
    assert len(parse_request(session, 67).record.text) == 67
    with pytest.raises(InputError, match="a record of 67 characters; the limit is 66"):
        parse_request(session, 66)
    with pytest.raises(InputError, match="a record of 45 characters"):
        parse_request({**session, "text": "other"}, 44)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(WORD, WORD | st.floats(width=32), min_size=2, max_size=4))
def test_a_row_has_one_content_hash(fields: dict[str, Any]) -> None:
    expected = by_file(fields)
    for entry_point, record in by_every_entry_point({"text": expected.text, "fields": fields}).items():
        assert record.content_hash == expected.content_hash, entry_point


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b"])
def test_file_and_time_are_cleaned_too(text: str) -> None:
    record = Record(text="a", file=text, time=text)
    assert (record.file, record.time) == ("a\ufffdb", "a\ufffdb")


@settings(max_examples=200, deadline=None)
@given(WORD)
def test_the_content_of_a_text_alone_is_that_of_its_record(text: str) -> None:
    record = Record(text=text)
    assert text_content(record.text).sha256 == record.content_hash


@pytest.mark.parametrize(
    "line",
    [
        b'{"text": "a \\u00e9", "line": 3}',
        b'{"text": "a", "text": "b"}',
        b'{"text": "\\ud83d\\ude00"}\r',
        b'{"text": "\\ud800"}',
        b'{"text": "a\\u0000b"}',
        b'{"text": "\\u001b[1m red"}',
        b'\xef\xbb\xbf{"text": "a"}',
        b'{"text": "a", "line": 12345678901234567890123456789}',
        b'{"text": "a", "line": 1.0}',
        b'{"text": "a", "line": true}',
        b'{"text": "a", "fields": {"x": NaN}}',
        b'{"text": " "}',
        b'{"text": "\xff"}',
        b'["a"]',
        b'{"text": "a"',
    ],
)
def test_a_line_that_is_parsed_quickly_is_parsed_as_by_json(line: bytes) -> None:
    quick = parse_text_line(line, 100)
    if quick is not None:
        assert quick == replace(parse_request_fast(json.loads(line), 100), raw=line)


def test_plain_lines_are_parsed_quickly() -> None:
    assert parse_text_line(b'{"text": "a", "source": "s", "line": 3}', 100) is not None
