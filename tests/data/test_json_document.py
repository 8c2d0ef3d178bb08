"""JSON in the forms in which services and tools write it: each record is one, with its line."""

from __future__ import annotations

import io
import json
import random
import resource
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from agent.core.errors import InputError
from agent.core.records import Record
from agent.data.read_options import ReadOptions
from agent.data.readers import ParsedRow, RowError, json_document
from agent.data.readers.table_schema import LearnedColumn, TableSchema
from agent.data.record_reading import as_read, dropped_fields
from tests.data.reading import read

ITEMS = [{"level": "info", "message": f"text {number}", "shop": number % 3} for number in range(6)]
TEXTS = [f"level is info message is text {number} shop is {number % 3}" for number in range(6)]


def found(content: str | bytes, **options: Any) -> tuple[list[int | None], list[str], list[tuple[int | None, str]]]:
    """The lines and the texts of the records, and the lines and the reasons of what is none."""
    data = content.encode() if isinstance(content, str) else content
    items = list(read("-", stdin=io.BytesIO(data), **options))
    rows = [item for item in items if isinstance(item, ParsedRow)]
    errors = [(item.line, item.reason) for item in items if isinstance(item, RowError)]
    return [row.record.line for row in rows], [row.record.text for row in rows], errors


def lines_of(content: str, part: str) -> list[int]:
    return [number for number, line in enumerate(content.split("\n"), start=1) if part in line]


ENVELOPES: dict[str, Any] = {
    "cloudtrail": {"Records": ITEMS},
    "kubectl": {"apiVersion": "v1", "kind": "List", "items": ITEMS, "metadata": {"resourceVersion": ""}},
    "elasticsearch": {
        "took": 3,
        "hits": {
            "total": {"value": 6},
            "hits": [{"_index": "x", "_id": str(n), "_source": x} for n, x in enumerate(ITEMS)],
        },
    },
    "filter-log-events": {"events": ITEMS, "searchedLogStreams": []},
    "subscription": {"messageType": "DATA_MESSAGE", "owner": "1", "logGroup": "g", "logEvents": ITEMS},
    "nested": {"request": {"id": "7"}, "data": {"page": 1, "rows": ITEMS}},
    "any": {"page": 1, "total": 6, "answers": ITEMS, "next": None},
}


@pytest.mark.parametrize("envelope", ENVELOPES.values(), ids=ENVELOPES)
@pytest.mark.parametrize("indent", [None, 2, "\t"])
@pytest.mark.parametrize("small", [1 << 20, 50])
def test_an_envelope_gives_a_record_an_element(
    monkeypatch: pytest.MonkeyPatch, envelope: Any, indent: Any, small: int
) -> None:
    monkeypatch.setattr(json_document, "_SMALL", small)
    content = json.dumps(envelope, indent=indent)
    lines, texts, errors = found(content)
    assert (texts, errors) == (TEXTS, [])
    begins = '"_index"' if "hits" in envelope else '"level"'
    assert lines == ([1] * 6 if indent is None else [line - 1 for line in lines_of(content, begins)])


@pytest.mark.parametrize("name", ["cloudtrail", "kubectl", "elasticsearch", "filter-log-events", "subscription"])
def test_an_envelope_a_line(name: str) -> None:
    content = "".join(json.dumps(ENVELOPES[name]) + "\n" for _ in range(3))
    lines, texts, errors = found(content)
    assert (lines, texts, errors) == ([1] * 6 + [2] * 6 + [3] * 6, TEXTS * 3, [])
    assert found(json.dumps([ENVELOPES[name]] * 3))[1] == TEXTS * 3


@pytest.mark.parametrize(
    "record",
    [
        {"order": 7, "items": [{"sku": 1}, {"sku": 2}], "total": 5},
        {"id": "s1", "events": ["open", "close"]},
        {"user": "x", "Records": []},
        {"user": "x", "items": []},
        {"user": "x", "cart": {"items": []}},
        {"scores": [1, 2, 3], "name": "y"},
    ],
)
def test_a_record_with_a_list_is_one_record(record: dict[str, Any]) -> None:
    assert len(found("".join(json.dumps(record) + "\n" for _ in range(3)))[1]) == 3
    assert len(found(json.dumps(record) * 3)[1]) == 3
    if record.get("items") is None or not record["items"]:
        assert len(found(json.dumps(record, indent=1))[1]) == 1


def test_an_object_with_the_label_is_a_record() -> None:
    record = {"Records": ITEMS, "label": 0}
    assert len(found(json.dumps(record), label="label")[1]) == 1
    labelled = {"Records": [{**item, "label": 1} for item in ITEMS]}
    assert found(json.dumps(labelled), label="label")[1] == TEXTS


def test_empty_envelopes() -> None:
    empty = '{"events": [], "searchedLogStreams": []}', '{"apiVersion": "v1", "kind": "List", "items": []}'
    for content in (*empty, '{"Records": []}', '{"Records": []}\n{"logEvents": []}\n', '{"hits": {"hits": []}}'):
        with pytest.raises(InputError, match="has no records"):
            found(content)
    assert found('{"Records": []}\n' + json.dumps({"Records": ITEMS}))[1] == TEXTS


FORMS = {
    "lines": "".join(json.dumps(item) + "\n" for item in ITEMS),
    "back to back": "".join(map(json.dumps, ITEMS)),
    "two a line": "".join(json.dumps(item) + "\n" * (number % 2) for number, item in enumerate(ITEMS)),
    "two a line later": json.dumps(ITEMS[0]) + "\n" + "".join(map(json.dumps, ITEMS[1:])),
    "pretty": "".join(json.dumps(item, indent=2) + "\n" for item in ITEMS),
    "pretty, CRLF": "".join(json.dumps(item, indent=2).replace("\n", "\r\n") + "\r\n" for item in ITEMS),
    "json-seq": "".join("\x1e" + json.dumps(item) + "\n" for item in ITEMS),
    "pretty json-seq": "".join("\x1e" + json.dumps(item, indent=2) + "\n" for item in ITEMS),
    "commas": "".join(json.dumps(item) + ",\n" for item in ITEMS),
    "array": json.dumps(ITEMS),
    "pretty array": json.dumps(ITEMS, indent=1),
    "array with a last comma": "[" + "".join(json.dumps(item) + ",\n" for item in ITEMS) + "]",
    "arrays": json.dumps(ITEMS[:3]) + "\n" + json.dumps(ITEMS[3:]),
    "colours": "".join(f"\x1b[1;39m{json.dumps(item, indent=2)}\x1b[0m\n" for item in ITEMS),
    "joined files": "".join("\ufeff" + json.dumps(item) + "\n" for item in ITEMS),
    "joined pretty files": "".join("\ufeff" + json.dumps(item, indent=2) + "\n" for item in ITEMS),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("size", [1 << 16, 7])
def test_all_forms_give_the_same_records(form: str, size: int) -> None:
    class Pipe:
        def __init__(self) -> None:
            self.rest = form.encode()

        def read(self, _: int) -> bytes:
            part, self.rest = self.rest[:size], self.rest[size:]
            return part

    items = list(read("-", stdin=Pipe()))
    assert [item.record.text for item in items if isinstance(item, ParsedRow)] == TEXTS
    assert len(items) == 6
    begins = [number for number, line in enumerate(form.split("\n"), start=1) for _ in range(line.count("{"))]
    assert [item.record.line for item in items if isinstance(item, ParsedRow)] == begins


@pytest.mark.parametrize("form", ["lines", "pretty", "pretty array"])
def test_a_banner_before_the_first_value_is_noted(form: str) -> None:
    content = "Exported 3 [records]\n-----\n" + FORMS[form]
    (first, *_) = read("-", stdin=io.BytesIO(content.encode()), format="jsonl")
    assert isinstance(first, ParsedRow)
    assert first.notes == ("what stands before the first JSON value is not read (2 lines)",)
    assert found(content, format="jsonl")[1:] == (TEXTS, [])


def test_text_between_values_is_skipped_and_named() -> None:
    content = FORMS["pretty"] + "Done, 6 records.\n" + FORMS["pretty"]
    lines, texts, errors = found(content)
    assert texts == TEXTS * 2
    assert errors == [(31, "not JSON: Extra data at column 1")]
    assert lines[6] == 32


def test_what_is_not_read_after_a_broken_array_is_counted() -> None:
    content = json.dumps({"Records": ITEMS}, indent=1).replace('"text 3"', "text 3")
    _, texts, errors = found(content)
    assert texts == TEXTS[:3] + TEXTS[4:]
    assert "Expecting value" in errors[0][1]
    array = json.dumps(ITEMS, indent=1).replace('"text 3"', "text 3")
    _, texts, errors = found(array)
    assert texts == TEXTS[:3]
    rest = array[array.index("{", array.index("text 2")) :]
    assert errors[0][0] == lines_of(array, "text 3")[0]
    assert errors[0][1].endswith(f"what follows is not read: {len(rest)} bytes on {rest.count(chr(10)) + 1} lines")


@pytest.mark.parametrize("form", ["pretty", "pretty array", "back to back", "lines"])
@pytest.mark.parametrize("cut", [3, 40])
def test_a_file_that_ends_in_the_middle(form: str, cut: int) -> None:
    _, texts, errors = found(FORMS[form][:-cut])
    assert 4 <= len(texts) <= 6
    assert texts == TEXTS[: len(texts)]
    assert len(errors) == 1


def test_bytes_of_the_journal_are_text() -> None:
    message = "\x1b[31mdisk für Ordnung verloren\x1b[0m"
    records = [
        {"__CURSOR": "s=1", "MESSAGE": list(message.encode()), "PRIORITY": "6"},
        {"MESSAGE": list(b"broken \xff")},
        {"SCORES": [1, 2, 3]},
        {"MESSAGE": [1, 2, 300]},
    ]
    texts = found("".join(json.dumps(record) + "\n" for record in records))[1]
    assert texts == [
        "disk für Ordnung verloren",
        "broken \ufffd",
        "1, 2, 3",
        "1, 2, 300",
    ]


def test_parts_of_a_long_line_that_docker_cut_are_one_record() -> None:
    parts = [("a\n", "stdout"), ("b be", "stdout"), ("gins and ", "stdout"), ("ends\n", "stdout"), ("cut", "stdout")]
    parts += [("c\n", "stderr")]
    content = "".join(json.dumps({"log": log, "stream": stream, "time": "2026-01-02"}) + "\n" for log, stream in parts)
    lines, texts, _ = found(content)
    assert [text.replace("\n", "") for text in texts] == [
        "a",
        "b begins and ends",
        "cut",
        "c",
    ]
    assert lines == [1, 2, 5, 6]


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux only")
def test_a_large_envelope_is_read_in_bounded_memory_as_fast_as_lines(tmp_path: Path) -> None:
    rng = random.Random(7)
    items = [{"number": n, "message": f"text {rng.random()}", "tags": ["a"] * 9} for n in range(30_000)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    (tmp_path / "a.json").write_text(json.dumps({"total": 1, "Records": items}, indent=1))
    del items

    def read_all(name: str) -> tuple[int, float]:
        started = time.process_time()
        count = sum(isinstance(item, ParsedRow) for item in read(tmp_path / name))
        return count, time.process_time() - started

    count, seconds = read_all("a.jsonl")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert read_all("a.json")[0] == count == 30_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30 * 1024
    assert read_all("a.json")[1] < 2 * seconds


def test_a_line_of_a_container_is_its_text(tmp_path: Path) -> None:
    lines = ["speed is 40 load is 3\n", "out of ", "memory: killed\n", "ready\r\n"]
    path = tmp_path / "c.log"
    path.write_text(
        "".join(
            json.dumps({"log": line, "stream": "stdout", "time": f"2024-03-01T00:00:0{i}Z"}) + "\n"
            for i, line in enumerate(lines)
        )
    )
    records = [row.record for row in read(path) if isinstance(row, ParsedRow)]
    assert [record.text for record in records] == ["speed is 40 load is 3", "out of memory: killed", "ready"]
    assert [record.fields for record in records] == [{"speed": 40.0, "load": 3.0}, {}, {}]
    assert records[1].time == "2024-03-01T00:00:01Z"
    # columns that are named, or that were learned, are read
    named = [row.record.text for row in read(path, text=["stream", "log"]) if isinstance(row, ParsedRow)]
    assert named[2] == "stream is stdout log is ready"
    learned = TableSchema(columns=tuple(LearnedColumn(name=name, type="text") for name in ("log", "stream")))
    assert [row.record.fields["stream"] for row in read(path, table=learned) if isinstance(row, ParsedRow)] == [
        "stdout"
    ] * 3


LOG_OBJECTS = [
    ({"log": "disk lost\n", "stream": "stderr", "time": "2026-01-02"}, "2026-01-02"),
    ({"__CURSOR": "s=1", "MESSAGE": "disk lost", "PRIORITY": "6"}, None),
    ({"__REALTIME_TIMESTAMP": "1767225600123456", "MESSAGE": "disk lost"}, "2026-01-01T00:00:00.123+00:00"),
    ({"_BOOT_ID": "9f", "__REALTIME_TIMESTAMP": "soon", "MESSAGE": "disk lost"}, None),
    ({"log": "disk lost", "stream": "stderr", "kubernetes": {"pod_name": "p"}}, None),
    ({"message": "disk lost", "kubernetes": {"pod_name": "p"}, "time": "2026"}, "2026"),
    ({"kind": "Event", "message": "disk lost", "involvedObject": {"name": "p"}, "count": 3}, None),
    ({"kind": "Event", "note": "disk lost", "regarding": {"name": "p"}, "reason": "Failed"}, None),
]


@pytest.mark.parametrize(("value", "time"), LOG_OBJECTS)
def test_of_a_line_of_a_log_the_message_is_the_text_and_it_is_said(value: dict[str, object], time: str | None) -> None:
    (row,) = read("-", stdin=io.BytesIO(json.dumps(value).encode()))
    assert isinstance(row, ParsedRow)
    assert (row.record.text, row.record.fields, row.record.time) == ("disk lost", {}, time)
    assert "--text names others" in row.notes[0]
    if not any(isinstance(item, dict) for item in value.values()):
        # as by HTTP, from the chat and from Python
        sent = Record(fields=value)  # type: ignore[arg-type]
        by_request = as_read(sent, ReadOptions())
        assert (by_request.text, by_request.fields, by_request.time) == ("disk lost", {}, time)
        assert dropped_fields(sent, by_request, ReadOptions()) == ()


@pytest.mark.parametrize(
    "value",
    [
        {"MESSAGE": "disk lost", "PRIORITY": "6"},
        {"log": "disk lost", "level": "warn"},
        {"kind": "Event", "message": "disk lost"},
        {"__CURSOR": "s=1", "PRIORITY": "6"},
    ],
)
def test_what_only_looks_like_one_is_read_as_any_object(value: dict[str, object]) -> None:
    (row,) = read("-", stdin=io.BytesIO(json.dumps(value).encode()))
    assert isinstance(row, ParsedRow)
    assert set(row.record.fields) == set(value)
    assert row.notes == ()


def test_columns_that_are_named_are_read_of_a_line_of_the_journal() -> None:
    value = {"__CURSOR": "s=1", "MESSAGE": "disk lost", "PRIORITY": "6"}
    content = io.BytesIO(json.dumps(value).encode())
    (row,) = read("-", stdin=content, text=("MESSAGE", "PRIORITY"))
    assert isinstance(row, ParsedRow)
    assert (set(row.record.fields), row.notes) == ({"MESSAGE", "PRIORITY"}, ())
