"""What reading finds of a table's columns: how numbers are written, what numbers the rows, what is odd."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from agent.core.errors import InputError
from agent.data.read_options import ReadOptions
from agent.data.readers.notation import Notation
from agent.data.readers.table_schema import LearnedColumn, TableSchema
from agent.training.reading_report import ReadingReport, survey

OPTIONS = ReadOptions(label="label")
LOAD = [f"{i * 7 % 11}.5" for i in range(40)]


def report(
    path: Path, columns: dict[str, list[str]], delimiter: str = ",", options: ReadOptions = OPTIONS
) -> ReadingReport:
    columns = {**columns, "label": columns.get("label") or ["0"] * len(next(iter(columns.values())))}
    rows = [list(columns), *map(list, zip(*columns.values(), strict=True))]
    path.write_text("".join(delimiter.join(f'"{cell}"' for cell in row) + "\n" for row in rows), encoding="utf-8")
    return survey([path], options, 65_536)


def values(path: Path, made: ReadingReport, name: str) -> list[object]:
    rows = made.options.read_unlabelled(path, 65_536)
    return [row.record.fields[name] for row in rows]  # type: ignore[union-attr]


def grouped(value: float, decimal: str, thousands: str) -> str:
    return f"{value:,.2f}".translate(str.maketrans({",": thousands, ".": decimal}))


NOTATIONS: dict[str, Callable[[float], str]] = {
    "decimal comma": lambda value: f"{value:.2f}".replace(".", ","),
    "comma and points": lambda value: grouped(value, ",", "."),
    "point and commas": lambda value: grouped(value, ".", ","),
    "comma and spaces": lambda value: grouped(value, ",", " "),
    "comma and no-break spaces": lambda value: grouped(value, ",", "\u00a0"),
    "comma and narrow no-break spaces": lambda value: grouped(value, ",", "\u202f"),
    "apostrophes": lambda value: grouped(value, ".", "'"),
    "typographic apostrophes": lambda value: grouped(value, ".", "\u2019"),
    "dollars": lambda value: f"${value:.2f}",
    "euros after": lambda value: grouped(value, ",", ".") + " €",
    "currency code": lambda value: f"USD {value:.2f}",
    "percent": lambda value: f"{value:.2f}%",
    "unit": lambda value: f"{value:.2f} km/h",
    "negative in brackets": lambda value: f"({-value:,.2f})" if value < 0 else f"{value:,.2f}",
    "minus sign": lambda value: f"{value:.2f}".replace("-", "\u2212"),
    "exponent": lambda value: f"{value:.6e}",
}


@pytest.mark.parametrize("notation", NOTATIONS)
def test_numbers_are_read_in_the_notation_of_their_column(tmp_path: Path, notation: str) -> None:
    rng = random.Random(3)
    numbers = [round(rng.uniform(-4_000, 4_000), 2) for _ in range(40)] + [0.5, 12.0, 999.0, -1_234_567.25]
    columns = {"value": [NOTATIONS[notation](number) for number in numbers], "kind": ["a", "b"] * 22}
    made = report(tmp_path / "t.csv", columns)
    assert made.table is not None
    assert [column.type for column in made.table.schema.columns] == ["number", "category"]
    assert values(tmp_path / "t.csv", made, "value") == pytest.approx(numbers, rel=1e-5)
    assert made.table.remarks == ()


def test_a_single_column_of_numbers_is_read_in_its_notation(tmp_path: Path) -> None:
    made = report(tmp_path / "t.csv", {"value": ["1,5", "2,25"] * 10}, ";")
    assert values(tmp_path / "t.csv", made, "value") == [1.5, 2.25] * 10


def clock(seconds: int) -> str:
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


DURATIONS: dict[str, Callable[[int], str]] = {
    "clock": clock,
    "fractions": lambda seconds: f"{clock(seconds)}.000",
    "hours and minutes": lambda seconds: clock(seconds - seconds % 60)[:5],
    "half days": lambda seconds: f"{seconds // 3600 % 12 or 12}:{clock(seconds)[3:]} {'ap'[seconds >= 43_200]}m",
    "days as Python writes them": lambda seconds: f"1 day, {clock(seconds)}",
    "days as .NET writes them": lambda seconds: f"1.{clock(seconds)}",
    "days as ps writes them": lambda seconds: f"1-{clock(seconds)}",
    "negative": lambda seconds: f"-{clock(seconds)}",
    "ISO 8601": lambda seconds: f"PT{seconds // 60}M{seconds % 60}S",
    "units": lambda seconds: f"{seconds // 3600}h {seconds // 60 % 60}m {seconds % 60}s",
    "units without spaces": lambda seconds: f"{seconds // 60}m{seconds % 60}.0s",
    "words": lambda seconds: f"{seconds // 60} minutes and {seconds % 60} seconds",
    "one unit or another": lambda seconds: f"{seconds}s" if seconds % 2 else f"{seconds * 1_000} ms",
}


@pytest.mark.parametrize("kind", DURATIONS)
def test_spans_of_time_and_times_of_the_day_are_seconds(tmp_path: Path, kind: str) -> None:
    rng = random.Random(7)
    seconds = [rng.randrange(86_400) for _ in range(60)]
    columns = {"at": [DURATIONS[kind](number) for number in seconds], "kind": ["a", "b"] * 30}
    made = report(tmp_path / "t.csv", columns)
    assert made.table is not None
    assert [column.type for column in made.table.schema.columns] == ["number", "category"]
    expected = [-number if kind == "negative" else number for number in seconds]
    if kind == "hours and minutes":
        expected = [number - number % 60 for number in expected]
    days = 86_400 * kind.startswith("days")
    assert values(tmp_path / "t.csv", made, "at") == pytest.approx([number + days for number in expected])
    assert made.table.remarks == ()


@pytest.mark.parametrize("kind", DURATIONS)
def test_only_a_time_of_the_day_that_goes_on_is_left_out(tmp_path: Path, kind: str) -> None:
    rng = random.Random(7)
    seconds = sorted(rng.randrange(86_400) for _ in range(60))
    made = report(tmp_path / "t.csv", {"at": list(map(DURATIONS[kind], seconds)), "kind": ["a", "b"] * 30})
    assert made.table is not None
    is_left_out = "at" in made.table.schema.left_out
    assert is_left_out == (kind in ("clock", "fractions", "hours and minutes", "half days"))


def test_what_the_cases_have_as_words_stays_words() -> None:
    word, span = (LearnedColumn(name="at", type="category", notation=n) for n in (None, Notation(suffix="duration")))
    number = span.model_copy(update={"type": "number"})
    assert TableSchema(columns=(number,)).joined(TableSchema(columns=(word,))).columns == (word,)
    empty = word.model_copy(update={"type": "empty"})
    assert TableSchema(columns=(number,)).joined(TableSchema(columns=(empty,))).columns == (number,)


def test_a_few_spans_of_time_in_words_stay_words(tmp_path: Path) -> None:
    cells = ["1h 5m"] * 47 + ["unknown"] * 2 + ["1,5s"]
    made = report(tmp_path / "t.csv", {"took": cells, "n": ["1.5", "2.5"] * 25})
    assert made.table is not None
    assert set(values(tmp_path / "t.csv", made, "took")) == {3_900.0, "unknown", "1,5s"}
    assert "2 of 50 cells are words" in made.table.remarks[0]


@pytest.mark.parametrize(("other", "expected"), [("21,5", 14_250.0), ("21.5", 14.25)])
def test_three_digits_after_a_point_are_thousands_where_commas_are_decimal(
    tmp_path: Path, other: str, expected: float
) -> None:
    made = report(tmp_path / "t.csv", {"volume": ["14.250"] * 20, "heat": [other] * 20}, ";")
    assert set(values(tmp_path / "t.csv", made, "volume")) == {expected}


@pytest.mark.parametrize(
    "texts",
    [
        ["2024-31", "2024-41"], ["10.0.0.1", "10.0.0.2"], ["12:75", "12:76"], ["v1.2.3", "v1.2.4"],
        ["a1", "b2"], ["north", "south"], ["1,2,3", "4,5"],
    ],
)  # fmt: skip
def test_what_is_no_number_stays_a_word(tmp_path: Path, texts: list[str]) -> None:
    made = report(tmp_path / "t.csv", {"value": texts * 10, "n": ["1.5", "2.5"] * 10})
    assert made.table is not None
    assert made.table.schema.columns[0].type == "category"
    assert values(tmp_path / "t.csv", made, "value") == texts * 10


def test_odd_cells_and_mixed_units_are_named(tmp_path: Path) -> None:
    columns = {
        "rate": ["1.5"] * 98 + ["OVERFLOW", "#N/A"],
        "size": ["3 MB", "4 kB"] * 50,
        "mixed": ["1.5"] * 30 + ["low", "high"] * 35,
    }
    made = report(tmp_path / "t.csv", columns)
    assert made.table is not None
    assert made.table.remarks == (
        "rate: 2 of 100 cells are words instead of numbers, such as 'OVERFLOW', '#N/A'",
        "size: numbers with different units (MB, kB): they are read as words, not as numbers",
        "mixed: 30 of 100 cells are numbers among words such as 'low', 'high'",
    )


def test_categories_that_are_not_compared_are_named(tmp_path: Path) -> None:
    columns = {"url": [f"/shop/{i}" for i in range(40)], "host": [f"web{i % 9}" for i in range(40)]}
    made = report(tmp_path / "t.csv", {**columns, "load": ["1.5", "2.5"] * 20})
    assert made.table is not None
    (remark,) = made.table.remarks
    assert remark.startswith("url: most values differ, so they are not compared; --text url")


def test_a_column_that_rises_is_named(tmp_path: Path) -> None:
    rising = sorted(random.Random(5).sample(range(9_000), 60))
    columns = {"offset": [f"{number}.5" for number in rising], "load": [f"{i * 7 % 11}.5" for i in range(60)]}
    made = report(tmp_path / "t.csv", columns)
    assert made.table is not None
    (remark,) = made.table.remarks
    assert remark.startswith("offset: rises from row to row")


NUMBERING = {
    "unnamed, from 0": ("", list(range(40)), True),
    "unnamed, from 1000": ("", list(range(1000, 1040)), True),
    "any name": ("counter", list(range(1, 41)), True),
    "index with gaps": ("index", list(range(0, 200, 5)), True),
    "shuffled id": ("id", random.Random(2).sample(range(500), 40), True),
    "pandas' name": ("Unnamed: 0", random.Random(2).sample(range(500), 40), True),
    "an order's id": ("order_id", random.Random(2).sample(range(500), 40), True),
    "camel case": ("userId", random.Random(2).sample(range(500), 40), True),
    "an order's number": ("order_no", [1_000 + 7 * i for i in range(40)], True),
    "an invoice's number": ("invoiceNumber", random.Random(2).sample(range(500), 40), True),
    "numbers of rooms": ("room_no", [i % 9 for i in range(40)], False),
    "ends like an id": ("paid", random.Random(2).sample(range(500), 40), False),
    "odometer": ("km", sorted(random.Random(2).sample(range(9_000), 40)), False),
    "hours of days": ("hour", [i % 24 for i in range(40)], False),
    "a constant": ("id", [7] * 40, False),
    "fractions": ("id", [i + 0.5 for i in range(40)], False),
    "few rows": ("dose", list(range(6)), False),
}


@pytest.mark.parametrize("kind", NUMBERING)
def test_only_what_numbers_the_rows_is_left_out(tmp_path: Path, kind: str) -> None:
    name, numbers, left_out = NUMBERING[kind]
    path = tmp_path / "t.csv"
    made = report(path, {name: list(map(str, numbers)), "load": [f"{i * 7 % 11}.5" for i in range(len(numbers))]})
    assert made.table is not None
    assert bool(made.table.schema.left_out) == left_out
    (record, *_) = [row.record for row in made.options.read_unlabelled(path, 65_536)]  # type: ignore[union-attr]
    assert len(record.fields) + len(record.text) > 3
    assert (len(record.fields) == 2) != left_out


_MOMENTS = [datetime(2026, 3, 1, 10, tzinfo=UTC) + timedelta(hours=7 * i) for i in range(40)]
_SHUFFLED = random.Random(3).sample(_MOMENTS, 40)
_SIZES = random.Random(4).sample(range(700_000_000, 4_000_000_000), 40)
_CLOCK = [f"{8 + i // 9:02}:{i % 9 * 6:02}:10" for i in range(40)]
TIMES = {
    "seconds, by name": ("ts", [f"{moment.timestamp():.3f}" for moment in _SHUFFLED], True),
    "seconds, rising": ("x", [f"{moment.timestamp():.0f}" for moment in _MOMENTS], True),
    "seconds, in no order": ("x", [f"{moment.timestamp():.0f}" for moment in _SHUFFLED], False),
    "milliseconds": ("eventTime", [f"{moment.timestamp() * 1e3:.0f}" for moment in _SHUFFLED], True),
    "nanoseconds": ("flow_start", [f"{moment.timestamp() * 1e9:.0f}" for moment in _MOMENTS], True),
    "mixed units": ("ts", [f"{moment.timestamp() * 1e3 ** (i % 2):.0f}" for i, moment in enumerate(_MOMENTS)], False),
    "days as numbers": ("day", [f"{moment:%Y%m%d}" for moment in _SHUFFLED], True),
    "days": ("opened", [f"{moment:%Y-%m-%d}" for moment in _SHUFFLED], True),
    "two days": ("opened", [f"2026-03-{1 + i % 2:02}" for i in range(40)], True),
    "days in words": ("x", [f"{moment:%a %d %b %Y %H:%M}" for moment in _SHUFFLED], True),
    "of a web server": ("x", [f"[{moment:%d/%b/%Y:%H:%M:%S %z}]" for moment in _SHUFFLED], True),
    "of syslog": ("x", [f"{moment:%b %d %H:%M:%S}" for moment in _SHUFFLED], True),
    "American": ("x", [f"{moment:%m/%d/%Y %I:%M %p}" for moment in _SHUFFLED], True),
    "some empty": ("closed", [f"{moment:%d.%m.%Y}" if i % 3 else "" for i, moment in enumerate(_SHUFFLED)], True),
    "Oracle's": ("x", [f"{moment:%d-%b-%y %I.%M.%S.000000 %p}".upper() for moment in _SHUFFLED], True),
    "DB2's": ("x", [f"{moment:%Y-%m-%d-%H.%M.%S.000000}" for moment in _SHUFFLED], True),
    "PostgreSQL's": ("x", [f"{moment:%Y-%m-%d %H:%M:%S.123456}+00" for moment in _SHUFFLED], True),
    "Go's": ("x", [f"{moment:%Y-%m-%d %H:%M:%S.123} +0000 UTC" for moment in _SHUFFLED], True),
    "Java's": ("x", [f"{moment:%Y-%m-%dT%H:%M:%S}+01:00[Europe/Berlin]" for moment in _SHUFFLED], True),
    "compact": ("x", [f"{moment:%Y%m%dT%H%M%SZ}" for moment in _SHUFFLED], True),
    "digits": ("stamp", [f"{moment:%Y%m%d%H%M%S}" for moment in _SHUFFLED], True),
    "digits to the minute, rising": ("x", [f"{moment:%Y%m%d%H%M}" for moment in _MOMENTS], True),
    "digits to the millisecond": ("ts", [f"{moment:%Y%m%d%H%M%S}{i:03}" for i, moment in enumerate(_SHUFFLED)], True),
    "years of two digits": ("x", [f"{moment:%d.%m.%y}" for moment in _SHUFFLED], True),
    "years of two digits, dashes": ("x", [f"{moment:%d-%m-%y}" for moment in _SHUFFLED], True),
    "Japanese": ("x", [f"{moment.year}年{moment.month}月{moment.day}日" for moment in _SHUFFLED], True),
    "months": ("x", [f"2025-{1 + i % 12:02}" for i in range(40)], True),
    "weeks": ("x", [f"2025-W{1 + i:02}" for i in range(40)], True),
    "a clock": ("x", _CLOCK, True),
    "a clock, the newest first": ("x", _CLOCK[::-1], True),
    "a clock of two days": ("x", [f"{i % 20:02}:30" for i in range(40)], True),
    "a clock of three days": ("x", [f"{i % 14:02}:30" for i in range(40)], False),
    "spans of time": ("x", [f"PT{i * 7 % 41}M1S" for i in range(40)], False),
    "articles": ("x", [f"{i % 9}-{i % 7}-{i}" for i in range(40)], False),
    "digits that are no time": ("stamp", [f"20263301{i * 7 % 41:06}" for i in range(40)], False),
    "two sizes and 0": ("start_size", ["0", "1073741824", "1090000000", "1"] * 10, False),
    "amounts, rising": ("x", sorted(map(str, _SIZES), key=int), False),
    "amounts named so": ("last_amount", list(map(str, _SIZES)), False),
    "spend": ("spend", [str(1_500_000_000 + i * 977 % 9_001) for i in range(40)], False),
    "nanoseconds of a response": ("response_time_ns", list(map(str, _SIZES)), False),
    "two sizes": ("x", [str(1_073_741_824 if i < 20 else 1_090_000_000) for i in range(40)], False),
    "names of people": ("who", ["Marta 3", "Julia 22", "Augustin 7", "Mayer 4"] * 10, False),
    "no dates": ("x", [f"2000-99-{10 + i}" for i in range(40)], False),
    "bytes": ("bytes", list(map(str, _SIZES)), False),
    "a rate named so": ("time_to_live", [str(30 + i % 7) for i in range(40)], False),
    "hours": ("hour", [str(i % 24) for i in range(40)], False),
    "years": ("built", [str(1990 + i % 30) for i in range(40)], False),
    "versions": ("version", [f"1.{i % 4}.{i % 9}" for i in range(40)], False),
    "addresses": ("source", [f"10.0.{i % 4}.{i}" for i in range(40)], False),
}


_DAYS = [f"{moment:%Y-%m-%d}" for moment in _SHUFFLED]
_SECONDS = [f"{moment.timestamp():.0f}" for moment in _MOMENTS]
NO_TIME = {
    "a word": ("closed", _DAYS, "never"),
    "0": ("last_seen", _SECONDS[::-1], "0"),
    "-1, rising": ("x", _SECONDS, "-1"),
    "a day that is none": ("x", _DAYS, "0000-00-00"),
    "the last day": ("valid", _DAYS, "9999-12-31"),
}


@pytest.mark.parametrize("kind", NO_TIME)
def test_a_few_values_may_stand_for_no_time(tmp_path: Path, kind: str) -> None:
    name, times, other = NO_TIME[kind]
    cells = {name: [time if i % 3 else other for i, time in enumerate(times)]}
    made = report(tmp_path / "t.csv", {**cells, "load": LOAD})
    assert made.table is not None
    assert made.table.schema.left_out == {name: f"it holds times or '{other}'"}


@pytest.mark.parametrize("words", [[f"ticket {i}" for i in range(26)], ["good", "bad"] * 19])
def test_some_times_among_words_are_words(tmp_path: Path, words: list[str]) -> None:
    cells = {"note": words + _DAYS[: 40 - len(words)], "load": LOAD}
    made = report(tmp_path / "t.csv", cells)
    assert made.table is not None
    assert not made.table.schema.left_out


@pytest.mark.parametrize("kind", TIMES)
def test_what_only_says_when_is_left_out(tmp_path: Path, kind: str) -> None:
    name, cells, left_out = TIMES[kind]
    made = report(tmp_path / "t.csv", {name: cells, "load": LOAD})
    assert made.table is not None
    assert made.table.schema.left_out == ({name: "it holds times"} if left_out else {})
    (record, *_) = [row.record for row in made.options.read_unlabelled(tmp_path / "t.csv", 65_536)]  # type: ignore[union-attr]
    assert (name in record.fields) != left_out


def test_a_source_that_has_learned_a_column_keeps_it(tmp_path: Path) -> None:
    column = LearnedColumn(name="ts", type="number")
    earlier = OPTIONS.model_copy(
        update={"table": TableSchema(columns=(column, LearnedColumn(name="load", type="number")))}
    )
    cells = {"ts": [f"{moment.timestamp():.0f}" for moment in _MOMENTS], "load": ["1.5", "2.5"] * 20}
    made = report(tmp_path / "t.csv", cells, options=earlier)
    assert not made.options.table.left_out
    assert made.options.table.names == {"ts", "load"}
    assert made.table is not None
    assert not made.table.schema.left_out, "nor is it said to be left out"


def test_what_was_left_out_stays_so(tmp_path: Path) -> None:
    cells = {"x": [f"{moment.timestamp():.0f}" for moment in _MOMENTS], "load": ["1.5", "2.5"] * 20}
    made = report(tmp_path / "t.csv", cells)
    again = report(tmp_path / "few.csv", {"x": ["17", "5"], "load": ["1.5", "2.5"]}, options=made.options)
    assert again.options.table.left_out == {"x": "it holds times"}
    named = again.options.model_copy(update={"text": ("x", "load")})
    assert not report(
        tmp_path / "few.csv", {"x": ["17", "5"], "load": ["1.5", "2.5"]}, options=named
    ).options.table.left_out


def test_a_column_that_is_named_is_never_left_out(tmp_path: Path) -> None:
    options = OPTIONS.model_copy(update={"text": ("n", "load")})
    made = report(tmp_path / "t.csv", {"n": list(map(str, range(40))), "load": ["1.5", "2.5"] * 20}, options=options)
    assert made.table is not None
    assert not made.table.schema.left_out


def test_each_file_must_have_the_columns_of_the_first(tmp_path: Path) -> None:
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    first.write_text("heat,load,label\n" + "1.5,2.5,0\n" * 20, encoding="utf-8")
    second.write_text("1.5,2.5,0\n" * 20, encoding="utf-8")
    with pytest.raises(InputError, match=r"b\.csv"):
        survey([first, second], OPTIONS, 65_536)


@pytest.mark.parametrize("rows", [1, 3])
def test_small_and_empty_columns(tmp_path: Path, rows: int) -> None:
    made = report(tmp_path / "t.csv", {"a": ["1.5"] * rows, "none": [""] * rows})
    assert made.table is not None
    assert [(column.type, column.filled) for column in made.table.schema.columns] == [("number", 1.0), ("empty", 0.0)]
    assert made.records == rows == len(made.preview)


def test_types_of_parquet(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "price": [Decimal("12.50"), Decimal("1.25")] * 20,
            "day": [date(2024, 3, 1), date(2024, 3, 2)] * 20,
            "paid": [True, False] * 20,
            "took": [timedelta(seconds=1, milliseconds=250), None] * 20,
            "shop": pl.Series(["bar", "inn"] * 20, dtype=pl.Categorical),
            "label": [0] * 40,
        }
    )
    frame.write_parquet(tmp_path / "t.parquet")
    made = survey([tmp_path / "t.parquet"], OPTIONS, 65_536)
    assert made.table is not None
    types = {column.name: column.type for column in made.table.schema.columns}
    assert types == {"price": "number", "paid": "yes/no", "took": "number", "shop": "category"}
    assert made.table.schema.left_out == {"day": "it holds times"}
    assert made.preview[0][1].fields == {"price": 12.5, "paid": True, "took": 1.25, "shop": "bar"}


def test_neighbouring_large_whole_numbers_are_different_labels(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,label\n" + "".join(f"{i}.5,{2**53 + i % 2}\n" for i in range(20)), encoding="utf-8")
    made = survey([path], OPTIONS.model_copy(update={"normal": (str(2**53),)}), 65_536)
    assert dict(made.labels) == {"normal": 10, "anomalous": 10}


@pytest.mark.parametrize("name", ["start_freq_hz", "reynolds_number"])
def test_that_a_column_which_is_left_out_tells_the_labels_apart_is_said(tmp_path: Path, name: str) -> None:
    rng = random.Random(1)
    labels = [str(int(i % 5 == 0)) for i in range(100)]
    numbers = rng.sample(range(2_412_000_000, 2_412_900_000), 100)
    separated = [str(number + 35_000_000 * int(label)) for number, label in zip(numbers, labels, strict=True)]
    load = [f"{rng.gauss(50, 5):.1f}" for _ in labels]
    options = OPTIONS.model_copy(update={"label": "label"})
    made = report(tmp_path / "t.csv", {name: separated, "load": load, "label": labels}, options=options)
    assert made.table is not None
    assert list(made.table.schema.left_out) == [name]
    (remark,) = made.table.remarks
    assert remark.startswith(f"{name}: left out, but it tells these labels apart (AUC 1.00)")
    plain = report(tmp_path / "u.csv", {name: list(map(str, numbers)), "load": load, "label": labels}, options=options)
    assert plain.table is not None
    assert not plain.table.remarks
