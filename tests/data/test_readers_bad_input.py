"""What is wrong with a file is said, with its place, and everything else of it is still read."""

from __future__ import annotations

import gzip
import json
import resource
import sys
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import zstandard

from agent.core.errors import InputError, UsageError
from agent.data.readers import ParsedRow, RowError
from tests.data.reading import read

# without the time, which would be in the tests' names
GZIP = partial(gzip.compress, mtime=0)
ELF = b"\x7fELF\x02\x01\x01" + bytes(range(256)) * 40


def lines_and_problems(path: Path, **options: Any) -> tuple[list[int | None], list[tuple[int | None, str]]]:
    items = list(read(path, **options))
    return (
        [item.record.line for item in items if isinstance(item, ParsedRow)],
        [(item.line, item.reason) for item in items if isinstance(item, RowError)],
    )


@pytest.mark.parametrize(
    ("name", "content", "options", "says"),
    [
        ("a.log", b"", {}, "is empty"),
        ("a.log.gz", GZIP(b""), {}, "is empty"),
        ("a.log.zst", zstandard.compress(b""), {}, "is empty"),
        ("a.log", b"\n \n\r\n", {}, "has no records"),
        ("a.csv", b"\n\n", {}, "has no records"),
        ("a.csv", b"text,label\n", {"label": "label"}, "has no records"),
        ("a.json", b"[]", {}, "has no records"),
        ("a.log", ELF, {}, r"looks like a binary file \(a program\)"),
        ("a.csv", ELF, {"format": "csv"}, "looks like a binary file"),
        ("a.log", b"PK\x03\x04 whatever", {}, r"looks like a binary file \(a zip archive: unpack it first\)"),
        ("a.log.gz", GZIP(GZIP(b"a")), {}, r"looks like a binary file \(packed twice"),
        ("a.log", bytes(5_000) + b"text", {}, "looks like a binary file"),
        ("a.txt", "Съешь ещё этих мягких булок".encode("koi8-r"), {}, "another encoding.*iconv"),
        ("a.parquet", b"no Parquet at all", {}, "named .parquet but holds none"),
        ("a.parquet", b"PAR1" + bytes(100) + b"PAR1", {}, "is not Parquet that can be read"),
        ("a.log", b"text", {"format": "parquet"}, "is not Parquet"),
        ("a.csv", b"text,label\nx,0\n", {"label": "Label"}, "no column 'Label'; its columns are 'text', 'label'"),
        ("a.csv", b"text,label\nx,0\n", {"text": ["txt"]}, "no column 'txt'; its columns are 'text', 'label'"),
        ("a.csv", b"1,2\n3,4\n", {"label": "7"}, "no column '7'; it has no header: its columns are 0 to 1"),
        ("a.csv", b"1,2\n3,4\n", {"text": ["0-1"], "label": "1"}, "'1' is the label"),
        ("a.log", b"a b\nc d\n", {"text": ["0-1"], "label": "1"}, "1 is the label"),
        ("a.txt", b"\n<!-- x -->\n<!DOCTYPE html>\n<p>x", {}, "is an HTML page"),
        ("-", b"<HTML lang=en>\n<p>x", {}, "is an HTML page"),
        ("a.csv", b"time,label\n1,0\n", {"label": "label"}, "no column left"),
        ("a.jsonl", b'{"a": 1}\n{"b": 2}\n', {"label": "c"}, "no column 'c'; its columns are 'a', 'b'"),
        ("a.jsonl", b'{"a": {"b": 1}}\n', {"text": ["a.c"]}, "no column 'a.c'; its columns are 'a.b'"),
        ("a.json", b'[{"a": 1}]', {"label": "c"}, "no column 'c'; its columns are 'a'"),
    ],
)
def test_wrong_as_a_whole(tmp_path: Path, name: str, content: bytes, options: dict[str, Any], says: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=says) as caught:
        next(read(path, **options))
    assert caught.value.file == str(path)
    assert str(caught.value).startswith(str(path))


def test_missing_parquet_column(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pl.DataFrame({"a": [1], "b": [{"c": 2}]}).write_parquet(path)
    with pytest.raises(InputError, match=r"no column 'x'; its columns are 'a', 'b', 'b\.c'"):
        next(read(path, label="x"))


def test_paths_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no such file"):
        next(read(tmp_path / "absent.log"))
    with pytest.raises(InputError, match="is a directory: name the files in it"):
        next(read(tmp_path))
    with pytest.raises(InputError, match="is not a valid file name"):
        next(read("a\0b"))

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match=r"no permission to read it.*chmod"):
        next(read(tmp_path / "mine.log"))


def test_a_range_that_goes_downwards(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("1,2\n3,4\n")
    with pytest.raises(UsageError, match="5-2: a range goes upwards, 2-5"):
        next(read(path, text=["5-2"]))


def test_an_unreadable_row_says_where() -> None:
    assert str(RowError("app.log", 12, "reason")) == "app.log:12: reason"
    assert str(RowError("app.log", None, "reason")) == "app.log: reason"


def test_a_word_that_most_entries_of_a_log_lack_is_not_their_label(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("a b\nc d\ne f g h i 0\n")
    with pytest.raises(InputError, match=r"most of its entries have no label \(2 of 3\)"):
        list(read(path, label="5"))
    assert len(list(read(path, label="5", lenient=True))) == 3
    assert len(lines_and_problems(path, label="1")[0]) == 3


@pytest.mark.parametrize(
    ("name", "content", "options", "good", "problems"),
    [
        ("a.csv", "a,b,c\n1,2,3\n4\n6,7,8\n", {}, [2, 4], [(3, "expected 3 columns, found 1")]),
        ("a.csv", "a,b,c\n1,2,3\n4,5,6,7\n6,7,8\n", {}, [2, 4], [(3, "expected 3 columns, found 4")]),
        ("a.csv", 'a,b\n1,2\n3,"4\n5,6\n7,8\n', {}, [2, 4, 5], [(3, "an opening quote is never closed")]),
        ("a.csv", 'a,b\n1,2\n"3,4\n5,6\n"7,8\n9,1\n', {}, [2, 4, 6], [(3, "not doubled"), (5, "never closed")]),
        ("a.csv", "a,b\n1,2\n3,x\ry\n5,6\n", {}, [2, 4], [(3, "a carriage return inside a field")]),
        (
            "a.csv",
            "a,label\n1,0\n2,\n3,1\n4,nan\n",
            {"label": "label"},
            [2, 4],
            [(3, "no label in"), (5, "no label in")],
        ),
        ("a.csv", "t,x\n,1\nhi,2\n", {"text": ["t"]}, [3], [(2, "the text is empty")]),
        ("a.log", "- a b\nx\n", {"label": "1"}, [1], [(2, "no label in column '1'")]),
        ("a.log", "BAD\nBAD a\n", {"label": "0"}, [2], [(1, "its only word is the label column")]),
        ("a.jsonl", '{"a": 1}\n{"a": \n{"a": 2}\n', {}, [1, 3], [(2, "not JSON: Expecting value at column 7")]),
        ("a.jsonl", '{"a": 1}\n[1]\n3\nnull\n', {}, [1], [(2, "a list"), (3, "a number"), (4, "null")]),
        ("a.jsonl", '{"a": 1}\n{}\n""\n', {}, [1], [(2, "the text is empty"), (3, "the text is empty")]),
        ("a.jsonl", '{"a": 1, "y": 0}\n{"a": 1}\n"a"\n', {"label": "y"}, [1], [(2, "no label"), (3, "no label")]),
        ("a.jsonl", '{"events": ["a"]}\n{"events": []}\n', {}, [1], [(2, "a session without events")]),
        ("a.jsonl", '{"events": ["a"]}\n{"events": ["a", {}]}\n', {}, [1], [(2, "event 2 of the session")]),
        ("a.jsonl", '{"a": 1}\n' + "[" * 100_000 + "\n", {}, [1], [(2, "nested too deeply")]),
        ("a.jsonl", '{"a": 1}\n{"a": ' + "9" * 5_000 + "}\n", {}, [1], [(2, "not JSON that can be read")]),
        ("a.json", '[{"a": 1},\n{"a": 2},\n{"a" 3}]', {}, [1, 2], [(3, "at column 6; what follows is not read: 8 ")]),
        ("a.json", '[{"a": 1},\n{"a": 2}', {}, [1, 2], [(2, "Expecting ',' or ']'")]),
        ("a.json", '[{"a": 1}]\nmore', {}, [1], [(2, "Extra data")]),
    ],
)
def test_one_bad_row_among_good_ones(
    tmp_path: Path,
    name: str,
    content: str,
    options: dict[str, Any],
    good: list[int],
    problems: list[tuple[int, str]],
) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode())
    lines, found = lines_and_problems(path, **options)
    assert lines == good
    assert [line for line, _ in found] == [line for line, _ in problems]
    for (_, reason), (_, expected) in zip(found, problems, strict=True):
        assert expected in reason


def test_a_stray_quote_swallows_nothing_of_a_big_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\n" + "1,2\n" * 100 + '3,"4\n' + "5,6\n" * 5_000)
    lines, problems = lines_and_problems(path)
    assert problems == [(102, "an opening quote is never closed")]
    assert lines == [*range(2, 102), *range(103, 5_103)]


def test_a_quote_that_closes_only_far_away_is_not_one_cell(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('a,b\n1,2\n3,"4\n' + "5,6\n" * 1_500 + '7,8"\n9,0\n')
    lines, problems = lines_and_problems(path)
    assert problems == [(3, "an opening quote is never closed")]
    assert lines == [2, *range(4, 1_506)]


def test_a_field_longer_than_the_limit_is_one_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1,2\n3," + "x" * (1 << 21) + "\n5,6\n")
    lines, problems = lines_and_problems(path)
    assert (lines, problems) == ([2, 4], [(3, "a field longer than 1048576 characters")])


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
@pytest.mark.parametrize(("name", "first"), [("a.log", "x y z"), ("a.csv", "x,y,z"), ("a.jsonl", '{"n": "first"}')])
def test_a_packed_file_cut_short_is_read_up_to_there(tmp_path: Path, pack: Any, name: str, first: str) -> None:
    noise = [hex(pow(3, n, 2**127 - 1)) for n in range(20_000)]
    rows = {"a.log": "{}", "a.csv": "{},1,2", "a.jsonl": '{{"n": "{}"}}'}[name]
    whole = "\n".join([first, *(rows.format(each) for each in noise)]).encode()
    packed = pack(whole)
    path = tmp_path / name
    path.write_bytes(packed[: len(packed) // 2])
    lines, problems = lines_and_problems(path)
    assert len(lines) > 5_000
    assert lines == list(range(lines[0] or 0, len(lines) + (lines[0] or 0)))
    assert [line for line, _ in problems] == [(lines[-1] or 0) + 1]
    assert "cut short" in problems[0][1]


@pytest.mark.parametrize(("pack", "first_bad"), [(gzip.compress, -8), (zstandard.compress, 200_000)])
def test_damage_inside_a_packed_file(tmp_path: Path, pack: Any, first_bad: int) -> None:
    packed = bytearray(pack("\n".join(hex(pow(3, n, 2**127 - 1)) for n in range(20_000)).encode()))
    packed[first_bad:] = b"\xff" * len(packed[first_bad:])
    path = tmp_path / "a.log"
    path.write_bytes(packed)
    lines, problems = lines_and_problems(path)
    assert len(lines) > 5_000
    assert lines == list(range(1, len(lines) + 1))
    assert [line for line, _ in problems] == [len(lines) + 1]
    assert "is damaged from here on" in problems[0][1]


def test_a_read_error_on_the_way_is_reported_after_what_was_read(tmp_path: Path) -> None:
    class Failing:
        def __init__(self) -> None:
            self.parts = [b"one\ntwo\nthr"]

        def read(self, size: int) -> bytes:
            if not self.parts:
                raise OSError(5, "Input/output error")
            return self.parts.pop()

    items = list(read("-", stdin=Failing()))  # type: ignore[arg-type]
    assert [str(item) for item in items if isinstance(item, RowError)] == [
        "-:3: cannot be read any further: Input/output error"
    ]
    assert [item.record.text for item in items if isinstance(item, ParsedRow)] == ["one", "two"]


def test_a_json_value_that_is_too_large_stops_the_reading_of_its_array(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.data.readers.json_text.MAX_CHARS", 1 << 20)
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"a": 1}, {"text": "x" * (2 << 20)}, {"a": 2}], indent=1))
    lines, problems = lines_and_problems(path)
    assert lines == [2]
    assert [line for line, _ in problems] == [5]
    assert "one value of more than 1 MiB; what follows is not read: 2,097," in problems[0][1]
    assert problems[0][1].endswith("bytes on 7 lines")


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux only")
@pytest.mark.parametrize("format", ["log", "csv", "jsonl"])
def test_memory_is_bounded_however_long_a_line_is(tmp_path: Path, format: Any) -> None:
    path = tmp_path / "a.zst"
    with zstandard.open(path, "wb") as file:
        file.write(b'{"a": 1}\n' if format == "jsonl" else b"a,b\n1,2\n")
        for _ in range(160):
            file.write(b"x" * (1 << 20))
        file.write(b"\n" + (b'{"a": 1}\n' if format == "jsonl" else b"1,2\n"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    lines, problems = lines_and_problems(path, format=format)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 120 * 1024
    if format == "log":
        assert (lines, problems) == ([1, 2, 3, 4], [])
    else:
        long = {"csv": 3, "jsonl": 2}[format]
        assert (lines, problems) == ([long - 1, long + 1], [(long, "longer than 16 MiB")])


def test_max_chars_that_leaves_no_room_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="max_chars"):
        next(read(tmp_path / "a.log", max_chars=3))


def test_rows_before_damage_in_parquet_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    frame = pl.DataFrame({"n": range(3_000), "text": [f"event {i * 7919 % 3000} of {i}" for i in range(3_000)]})
    frame.write_parquet(path, row_group_size=300)
    data = bytearray(path.read_bytes())
    start = len(data) * 7 // 10
    data[start : start + 400] = b"\xff" * 400
    path.write_bytes(data)
    items = list(read(path))
    assert [item.record.line for item in items[:-1] if isinstance(item, ParsedRow)] == list(range(1, len(items)))
    assert 1_000 < len(items) < 2_500
    assert isinstance(items[-1], RowError)
    assert items[-1].stops
