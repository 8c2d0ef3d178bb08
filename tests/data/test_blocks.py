"""Files read in blocks give the rows that reading one by one gives."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import datetime
from itertools import zip_longest
from pathlib import Path

import polars as pl
import pytest

from agent.core.errors import InputError
from agent.data.block_readers import open_blocks
from agent.data.blocks import BlockTable
from agent.data.read_options import ReadOptions
from agent.data.readers import ParsedRow, ReadRequest, RowError, read_rows
from agent.data.readers.byte_stream import Damaged
from agent.data.readers.table_schema import LearnedColumn, TableSchema

Item = tuple[object, ...]
TEXTS = [
    "disk full",
    "job 17 failed, code 3",
    'he said ""no""',
    "",
    "  spaced ",
    "NA",
    "name is a other is 5",
    "naïve é ½",
    "x" * 300,
    "- 0",
]
ODD = [
    'a,"b',
    "short",
    "\x1b[31mred\x1b[0m,1,2",
    '"two\nlines",1,2026',
    '"never closed, 1',
    "a\rb,1,2",
    "a\0b,1,2",
    "\ufeffa,1,2",
    'say "a,b" now,1,2',
    '"a"b,1,2',
]


def item_of(row: ParsedRow | RowError) -> Item:
    if isinstance(row, RowError):
        return row.line, str(row)
    record = row.record
    return record.line, record.text, tuple(record.fields.items()), record.time, record.events


def one_by_one(options: ReadOptions, path: Path) -> list[Item]:
    try:
        return [item_of(row) for row in options.read(path, 1_000, lenient=True)]
    except InputError as error:
        return [(str(error),)]


def rows_of(table: BlockTable, request: ReadRequest, sizes: list[int]) -> Iterator[Item]:
    try:
        for block in table.blocks:
            cells = zip(block.lines.tolist(), block.frame.iter_rows(named=True), strict=True)
            found = [
                table.request.parse_cells(line, row, table.columns, time=None, numeric=not table.is_text)
                for line, row in cells
            ]
            sizes.append(len(found))
            times = [table.time_of(cell) for cell in block.frame[table.time]] if found and table.time else []
            items = [
                (*item[:3], time, *item[4:]) if len(item) > 3 else item
                for item, time in zip_longest(map(item_of, found), times)
            ]
            yield from sorted([*items, *map(item_of, block.rest)], key=lambda item: item[0] or 0)
    except Damaged as damage:
        yield item_of(request.row_error(damage.line, damage.reason, stops=True))


def in_blocks(options: ReadOptions, path: Path, size: int) -> tuple[list[Item], int]:
    """The rows, and how many of these were read in frames."""
    sizes = list[int]()
    try:
        with options.open(path, 1_000, lenient=True) as (stream, kind, request):
            table = open_blocks(stream, kind, request, size)
            if table is None:
                return [item_of(row) for row in options.rows(stream, kind, request)], 0
            return list(rows_of(table, request, sizes)), sum(sizes)
    except InputError as error:
        return [(str(error),)], sum(sizes)


def csv_file(rng: random.Random, odd: float, header: str, end: str) -> str:
    rows = [header] if header else []
    for _ in range(rng.randint(1, 120)):
        if rng.random() < odd:
            rows.append(rng.choice([*ODD, header, "", ",,", "a,b,c,d", "a,b,c,"]))
            continue
        text = rng.choice(TEXTS)
        quoted = f'"{text}"' if '"' in text or "," in text or rng.random() < 0.3 else text
        rows.append(f"{quoted},{rng.randint(0, 99)},2026-01-0{rng.randint(1, 9)}")
    return end.join([*rows, ""])


@pytest.mark.parametrize("odd", [0, 0.02, 0.3])
@pytest.mark.parametrize("options", [ReadOptions(format="csv", text=("message",)), ReadOptions(format="csv")])
def test_a_table_in_blocks_has_the_rows_of_one_by_one(tmp_path: Path, odd: float, options: ReadOptions) -> None:
    path = tmp_path / "a.csv"
    for seed in range(12):
        rng = random.Random(seed)
        header = "message,count,time" if options.text or seed % 3 else ""
        path.write_bytes(csv_file(rng, odd, header, rng.choice(["\n", "\r\n"])).encode())
        expected = one_by_one(options, path)
        for size in (1 << 20, 200):
            found, in_frames = in_blocks(options, path, size)
            assert found == expected
            assert odd or in_frames > 0.5 * len(expected)


MESSAGES = [
    *TEXTS,
    "tab\there",
    "two\nlines",
    'say \\ "message": 5',
    "\x1b[31mred",
    "\ufeffmark",
    "\0",
    "sum\u00e9 \U0001f600",
]
NUMBERS = [5, -0.0, 1e300, 10**25, True, None, [1, "a"], {"message": "inner"}, {"b": [1]}, "x"]
BROKEN = [
    '{"message": "a"',
    '{"message": "a"} {"message": "b"}',
    '{"message": "a", "message": "b"}',
    '{"message": "a", "n": NaN}',
    '{"message": "\\ud83d"}',
    '["message"]',
    '"only text"',
    "",
    "   ",
    "not json",
    '{"message": "a", "n": 01}',
    '{"message": "tab\there raw"}',
    '{"message": "a\\u001b[31mb"}',
    '{"events": ["a", "b"], "message": "c"}',
    '{"Records": [{"message": "a"}, {"message": "b"}]}',
    '{"log": "x\\n", "stream": "stdout", "time": "t"}',
    '{"message": "a", "kubernetes": {"pod": "p"}}',
    '{"Message": "a"}',
    '{"message": "a", "m\\u0065ssage": "b"}',
    '{"message": "a", "host": {"time": "inner"}}',
]


def an_object(rng: random.Random, odd: float, *, alone: bool = False) -> dict[str, object]:
    """A message and its time, and unless it stands ``alone`` other members."""
    text: object = rng.choice(MESSAGES) if rng.random() < 0.5 else f"job {rng.randint(1, 10**9)} done"
    if rng.random() < odd:
        text = rng.choice(NUMBERS)
    value: dict[str, object] = {"time": f"2026-01-02T03:04:{rng.randint(10, 59)}Z", "message": text}
    if rng.random() < odd:
        value["n"] = rng.choice(NUMBERS)
    elif not alone:
        value |= {"n": 1, "host": {"name": "a"}}
    if rng.random() < odd:
        value["timestamp" if rng.random() < 0.5 else "@timestamp"] = rng.choice(["x", 17, None])
    if rng.random() < odd:
        value.pop(rng.choice(["time", "message"]))
    return value


def learned(options: ReadOptions) -> ReadOptions:
    column = LearnedColumn(name="message", type="text")
    return options.model_copy(update={"table": TableSchema(columns=(column,), ignored=("n", "host.name"))})


JSONL = ReadOptions(format="jsonl")


@pytest.mark.parametrize("odd", [0, 0.05, 0.3])
@pytest.mark.parametrize("options", [JSONL, JSONL.model_copy(update={"text": ("message",)}), learned(JSONL)])
def test_json_lines_in_blocks_have_the_rows_of_one_by_one(tmp_path: Path, odd: float, options: ReadOptions) -> None:
    path = tmp_path / "a.jsonl"
    for seed in range(8):
        rng = random.Random(seed)
        objects = [an_object(rng, odd, alone=options == JSONL) for _ in range(rng.randint(2, 80))]
        lines = [json.dumps(value, ensure_ascii=seed % 2 == 0) for value in objects]
        for _ in range(int(odd * 40)):
            lines.insert(rng.randint(1, len(lines)), rng.choice(BROKEN))
        path.write_bytes(rng.choice(["\n", "\r\n"]).join([*lines, ""]).encode("utf-8", "surrogatepass"))
        expected = one_by_one(options, path)
        for size in (1 << 20, 300):
            found, in_frames = in_blocks(options, path, size)
            assert found == expected
            assert odd or in_frames > 0.5 * len(expected)


LOG_LINES = {
    "docker": lambda text, n: {"log": f"{text}\n", "stream": "stdout", "time": f"2026-01-02T03:04:{n}.1Z"},
    "cut": lambda text, n: {"log": text + "\n" * (n % 3 > 0), "stream": "stderr", "time": f"2026-01-02T03:04:{n}.1Z"},
    "journald": lambda text, n: {"__REALTIME_TIMESTAMP": f"17673230{n}000000", "MESSAGE": text, "_PID": "1"},
    "kubernetes": lambda text, n: {"time": f"T{n}", "log": f"{text}\n", "kubernetes": {"pod_name": "p", "n": n}},
}


@pytest.mark.parametrize("kind", LOG_LINES)
def test_lines_of_a_log_as_json_in_blocks_are_those_of_one_by_one(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.json"
    for seed in range(8):
        rng = random.Random(seed)
        texts = [rng.choice([*MESSAGES, "connected 17"]) for _ in range(40)]
        lines = [json.dumps(LOG_LINES[kind](text, rng.randint(10, 59)), separators=(",", ":")) for text in texts]
        if seed % 2:
            lines[20:20] = rng.sample(BROKEN, 3)
        path.write_text("\n".join([*lines, ""]), encoding="utf-8")
        expected = one_by_one(JSONL, path)
        for size in (1 << 20, 300):
            found, in_frames = in_blocks(JSONL, path, size)
            assert found == expected
        assert in_frames > 10 or kind == "cut"


@pytest.mark.parametrize("odd", [False, True])
def test_parquet_in_blocks_has_the_rows_of_one_by_one(tmp_path: Path, odd: bool) -> None:
    path, rng = tmp_path / "a.parquet", random.Random(3)
    texts: list[str | None] = [rng.choice(MESSAGES) if odd else f"job {n}" for n in range(300)]
    if odd:
        texts[7] = None
    times = [datetime(2026, 1, 2, 3, 4, 5, n) for n in range(300)]
    nested = [{"a": n} for n in range(300)]
    frame, options = pl.DataFrame({"message": texts, "n": range(300), "time": times}), ReadOptions(format="parquet")
    for part, reading in (
        (frame.with_columns(pl.Series("nested", nested)), learned(options)),
        (frame.drop("n"), options),
    ):
        part.write_parquet(path)
        expected = one_by_one(reading, path)
        found, in_frames = in_blocks(reading, path, 1 << 20)
        assert found == expected
        assert in_frames > 100


def test_a_table_that_is_no_text_is_read_whole_after_it_was_looked_at(tmp_path: Path) -> None:
    """Its lines may end with carriage returns alone, as old programs write them."""
    path = tmp_path / "t.csv"
    path.write_bytes(b"part,state\r" + b"".join(b"disk %d full,since %d\r" % (i, i) for i in range(50)))
    with ReadOptions().open(path, 65_536, lenient=True) as (stream, kind, request):
        table = open_blocks(stream, kind, request)
        assert table is not None
        assert not table.is_text
        assert len(list(read_rows(stream, kind, request))) == 50
