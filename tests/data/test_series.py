"""Tables with times read as series: columns, times, gaps, windows, labels."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from agent.core.errors import InputError, UsageError
from agent.core.records import Record, Series
from agent.data.read_options import ReadOptions
from agent.data.readers import ParsedRow, RowError
from agent.data.record_reading import as_read
from agent.data.series import SeriesOptions
from agent.data.series_choice import found_options, load_series, with_series_found
from agent.data.series_times import parse_time
from agent.data.series_windows import choose_window, find_period
from tests.series_files import DAY, daily, write_series


def _read(path: Path, label: str | None = None, **options: object) -> list[ParsedRow | RowError]:
    read = ReadOptions(label=label, series=SeriesOptions.model_validate(options))
    return list(read.read_unlabelled(path, 1_000))


def _windows(path: Path, label: str | None = None, **options: object) -> list[ParsedRow]:
    rows = _read(path, label, **options)
    assert all(isinstance(row, ParsedRow) for row in rows), rows
    return [row for row in rows if isinstance(row, ParsedRow)]


def test_windows_are_records_with_line_time_and_series(tmp_path: Path) -> None:
    windows = _windows(write_series(tmp_path / "a.csv", daily(100)), window=40, step=30)
    # the last one ends with the last point
    assert [window.record.line for window in windows] == [2, 32, 62]
    record = windows[1].record
    assert record.time == "2024-01-01T15:00:00"
    assert record.series is not None
    assert len(record.series) == 40
    assert record.series.step == 1800
    assert record.series.values["value"] == pytest.approx(daily(100)[30:70])
    assert record.text.startswith("2024-01-01T15:00:00 to 2024-01-02T10:30:00, 40 points: value ")
    assert record.fields["value highest"] == pytest.approx(max(daily(100)[30:70]))
    assert Record.model_validate_json(record.model_dump_json()) == record


def test_a_window_with_an_anomalous_point_is_anomalous(tmp_path: Path) -> None:
    path = write_series(tmp_path / "a.csv", daily(90), [int(i == 50) for i in range(90)])
    assert [window.label for window in _windows(path, "label", window=30, step=30)] == ["normal", "anomalous", "normal"]
    ranges = tmp_path / "ranges.json"
    ranges.write_text(json.dumps({"x/a.csv": [["2024-01-01 20:00:00", "2024-01-02 01:00:00.000"]], "b.csv": []}))
    windows = _windows(write_series(tmp_path / "a.csv", daily(90)), window=30, step=30, ranges=str(ranges))
    assert [window.label for window in windows] == ["normal", "anomalous", "normal"]
    with pytest.raises(InputError, match="names no file"):
        _read(write_series(tmp_path / "c.csv", daily(90)), window=30, ranges=str(ranges))


@pytest.mark.parametrize(
    ("times", "start"),
    [
        ([1_700_000_000 + 60 * i for i in range(40)], "2023-11-14T22:13:20+00:00"),
        ([(1_700_000_000 + 60 * i) * 1_000 for i in range(40)], "2023-11-14T22:13:20+00:00"),
        ([f"2024-03-01T{i // 60:02}:{i % 60:02}:00+02:00" for i in range(40)], "2024-02-29T22:00:00+00:00"),
        ([f"2024/03/01 {i // 60:02}:{i % 60:02}" for i in range(40)], "2024-03-01T00:00:00"),
        (list(range(40)), "0"),
    ],
)
def test_times_in_several_notations(tmp_path: Path, times: list[object], start: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"when": t, "v": i % 7}) + "\n" for i, t in enumerate(times)))
    (window,) = _windows(path, window=40, time="when")
    assert window.record.time == start
    assert window.record.series is not None
    assert window.record.series.has_calendar == (start != "0")


def test_unsorted_repeated_and_missing_points_are_put_in_order_and_noted(tmp_path: Path) -> None:
    lines = [f"{60 * i + 1_700_000_000},{'' if i == 5 else i}" for i in range(40) if i not in (10, 11)]
    lines = [*lines[20:], *lines[:20], lines[0]]
    (tmp_path / "a.csv").write_text("ts,v\n" + "\n".join(lines) + "\n")
    (window,) = _windows(tmp_path / "a.csv", window=40)
    assert window.record.series is not None
    values = window.record.series.values["v"]
    assert [i for i, value in enumerate(values) if value is None] == [5, 10, 11]
    assert values[12:15] == (12, 13, 14)
    notes = " ".join(window.notes)
    assert "go back" in notes
    assert "1 times are there more than once" in notes
    assert "3 values are missing" in notes


def test_what_cannot_be_read_is_named_with_its_line(tmp_path: Path) -> None:
    values: list[object] = list(daily(60))
    values[7] = "oops"
    path = write_series(tmp_path / "a.csv", values)
    path.write_text(path.read_text().replace("2024-01-01 05:00:00", "noon"))
    errors = [str(row) for row in _read(path, window=20) if isinstance(row, RowError)]
    assert errors == [
        f"{path}:9: 'oops' in column 'value' is no number",
        f"{path}:12: 'noon' in column 'timestamp' is no time",
    ]


def test_no_window_spans_a_long_gap(tmp_path: Path) -> None:
    lines = [f"{1_700_000_000 + 60 * i + (i >= 50) * 90_000},{i}" for i in range(60)]
    (tmp_path / "a.csv").write_text("ts,v\n" + "\n".join(lines) + "\n")
    rows = _read(tmp_path / "a.csv", window=20, step=20)
    assert [row.record.line for row in rows if isinstance(row, ParsedRow)] == [2, 22, 32]
    (error,) = [row for row in rows if isinstance(row, RowError)]
    assert "10 points between gaps are fewer than a window of 20" in str(error)


def test_each_key_is_a_series(tmp_path: Path) -> None:
    lines = [f"{1_700_000_000 + 60 * (i // 2)},{'ab'[i % 2]},{i % 2 * 100}" for i in range(80)]
    (tmp_path / "a.csv").write_text("ts,host,v\n" + "\n".join(lines) + "\n")
    windows = _windows(tmp_path / "a.csv", window=40, keys=["host"])
    assert [(w.record.series.key, w.record.fields["v mean"]) for w in windows if w.record.series] == [
        ("a", 0.0),
        ("b", 100.0),
    ]


@pytest.mark.parametrize(
    ("text", "options", "reason"),
    [
        ("name,v\na,1\nb,2\n", {}, "no column of times"),
        ("ts,v\n1700000000,x\n1700000060,y\n", {}, "no column of numbers"),
        ("ts,v\n1700000000,1\n", {"values": ["w"]}, "no column 'w'"),
        ("a plain line\nof a log\n", {}, "is no table"),
    ],
)
def test_files_that_are_no_series_are_refused(
    tmp_path: Path, text: str, options: dict[str, object], reason: str
) -> None:
    path = tmp_path / ("a.log" if "log" in text else "a.csv")
    path.write_text(text)
    with pytest.raises((InputError, UsageError), match=reason):
        _read(path, **options)


def test_the_window_is_chosen_by_the_period_and_said(tmp_path: Path) -> None:
    path = write_series(tmp_path / "a.csv", daily(30 * DAY))
    options, note = with_series_found(ReadOptions(series=SeriesOptions()), path, 1_000)
    assert options.series is not None
    assert (options.series.window, options.series.step) == (2 * DAY, DAY)
    assert "the period by autocorrelation is 48 points" in note
    short, _ = load_series(ReadOptions(series=SeriesOptions()), write_series(tmp_path / "s.csv", daily(8 * DAY)), 1_000)
    assert found_options(SeriesOptions(), short)[0].step == (8 * DAY - DAY) // 24, "24 windows at least"
    noise = np.random.default_rng(0).normal(size=(1_000, 1))
    assert find_period(noise[:, 0]) is None
    assert choose_window(noise, 60) == (100, "no period was found")
    series, _ = load_series(ReadOptions(series=SeriesOptions()), write_series(tmp_path / "b.csv", daily(10)), 1_000)
    with pytest.raises(InputError, match="takes at least 16"):
        found_options(SeriesOptions(), series)


def test_series_are_checked() -> None:
    with pytest.raises(ValueError, match="equally many"):
        Series(start="2024-01-01", step=1, values={"a": (1, 2), "b": (1,)})
    with pytest.raises(ValueError, match="neither a time"):
        Series(start="soon", step=1, values={"a": (1, 2)})
    with pytest.raises(ValueError, match="finite"):
        Series(start="2024-01-01", step=1, values={"a": (1, math.inf)})
    assert parse_time(math.nan) is None


def test_records_without_a_series_keep_their_hash_and_json() -> None:
    record = Record(text="a")
    assert record.content_hash == "63f7f9b4387e22c590704d73e689d95d539ca6d3faa5fbca8b0819db8c1db7e9"
    assert "series" not in record.model_dump()
    assert Record(text="a", series=Series(start="0", step=1, values={"v": (1, 2)})).content_hash != record.content_hash


def test_a_window_alone_is_read_as_that_of_a_file(tmp_path: Path) -> None:
    for start in ("2024-01-01T00:00:00", "2024-01-01T00:00:00+00:00"):
        record = _windows(write_series(tmp_path / "a.csv", daily(40)), window=40)[0].record
        assert record.series is not None
        series = record.series.model_copy(update={"start": start})
        alone = as_read(Record(series=series), ReadOptions(series=SeriesOptions()))
        assert alone.fields == record.fields
        assert alone.text.startswith(f"{start} to 2024-01-01T19:30:00")
        assert as_read(alone, ReadOptions(series=SeriesOptions())) == alone


def test_a_period_stands_out_and_the_shortest_good_one_counts() -> None:
    rng = np.random.default_rng(1)
    minutes = np.sin(np.arange(6_000) * 2 * np.pi / 1_440) + rng.normal(0, 0.1, 6_000)
    assert choose_window(minutes[:, None], 60) == (
        750,
        "an eighth of the series (the period by autocorrelation is 1440 points)",
    )
    week = np.sin(np.arange(4_800) * 2 * np.pi / DAY) * np.where(np.arange(4_800) // DAY % 7 >= 5, 0.6, 1)
    assert find_period(week) == DAY


@pytest.mark.parametrize("wrong", ["1970-01-01 00:00:00", "9999-12-31 23:59:59"])
def test_a_wrong_time_far_away_takes_no_memory_and_leaves_the_window(tmp_path: Path, wrong: str) -> None:
    path = write_series(tmp_path / "a.csv", daily(20 * DAY))
    path.write_text(path.read_text().replace("2024-01-02 03:30:00", wrong))
    options, note = with_series_found(ReadOptions(series=SeriesOptions()), path, 1_000)
    assert "the period by autocorrelation is 48 points" in note
    rows = list(options.read_unlabelled(path, 1_000))
    (error,) = [str(row) for row in rows if isinstance(row, RowError)]
    assert error == f"{path}:57: 1 points between gaps are fewer than a window of 96"
    assert len(rows) > 10


def test_gaps_that_make_too_many_points_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.data.series_windows.MOST_VALUES", 1_000)
    lines = [f"{1_700_000_000 + i + i // 3 * 90},{i}" for i in range(60)]
    (tmp_path / "a.csv").write_text("ts,v\n" + "\n".join(lines) + "\n")
    with pytest.raises(InputError, match="makes 1,770 points, too many"):
        _read(tmp_path / "a.csv", window=100)


def test_enormous_values_are_read_and_described(tmp_path: Path) -> None:
    values = daily(20 * DAY)
    values[100:110] = [1.7e308] * 10
    path = write_series(tmp_path / "a.csv", values)
    path.write_text(path.read_text() + "2024-01-20 23:30:00,1.7e308\n" * 2)
    windows = _windows(path, window=48)
    assert all(isinstance(value, float) and math.isfinite(value) for w in windows for value in w.record.fields.values())
    assert find_period(np.where(np.arange(480) == 7, 1e308, np.sin(np.arange(480)))) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"step": 1e300},
        {"start": "9999-12-31T23:59:59", "step": 3600},
        {"start": "0001-01-01T00:00:00+14:00"},
        {"start": "7", "step": 1e308},
    ],
)
def test_times_that_no_calendar_has_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="the times of a series are between"):
        Series.model_validate({"start": "2024-01-01", "step": 60, "values": {"v": (1, 2, 3)}, **changes})
    assert parse_time("0001-01-01T00:00:00+14:00") is None
    assert parse_time(-9e10) is None
