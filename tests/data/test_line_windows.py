"""Lines of a log as windows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.core.errors import UsageError
from agent.core.records import Record
from agent.data.line_windows import line_windows
from agent.data.readers import ParsedRow, RowError
from tests.conftest import Run


def rows(count: int, *anomalous: int) -> list[ParsedRow | RowError]:
    return [
        ParsedRow(
            Record(text=f"line {number}", file="a.log", line=number, time=f"10:{number:02}"),
            "anomalous" if number in anomalous else "normal",
            "FATAL" if number in anomalous else "-",
        )
        for number in range(1, count + 1)
    ]


def lines_of(windows: list[ParsedRow | RowError]) -> list[list[int]]:
    return [[int(event.split()[1]) for event in window.record.events] for window in windows]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("count", "size", "step", "expected"),
    [
        (0, 3, 3, []),
        (1, 3, 3, [[1]]),
        (3, 3, 3, [[1, 2, 3]]),
        (3, 3, 1, [[1, 2, 3]]),
        (5, 3, 3, [[1, 2, 3], [4, 5]]),
        (5, 3, 2, [[1, 2, 3], [3, 4, 5]]),
        (6, 3, 2, [[1, 2, 3], [3, 4, 5], [5, 6]]),
        (4, 3, 1, [[1, 2, 3], [2, 3, 4]]),
    ],
)
def test_every_line_is_in_a_window_and_none_is_repeated_alone(
    count: int, size: int, step: int, expected: list[list[int]]
) -> None:
    assert lines_of(list(line_windows(rows(count), size, step))) == expected


def test_a_window_is_anomalous_if_a_line_is_and_stands_where_its_first_does() -> None:
    first, second = line_windows(rows(6, 5), 3, 3)
    assert isinstance(first, ParsedRow)
    assert isinstance(second, ParsedRow)
    assert (first.label, second.label, second.label_value) == ("normal", "anomalous", "FATAL")
    assert (second.record.file, second.record.line, second.record.time) == ("a.log", 4, "10:04")


def test_a_line_that_cannot_be_read_is_passed_on() -> None:
    error = RowError("a.log", 2, "odd")
    given = [rows(3)[0], error, *rows(3)[1:]]
    made = list(line_windows(given, 3, 3))
    assert made[0] is error
    assert lines_of(made[1:]) == [[1, 2, 3]]


@pytest.mark.parametrize(("size", "step"), [(1, 1), (10_001, 1), (3, 0), (3, 4)])
def test_sizes_that_are_none(size: int, step: int) -> None:
    with pytest.raises(UsageError, match=r"--(size|step)"):
        list(line_windows(rows(3), size, step))


def test_the_command_writes_sessions_that_learn_reads(run: Run, tmp_path: Path) -> None:
    log = "".join(
        f"{label} 2026-03-01 10:{i:02}:00 pump {state}\n"
        for i, (label, state) in enumerate([("-", "on"), ("-", "off")] * 12 + [("LEAK", "leaks"), ("-", "off")])
    )
    (tmp_path / "pump.log").write_text(log, encoding="utf-8")
    made = run("windows", "pump.log", "--size", "4", "--label", "0", "--output", "w.jsonl")
    assert made.code == 0, made.err
    assert "7 windows of 4 lines" in made.err
    written = [json.loads(line) for line in (tmp_path / "w.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["label"] for row in written] == ["normal"] * 6 + ["anomalous"]
    assert [row["id"] for row in written][:2] == ["pump.log:1", "pump.log:5"]
    assert written[-1]["events"] == ["2026-03-01 10:24:00 pump leaks", "2026-03-01 10:25:00 pump off"]
    learned = run("learn", "w.jsonl", "--source", "pump", "--label", "label")
    assert learned.code == 0, learned.err
    assert "7 sessions" in learned.out + learned.err
    assert run("windows", "pump.log", "--size", "4", "--output", "pump.log").code == 2
    assert run("windows", "pump.log", "--size", "1").code == 2
