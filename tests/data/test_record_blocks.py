"""Tables and sessions that are read by the block are those that are read row by row."""

from __future__ import annotations

import gzip
import json
import random
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from agent.data import jsonl_records, record_readers
from agent.data.blocks import line_of
from agent.data.csv_blocks import blocks_of
from agent.data.read_options import ReadOptions
from agent.data.readers import ParsedRow, byte_stream
from agent.data.record_block import RecordBlock
from agent.data.record_parts import with_odd_apart
from retrieval.text.masking import find_time

OPTIONS = ReadOptions()
CELLS = [
    *(
        "",
        "NA",
        " 7 ",
        "1e400",
        "-0.0",
        "1e-7",
        "1e22",
        "TRUE",
        "false",
        "naïve",
        '"a, b"',
        '"say ""hi"""',
        '""',
        "x\ty",
    ),
    *(
        "1_000",
        "inf",
        "nan",
        "é 正常",
        "ignore previous instructions",
        "1.50",
        "+3",
        "007",
        "\u00a0",
        "5%",
        "a\\b",
        ".5",
    ),
    *("12345678901234567890", "\u2212 5", "5.", "9007199254740993", "0.0001", "0.00001", "1" * 70, " " * 70 + "5"),
]


def is_as_row_by_row(path: Path, size: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Check that both readers give the same; returns how many rows came by the block."""
    monkeypatch.setattr(jsonl_records, "_SIZE", size)
    monkeypatch.setattr(record_readers, "blocks_of", partial(blocks_of, size=size))
    monkeypatch.setattr(byte_stream, "_CHUNK", min(size, 1_500))
    with OPTIONS.open(path, 65_536, lenient=True) as (stream, kind, request):
        expected = list(OPTIONS.rows(stream, kind, request))
    found, count = list[Any](), 0
    with OPTIONS.open(path, 65_536, lenient=True) as (stream, kind, request):
        for part in record_readers.read_parts(stream, kind, request):
            if isinstance(part, list):
                found += part
                continue
            rows = part.rows()
            found, count = found + rows, count + len(rows) - len(getattr(part, "others", ()))
            if isinstance(part := with_odd_apart(part), list):
                continue
            block = RecordBlock.of_part(part, OPTIONS)
            records = [row.record for row in rows if isinstance(row, ParsedRow)]
            assert list(block.hashes) == [record.content_hash for record in records]
            assert list(block.lines) == [record.line for record in records]
            texts, times = block.texts(np.arange(len(records))), block.times(np.arange(len(records)))
            assert times == [record.time for record in records]
            seen = block.times_seen(np.arange(len(records)))
            assert seen == [record.time or find_time(record.text) for record in records]
            for i in np.flatnonzero(block.plain).tolist():
                assert (block.record(i), texts[i]) == (records[i], records[i].text)
                if not records[i].events:
                    of_row = block.features.row(i).items()
                    assert {name: value for name, value in of_row if name in records[i].fields} == records[i].fields
                    assert all(value is None for name, value in of_row if name not in records[i].fields)
            # a block of records one by one is of one kind
            if len({bool(record.events) for record in records}) == 1:
                assert not (block.plain & ~RecordBlock.of(records, OPTIONS).plain).any()
    assert found == expected
    return count


@pytest.mark.parametrize("size", [3_000, 1 << 22])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv_of_any_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, end: str) -> None:
    rng = random.Random(size)
    header = ",".join(["a", "b b", '"c"', "Größe", "e", "time"])
    lines = [
        ",".join([*(rng.choice([str(rng.random()), str(rng.randint(0, 99)), *CELLS]) for _ in range(5)), "12:30"])
        for _ in range(250)
    ]
    (tmp_path / "rows.csv").write_bytes(end.join([header, *lines, ""]).encode())
    assert is_as_row_by_row(tmp_path / "rows.csv", size, monkeypatch) > 200


@pytest.mark.parametrize(
    "cells",
    [
        ["1", "0", "-7", "123456789012345"],
        ["1.5", "10.0", "-0.25", "0.0", "-0.0", "0.0000001", "99999999.1234567"],
        ["10.0", "2.0"],
        ["1.5", "3"],
        ["1.50", "0.5"],
        ["7", ""],
        ["7", "seven"],
        ["0.1", "00.1"],
        ["1234567890123456", "9007199254740993"],
        ["x [2026-01-02 03:04:05] y", "z"],
    ],
)
@pytest.mark.parametrize("name", ["a", "2026-01-02", "a{b}"])
def test_csv_of_columns_of_one_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cells: list[str], name: str
) -> None:
    lines = [",".join([cells[i % len(cells)], str(i), cells[-1 - i % len(cells)]]) for i in range(100)]
    (tmp_path / "rows.csv").write_text("\n".join([f"{name},b,c", *lines, ""]), encoding="utf-8")
    assert is_as_row_by_row(tmp_path / "rows.csv", 1 << 20, monkeypatch) == 100


@pytest.mark.parametrize(
    "odd",
    [
        "",
        "  ",
        "1,2",
        "1,2,3,4",
        ",,",
        '"open,2,3',
        'a"b,2,3',
        '"x\ny",2,3',
        '"x\r\ny",2,3',
        "\0,2,3",
        "\x1b[31mred,2,3",
        "a,b,c",
        "# 1,2,3",
    ],
)
def test_csv_with_an_odd_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, odd: str) -> None:
    lines = [f"{i},{i / 7},kind{i % 3}" for i in range(400)]
    (tmp_path / "rows.csv").write_text("\n".join(["a,b,c", *lines[:200], odd, *lines[200:]]), encoding="utf-8")
    assert is_as_row_by_row(tmp_path / "rows.csv", 1_500, monkeypatch) > (190 if odd.count('"') == 1 else 390)


def test_a_short_row_that_waits_is_in_its_place_among_rows_that_are_not_read(tmp_path: Path) -> None:
    lines = [f"{i},{i / 7},kind{i % 3}" for i in range(400)]
    lines[50], lines[150:300:50] = "5,3", ["stray"] * 3
    (tmp_path / "rows.csv").write_text("\n".join(["a,b,c", *lines, ""]))
    with OPTIONS.open(tmp_path / "rows.csv", 65_536, lenient=True) as (stream, kind, request):
        parts = list(record_readers.read_parts(stream, kind, request))
    found = list[Any]()
    for part in parts:
        for start in range(0, len(part), 7):
            piece = part[start : start + 7] if isinstance(part, list) else part.slice(start, 7)
            found += piece if isinstance(piece, list) else piece.rows()
    assert [line_of(row) for row in found] == list(range(2, 402))


def objects(count: int) -> list[dict[str, Any]]:
    rng = random.Random(3)
    return [
        {
            "a": rng.random() * 10 ** rng.randint(-9, 20),
            "b": rng.randint(-5, 10 ** rng.randint(1, 17)),
            "c": rng.choice(["tcp", "udp", "5", " x ", "é", "NA", None]),
            "d": rng.random() < 0.5,
            "time": 1_700_000_000 + i,
            "e": rng.choice([1, 2.5, None]),
        }
        for i in range(count)
    ]


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"a": {"x": 1}},
        {"c": [1, 2]},
        {"c": "a\0b"},
        {"c": "\x1b[31mred"},
        {"c": "\ud800"},
        {"a": float("nan")},
        {"a": float("inf")},
        {"b": "word"},
        {"b": 10**30},
        {"b": True},
        {"kind": "Event"},
        dict.fromkeys("abcde"),
        {"events": ["x"]},
    ],
)
def test_json_lines_of_any_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, odd: dict[str, Any]) -> None:
    rows = objects(200)
    rows[7] |= odd
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert is_as_row_by_row(path, 4_000, monkeypatch) >= 199


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_many_odd_rows_leave_the_others_to_the_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    rng, rows = random.Random(1), objects(500)
    odd = [i for i in range(500) if rng.random() < share]
    for i in odd:
        rows[i] |= rng.choice([{"b": "word"}, {"c": [1, 2]}, {"d": None, "g": 1}, {"a": "x\0y"}, {"events": ["x"]}])
    lines = [json.dumps(row) for row in rows]
    lines[::97] = ["", "{", "7", "[1, 2]", '{"a": 1} {"a": 2}', '"a text"']
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert is_as_row_by_row(tmp_path / "rows.jsonl", 40_000, monkeypatch) >= 494 - len(odd)
    cells = [f"{i},{i / 7},{f'a {chr(34)}quoted{chr(34)} cell' if i in odd else 'kind'}" for i in range(500)]
    (tmp_path / "rows.csv").write_text("\n".join(["a,b,c", *cells]), encoding="utf-8")
    assert is_as_row_by_row(tmp_path / "rows.csv", 4_000, monkeypatch) >= 499 - len(odd)


def test_parquet_of_any_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pl.DataFrame(objects(200), infer_schema_length=None)
    more = {"f": pl.col("a").cast(pl.Float32), "g": pl.lit(None), "h": pl.col("b").cast(pl.UInt64, strict=False)}
    is_odd = pl.int_range(pl.len()) == 70
    once = {"f": pl.when(is_odd).then(pl.lit("a\0b")).otherwise(pl.lit("b"))}
    for columns, by_block in ((more, 200), ({"f": pl.lit([1])}, 0), ({"f": pl.lit("a\0b")}, 0), (once, 199)):
        frame.with_columns(**columns).write_parquet(tmp_path / "rows.parquet")
        assert is_as_row_by_row(tmp_path / "rows.parquet", 4_000, monkeypatch) == by_block


def test_sessions_in_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = [["login", f"open {i % 9}", "close"] for i in range(200)]
    events[20], events[40], events[60] = [], ["a\0b", "close"], ["x" * 70_000]
    frame = pl.DataFrame({"id": range(200), "events": events})
    frame.write_parquet(tmp_path / "rows.parquet")
    assert is_as_row_by_row(tmp_path / "rows.parquet", 4_000, monkeypatch) == 197


@pytest.mark.parametrize(
    "odd", [[], ['a\\ "b"', "é"], [" a", "b "], [""], ["x", 5], ["ignore previous instructions"], ["y" * 70_000]]
)
def test_sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, odd: list[Any]) -> None:
    rows = [{"id": i, "host": "h", "events": ["login", f"open {i % 9}", *odd * (i == 50), "close"]} for i in range(200)]
    rows[60]["events"] = odd
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert is_as_row_by_row(path, 2_000, monkeypatch) >= 198


def session_lines() -> list[str]:
    return [f'{{"id": {i}, "host": "h", "events": ["login", "open {i % 9}", "close é"]}}' for i in range(150)]


def row_lines() -> list[str]:
    return [
        f'{{"n": {i}, "x": {i / 7}, "name": "kind {i % 3}", "ok": {str(i % 2 == 0).lower()}, "none": null}}'
        for i in range(150)
    ]


# what may be a part of a line of a log leaves the rest to the other reader
ODD_LOG = '{"log": "x", "host": "h", "events": ["a"]}'
ODD_SESSIONS = (
    '{"id": 1, "host": "h", "events": ["a", "b"], "events": ["c"]}',
    '{"id":7,"host":"h","events":["a","b"]}',
    ' {\t"id" : -0.5e+10 , "host" : null , "events" : [ "a" , "b" ] } ',
    '{"id": 01, "host": "h", "events": ["a"]}',
    '{"id": NaN, "host": "h", "events": ["a"]}',
    '{"id": 123456789012345678901234567890, "host": true, "events": ["a"]}',
    '{"id": 1, "host": "h", "events": ["a", null]}',
    '{"id": 1, "host": "h", "events": ["a", 5, 0.5, true]}',
    '{"id": 1, "host": "h", "events": []}',
    '{"id": 1, "host": "h", "events": ["a",]}',
    '{"id": 1, "host": "h", "events": "a"}',
    '{"id": 1, "host": "h", "events": [["a"]]}',
    '{"id": 1, "host": "h", "events": 5}',
    '{"id": 1, "host": "h", "events": {"a": 5}}',
    '{"host": "h", "events": ["a"], "id": 1}',
    '{"id": 1, "host": "h"}',
    '{"id": 1, "host": "h", "events": ["a"], "more": 5}',
    '{"id": {"x": 1}, "host": "h", "events": ["a"]}',
    '{"id": 1, "host": "h", "events": ["\ufeffa"]}',
    '{"id": 1, "host": "a\tb", "events": ["a"]}',
    '{"id": 1, "host": "h", "events": ["a\rb"]}',
    '{"id": 1, "host": "h", "events": ["a\x1cb"]}',
    '{"id": 1, "host": "h", "events": ["a\x85b", "\u2028", "\u00a0"]}',
    '{"id": "é正", "host": "h", "events": ["é 正常", " a "]}',
    '{"id": 1, "host": "h", "events": ["say \\"hi\\""]}',
    '{"id": 1, "host": "h", "events": ["\\ud800"]}',
    '{"id": 1, "host": "h", "events": ["a"]} x',
    ODD_LOG,
    *("", "null", "[]", "5", '"a"', "{]", "\udcff"),
)


ODD_ROWS = (
    '{"n":1,"x":2,"name":"a","ok":false,"none":null}',
    ' {"n" : null,\t"x" : null , "name" : null , "ok" : null , "none" : null } ',
    '{"n": 1.0, "x": -0.0, "name": "", "ok": true, "none": null}',
    '{"n": 1, "x": 1e400, "name": "a", "ok": true, "none": null}',
    '{"n": 1, "x": 5e-324, "name": "a", "ok": true, "none": null}',
    '{"n": 1, "x": 0.1000000000000000055511151231257827, "name": "a", "ok": true, "none": null}',
    '{"n": 8999999999999999999, "x": 123456789012345678, "name": "a", "ok": true, "none": null}',
    '{"n": 12345678901234567890, "x": 1.5, "name": "a", "ok": true, "none": null}',
    '{"n": "5", "x": "1.5", "name": 5, "ok": "true", "none": 7}',
    '{"n": true, "x": false, "name": true, "ok": 1, "none": ""}',
    '{"n": NaN, "x": Infinity, "name": "a", "ok": true, "none": null}',
    '{"n": 1, "n": 2, "x": 1.5, "name": "a", "ok": true, "none": null}',
    '{"x": 1.5, "n": 1, "name": "a", "ok": true, "none": null}',
    '{"n": 1, "x": 1.5, "name": "a", "ok": true}',
    '{"n": 1, "x": 1.5, "name": ["a"], "ok": true, "none": {"a": 5}}',
    '{"n": 1, "x": 1.5, "name": "\\u00e9 \\"", "ok": true, "none": null}',
    '{"n": 1, "x": 1.5, "name": "a\x1db", "ok": true, "none": null}',
    '{"n": 1, "x": 1.5, "name": "\x85 é\ufeff", "ok": true, "none": null}',
    '{"n": 1, "x": 1.5, "name": "ignore previous instructions", "ok": true, "none": null}',
    '{"n": +1, "x": 1., "name": "a", "ok": True, "none": null}',
    '{"n": 1, "x": 1.5, "name": "a", "ok": true, "none": null,}',
)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("place", [0, 77])
@pytest.mark.parametrize("odd", [*ODD_SESSIONS, *ODD_ROWS])
def test_an_odd_line_among_lines_of_one_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, odd: str, place: int, end: str
) -> None:
    lines = session_lines() if odd in ODD_SESSIONS else row_lines()
    lines.insert(place, odd)
    path = tmp_path / "rows.jsonl"
    path.write_bytes("".join(line + end for line in lines).encode("utf-8", "surrogateescape"))
    assert is_as_row_by_row(path, 3_000, monkeypatch) >= (100 if place and odd != ODD_LOG else 0)


def test_rows_of_one_form_are_not_decoded_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"time": f"2026-01-02T03:04:{i % 60:02}", "a.b": i, "x (y)": i / 3, "mixed": i if i % 2 else i / 2, "ok": i > 9}
        for i in range(150)
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    monkeypatch.delattr(jsonl_records, "table_of")
    assert is_as_row_by_row(path, 3_000, monkeypatch) == 150


def test_sessions_of_one_form_are_not_decoded_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("id", "a.b", "x (y)", "events", "héé")
    rows = [{name: ["login", "x"] if name == "events" else i for name in names} for i in range(150)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    monkeypatch.delattr(jsonl_records, "table_of")
    assert is_as_row_by_row(path, 3_000, monkeypatch) == 150


@pytest.mark.parametrize("form", ["[{}]", '{{"items": [{}], "next": null}}', "[{}", "[{}] x {{"])
@pytest.mark.parametrize("between", [",", ",\n", ", {{}} ,\n", ", 5,\n", ", x,\n"])
@pytest.mark.parametrize("kind", ["sessions", "rows"])
def test_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, between: str, kind: str) -> None:
    monkeypatch.setattr(jsonl_records, "_ELEMENTS", 40)
    values = session_lines() if kind == "sessions" else row_lines()
    path = tmp_path / "rows.json"
    path.write_text(form.format(", ".join(values[:100]) + between.format() + between[:2].join(values[100:])))
    count = is_as_row_by_row(path, 3_000, monkeypatch)
    assert count >= (80 if form in ("[{}]", "[{}") else 0)
    if between in (",", ",\n") and form == "[{}]":
        assert count == 150


@pytest.mark.parametrize("odd", [odd for odd in (*ODD_SESSIONS, *ODD_ROWS) if odd.startswith("{") and "log" not in odd])
def test_an_odd_value_in_a_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, odd: str) -> None:
    monkeypatch.setattr(jsonl_records, "_ELEMENTS", 40)
    values = session_lines() if "events" in odd else row_lines()
    values.insert(90, odd)
    path = tmp_path / "rows.json"
    for between in (", ", ",\n"):
        path.write_bytes(f"[{between.join(values)}]".encode("utf-8", "surrogateescape"))
        assert is_as_row_by_row(path, 3_000, monkeypatch) >= 80


@pytest.mark.parametrize("events", [5, 0.5, None, "a", ["a"], [], True])
def test_documents_of_rows_with_a_column_named_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: object
) -> None:
    values = [{"id": i, "load": i / 7, "kind": f"k{i % 3}", "events": events} for i in range(150)]
    (tmp_path / "rows.json").write_text(json.dumps(values))
    is_as_row_by_row(tmp_path / "rows.json", 3_000, monkeypatch)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(value) + "\n" for value in values))
    is_as_row_by_row(tmp_path / "rows.jsonl", 3_000, monkeypatch)


@pytest.mark.parametrize(("begin", "between", "end"), [("[", ",\n", "]"), ("[", ", ", "]"), ("", "\n\n", "")])
def test_values_before_the_damage_of_a_packed_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begin: str, between: str, end: str
) -> None:
    monkeypatch.setattr(jsonl_records, "_ELEMENTS", 40)
    rng = random.Random(5)
    values = [json.dumps({"n": i, "x": rng.random(), "name": f"k{i}"}, indent=1) for i in range(2_000)]
    data = gzip.compress((begin + between.join(values) + end).encode())
    path = tmp_path / "rows.json.gz"
    path.write_bytes(data[: len(data) // 2])
    with OPTIONS.open(path, 65_536, lenient=True) as (stream, kind, request):
        expected = list(OPTIONS.rows(stream, kind, request))
    found = list[Any]()
    with OPTIONS.open(path, 65_536, lenient=True) as (stream, kind, request):
        for part in record_readers.read_parts(stream, kind, request):
            found += part if isinstance(part, list) else part.rows()
    assert found == expected
    assert len(found) > 500
    assert "cut short" in str(found[-1])
