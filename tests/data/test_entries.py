"""Entries over several lines are one record; what is not joined in the file is not joined here."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any

import pytest

from agent.data.read_options import ReadOptions, text_start
from agent.data.readers import ParsedRow, entry_joining
from tests.data.reading import read

TIME = "2026-01-02 03:04:{:02d} "
JAVA = "\tat com.shop.Cart.add(Cart.java:41)\n\t... 12 more\nCaused by: java.io.IOException: gone\n\tat a.B.c(B.java:1)"
PYTHON = 'Traceback (most recent call last):\n  File "a.py", line 3, in <module>\n    run()\nValueError: no such shop'
GO = "goroutine 1 [running]:\nmain.run(0x1)\n\t/src/main.go:8 +0x1d\nexit status 2"
NODE = "    at Object.<anonymous> (/app/a.js:1:7) {\n  code: 'ENOENT'\n}"
SQL = "SELECT o.id,\nsum(o.total)\nFROM orders o\n\nWHERE o.shop = 7"
VALUE = '{\n  "shop": 7,\n  "time": "2026-01-02 03:04:05"\n}'
TRACES = {"java": JAVA, "python": PYTHON, "go": GO, "node": NODE, "sql": SQL, "json": VALUE}


def rows(content: str | bytes, **options: Any) -> list[ParsedRow]:
    data = content.encode() if isinstance(content, str) else content
    items = list(read("-", stdin=io.BytesIO(data), **{"format": "log", **options}))
    assert all(isinstance(item, ParsedRow) for item in items), items
    return [item for item in items if isinstance(item, ParsedRow)]


def entries(content: str | bytes, **options: Any) -> list[tuple[int | None, str]]:
    return [(row.record.line, row.record.text) for row in rows(content, **options)]


@pytest.mark.parametrize("trace", TRACES.values(), ids=TRACES)
@pytest.mark.parametrize("prefix", [TIME, "Jan  2 03:04:{:02d} web01 app[7]: ", "[{:02d}.123456] ", "INFO {:02d} "])
def test_lines_without_what_begins_the_entries_belong_to_the_one_before(trace: str, prefix: str) -> None:
    first, second, third = (prefix.format(number) + "request" for number in (1, 2, 3))
    assert entries(f"{first}\n{second}\n{trace}\n{third}\n") == [
        (1, first),
        (2, f"{second}\n{trace}"),
        (3 + len(trace.split("\n")), third),
    ]


@pytest.mark.parametrize("trace", [JAVA, PYTHON, NODE], ids=["java", "python", "node"])
def test_indentation_tells_where_entries_begin_with_nothing_in_common(trace: str) -> None:
    content = f"request a failed\n{trace}\nstopped\n"
    head = ["request a failed"] if trace == PYTHON else []
    joined = trace if head else f"request a failed\n{trace}"
    assert [text for _, text in entries(content)] == [*head, joined, "stopped"]


@pytest.mark.parametrize(
    "content",
    [
        "one\ntwo\nthree\n",
        "one\n\n  two, after a blank line\nthree\n",
        "     1 apple\n    12 pear\n   123 plum\n  1234 fig\n",
        "PID TTY\n  1 pts\n 22 pts\n",
        "Report\n" + "".join(f"  item {word}\n" for word in "abcdefghijklmnop"),
        "a\nb\n2026-01-02 done with b\n" + "".join(f"step {letter}\n" for letter in "cdefghijklmno"),
        f"{TIME.format(1)}a\n# Fields: a b\n#Version: 1\n{TIME.format(2)}b\n---- restarted ----\n{TIME.format(3)}c\n",
    ],
)
def test_plain_lines_are_not_joined(content: str) -> None:
    assert [text for _, text in entries(content)] == [line for line in content.split("\n") if line.strip()]


def test_a_label_stands_before_the_first_line_only() -> None:
    content = f"- {TIME.format(1)}a\n\tFROM orders o\n- b\nBAD {TIME.format(2)}c\n\n\tat x.Y.z(Y.java:1)\n"
    found = rows(content.replace("- b\n", ""), label="0", normal=["-"])
    assert [(row.record.line, row.label, row.record.text) for row in found] == [
        (1, "normal", f"{TIME.format(1)}a\n\tFROM orders o"),
        (3, "anomalous", f"{TIME.format(2)}c\n\n\tat x.Y.z(Y.java:1)"),
    ]


def test_an_entry_whose_beginning_is_in_another_file_has_no_label() -> None:
    content = "\tat x.Y.z(Y.java:1)\nmore\n" + "".join(f"- {TIME.format(number)}a\n" for number in range(3))
    (first, *others) = read("-", stdin=io.BytesIO(content.encode()), format="log", label="0")
    assert str(first) == "-:1: no label in column '0'"
    assert [item.label for item in others if isinstance(item, ParsedRow)] == ["normal"] * 3
    lenient = rows(content, label="0", label_values=("-",), lenient=True)
    assert lenient[0].record.text == "\tat x.Y.z(Y.java:1)\nmore"


def test_lines_with_labels_of_their_own_are_not_joined() -> None:
    content = f"- {TIME.format(1)}a\n- \tat x.Y.z(Y.java:1)\nBAD {TIME.format(2)}c\nBAD more\n"
    assert len(rows(content, label="0", normal=["-"])) == 4


def test_mixed_notations_of_time_all_begin_entries() -> None:
    content = "2026-01-02T03:04:05Z a\nJan  2 03:04:06 b\n  more\n1767323046.12 c\n[02/Jan/2026:03:04:07 +0000] d\n"
    assert [line for line, _ in entries(content)] == [1, 2, 4, 5]


def test_a_trace_whose_beginning_is_in_another_file_is_one_entry() -> None:
    content = f"{JAVA}\nmore of it\n" + "".join(f"{TIME.format(number)}a\n" for number in range(3))
    assert [line for line, _ in entries(content)] == [1, 6, 7, 8]


def test_one_note_says_what_was_joined() -> None:
    found = rows(f"{TIME.format(1)}a\n{TIME.format(2)}b\n\tmore\n{TIME.format(3)}c\n\tmore\n")
    note = "one entry with the lines after it, as others below: they do not begin with a time"
    assert [row.notes for row in found] == [(), (f"{note} (--multiline off: a line a record)",), ()]


def test_off_and_an_expression() -> None:
    content = f"{TIME.format(1)}a\n\tmore\n== b ==\nmore\n== c ==\n"
    assert len(entries(content, multiline="off")) == 5
    assert entries(content, multiline="^==") == [
        (1, f"{TIME.format(1)}a\n\tmore"),
        (3, "== b ==\nmore"),
        (5, "== c =="),
    ]
    with pytest.raises(ValueError, match="multiline"):
        ReadOptions(multiline="(")


def to_gzip(text: str) -> bytes:
    return gzip.compress(text.encode())


@pytest.mark.parametrize("encode", [str.encode, lambda text: text.encode("utf-16"), to_gzip])
def test_encodings_line_ends_and_packing(encode: Any) -> None:
    content = f"{TIME.format(1)}a\r\n\tmore\r\n\r\n\tyet more\r\n{TIME.format(2)}b\r\n"
    assert entries(encode(content)) == [(1, f"{TIME.format(1)}a\n\tmore\n\n\tyet more"), (5, f"{TIME.format(2)}b")]


def test_a_file_that_ends_inside_an_entry() -> None:
    assert entries(f"{TIME.format(1)}a\n\tmo") == [(1, f"{TIME.format(1)}a\n\tmo")]


def test_a_long_entry_is_shortened_as_a_long_line_is() -> None:
    content = f"{TIME.format(1)}a\n" + "\tline\n" * 100_000 + f"\tEND\n{TIME.format(2)}b\n"
    long, after = rows(content, max_chars=200)
    assert len(long.record.text) == 200
    assert long.record.text.startswith(f"{TIME.format(1)}a\n\tline\n\tline")
    assert long.record.text.endswith("\tline\n\tEND")
    assert f"shortened from {len(content.split(chr(10) + '2026')[0])} to 200 characters" in long.notes
    assert after.record.line == 100_003


def test_where_a_file_goes_on_in_another_form_its_lines_are_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry_joining, "MAX_PLAIN_LINES", 3)
    content = (
        f"{TIME.format(1)}a\n{TIME.format(2)}b\n" + "".join(f"plain {number}\n" for number in range(6)) + TIME.format(3)
    )
    assert [line for line, _ in entries(content)] == [1, 2, 6, 7, 8, 9]


def test_lines_that_a_container_runtime_cut() -> None:
    stamp = "2026-01-02T03:04:05.123456789Z "
    content = (
        f"{stamp}stdout F {TIME.format(1)}a\n{stamp}stdout P {TIME.format(2)}b be\n{stamp}stdout P gins and en\n"
        f"{stamp}stdout F ds\n{stamp}stderr F \tat x.Y.z(Y.java:1)\n{stamp}stdout P cut off\n"
        f"{stamp}stderr F {TIME.format(3)}c\n"
    )
    assert entries(content) == [
        (1, f"{stamp}stdout F {TIME.format(1)}a"),
        (2, f"{stamp}stdout F {TIME.format(2)}b begins and ends\n\tat x.Y.z(Y.java:1)\ncut off"),
        (7, f"{stamp}stderr F {TIME.format(3)}c"),
    ]


def test_colours_and_marks_inside_a_joined_file_are_removed() -> None:
    content = "\ufeffone \x1b[1;31mred\x1b[0m\n\ufefftwo \x1b]8;;http://a\x1b\\link\x1b]8;;\x07\n\x1b[0m\n"
    assert entries(content) == [(1, "one red"), (2, "two link")]
    assert [row.notes for row in rows(content)] == [(), ()]


@pytest.mark.parametrize(
    ("learned", "judged", "cut"),
    [
        ("0 1 retries, done {}\n1 0 retries, lost {}\n", "1 retries, done {}\n0 retries, lost {}\n", 0),
        ("- - app done {}\nX - app lost {}\n", "- app done {}\n", 0),
        ("- - app done {}\nX - app lost {}\n", "- - app done {}\nX - app lost {}\n", 1),
        ("- app done {}\nX app lost {}\n", "- new text {}\nX other text {}\n", 1),
    ],
)
def test_a_label_that_is_not_there_is_not_cut_from_a_text(tmp_path: Path, learned: str, judged: str, cut: int) -> None:
    (tmp_path / "learn.log").write_text("".join(learned.format(number, number) for number in range(5)))
    (tmp_path / "judge.log").write_text("".join(judged.format(number, number) for number in range(5)))
    options = ReadOptions(format="log", label="0")
    known = [row for row in options.read(tmp_path / "learn.log", 65_536) if isinstance(row, ParsedRow)]
    values, starts = {row.label_value or "" for row in known}, {text_start(row.record.text) for row in known}
    options = options.with_values(sorted(values), sorted(starts))
    texts = [
        row.record.text for row in options.read_unlabelled(tmp_path / "judge.log", 65_536) if isinstance(row, ParsedRow)
    ]
    expected = (tmp_path / "judge.log").read_text().splitlines()
    assert texts == [line.split(" ", 1)[1] if cut else line for line in expected]
