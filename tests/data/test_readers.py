"""Each format, read as a user would have it read, and the public files that it must get right."""

from __future__ import annotations

import gzip
import io
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import zstandard

from agent.core.errors import InputError
from agent.data.readers import ParsedRow, RowError
from tests.data.reading import read

DATA = Path(__file__).parents[3] / "shared" / "data"


def readings(path: Path | str, **options: Any) -> list[ParsedRow]:
    """All that is read, where nothing may be unreadable."""
    items = list(read(path, **options))
    broken = [str(item) for item in items if isinstance(item, RowError)]
    assert broken == []
    return [item for item in items if isinstance(item, ParsedRow)]


def texts(path: Path | str, **options: Any) -> list[str]:
    return [reading.record.text for reading in readings(path, **options)]


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


class TestLogs:
    def test_one_record_a_line_with_file_and_line_and_no_blank_lines(self, tmp_path: Path) -> None:
        path = write(tmp_path, "app.log", "first line\r\n\n   \n  second, kept as it is \nlast")
        found = readings(path)
        assert [(r.record.text, r.record.line) for r in found] == [
            ("first line", 1),
            ("  second, kept as it is ", 4),
            ("last", 5),
        ]
        assert {r.record.file for r in found} == {str(path)}
        assert {(r.label, r.label_value) for r in found} == {(None, None)}

    def test_a_label_column_is_taken_out_of_the_text_and_the_rest_is_untouched(self, tmp_path: Path) -> None:
        path = write(tmp_path, "bgl.log", "- 117  cache  error\nAPPREAD 118 ciod: failed\n")
        found = readings(path, label="0", normal=["-"])
        assert [(r.record.text, r.label, r.label_value) for r in found] == [
            ("117  cache  error", "normal", "-"),
            ("118 ciod: failed", "anomalous", "APPREAD"),
        ]

    def test_a_label_in_the_last_column(self, tmp_path: Path) -> None:
        path = write(tmp_path, "app.log", "disk full BAD\nall well OK\n")
        assert texts(path, label="2", normal=["ok"]) == ["disk full", "all well"]

    def test_text_columns_by_number_and_range(self, tmp_path: Path) -> None:
        path = write(tmp_path, "app.log", "a b c d e\nf g h\n")
        assert texts(path, text=["0", "2-3"]) == ["a c d", "f h"]

    def test_name_is_value_lines_have_fields(self, tmp_path: Path) -> None:
        path = write(tmp_path, "jobs.txt", "delay is 5.0 host is n1 bytes is nan\n")
        assert readings(path)[0].record.fields == {"delay": 5.0, "host": "n1", "bytes": None}

    def test_prose_has_no_fields(self, tmp_path: Path) -> None:
        path = write(tmp_path, "a.txt", "this is a disk and it is full\nit is late it is dark\n")
        assert [r.record.fields for r in readings(path)] == [{}, {}]

    def test_a_name_for_a_column_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"columns .* have numbers.*'Label'.*--format"):
            list(read(write(tmp_path, "app.log", "a b\n"), label="Label"))


class TestTables:
    @pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
    def test_any_delimiter_with_typed_fields(self, tmp_path: Path, delimiter: str) -> None:
        table = [
            ["amount", "shop", "online", "note", "label"],
            ["12.50", "kiosk", "true", "NA", "0"],
            ["7", "bar", "false", "", "1"],
        ]
        path = write(tmp_path, "t.csv", "\n".join(delimiter.join(row) for row in table) + "\n")
        first, second = readings(path, label="label")
        assert first.record.fields == {"amount": 12.5, "shop": "kiosk", "online": True, "note": None}
        assert first.record.text == "amount is 12.5 shop is kiosk online is true"
        assert (first.label, first.record.line) == ("normal", 2)
        assert second.record.fields == {"amount": 7.0, "shop": "bar", "online": False, "note": None}
        assert (second.label, second.label_value, second.record.line) == ("anomalous", "1", 3)

    @pytest.mark.parametrize(
        ("cell", "value"),
        [
            ("-1.5e3", -1500.0),
            (" 7 ", 7.0),
            (".5", 0.5),
            ("1_000", "1_000"),
            ("1.2.3", "1.2.3"),
            ("inf", "inf"),
            ("TRUE", True),
            ("NaN", None),
            ("null", None),
            ("9" * 400, "9" * 400),
        ],
    )
    def test_types_of_cells(self, tmp_path: Path, cell: str, value: object) -> None:
        path = write(tmp_path, "t.csv", f"a,b\n{cell},x\n")
        found = readings(path)[0].record.fields["a"]
        assert (found, type(found)) == (value, type(value))

    def test_one_text_column_is_the_text_as_it_is(self, tmp_path: Path) -> None:
        path = write(tmp_path, "t.csv", 'id,text,label\n7," hello, you ",ham\n8,win now,spam\n')
        found = readings(path, text=["text"], label="label")
        assert [(r.record.text, r.record.fields, r.label) for r in found] == [
            (" hello, you ", {}, "normal"),
            ("win now", {}, "anomalous"),
        ]

    def test_one_numeric_column_is_a_field_too_and_the_time_is_no_field(self, tmp_path: Path) -> None:
        path = write(tmp_path, "t.csv", "timestamp,value\n2014-04-01 00:00:00,19.5\n2014-04-01 00:05:00,20\n")
        first, second = (r.record for r in readings(path))
        assert (first.text, first.fields, first.time) == ("19.5", {"value": 19.5}, "2014-04-01 00:00:00")
        assert (second.text, second.fields) == ("20", {"value": 20.0})

    def test_no_header_when_columns_are_numbers_the_first_row_does_not_hold(self, tmp_path: Path) -> None:
        path = write(tmp_path, "t.csv", "5,tcp,normal,21\n9,udp,neptune,3\n")
        found = readings(path, label="2", text=["0-1"])
        assert [(r.record.fields, r.label, r.record.line) for r in found] == [
            ({"0": 5.0, "1": "tcp"}, "normal", 1),
            ({"0": 9.0, "1": "udp"}, "anomalous", 2),
        ]

    def test_a_numbered_header_is_a_header(self, tmp_path: Path) -> None:
        path = write(tmp_path, "t.csv", "0,1,2\n5,tcp,normal\n9,udp,neptune\n")
        assert [r.label for r in readings(path, label="2")] == ["normal", "anomalous"]

    @pytest.mark.parametrize(
        ("content", "lines"),
        [
            ("host,load\na,1\nb,2\n", [2, 3]),
            ("text,kind\nhello there,x\nbye now,y\n", [2, 3]),
            ("ham,hello there\nspam,win now\nham,bye\n", [1, 2, 3]),
            ("1,2\n3,4\n", [1, 2]),
            ("hello\nworld\n", [1, 2]),
            ("load\n1\n2\n", [2, 3]),
        ],
    )
    def test_whether_there_is_a_header_when_no_column_is_named(
        self, tmp_path: Path, content: str, lines: list[int]
    ) -> None:
        assert [r.record.line for r in readings(write(tmp_path, "t.csv", content))] == lines

    def test_text_may_be_lists_ranges_and_names_that_look_like_them(self, tmp_path: Path) -> None:
        path = write(tmp_path, "t.csv", '"a,b",0-9,c,d\n1,2,3,4\n5,6,7,8\n')
        assert readings(path, text=["a,b", "0-9", "d,c"])[0].record.fields == {
            "a,b": 1.0,
            "0-9": 2.0,
            "d": 4.0,
            "c": 3.0,
        }

    def test_quoted_line_ends_keep_the_first_line_number(self, tmp_path: Path) -> None:
        path = write(tmp_path, "t.csv", 'a,b\n1,"two\nlines"\n3,four\n')
        assert [(r.record.fields["b"], r.record.line) for r in readings(path)] == [("two\nlines", 2), ("four", 4)]

    def test_stray_quotes_in_tab_separated_prose_are_prose(self, tmp_path: Path) -> None:
        path = write(tmp_path, "t.tsv", 'ham\t"so he said\nspam\tcall "now"\nham\tok" bye\n')
        assert texts(path, label="0") == ['"so he said', 'call "now"', 'ok" bye']

    def test_clearly_quoted_tab_separated_cells_are_unquoted(self, tmp_path: Path) -> None:
        path = write(tmp_path, "t.tsv", 'ham\t"say ""hi""\tthere"\nham\tok\n')
        assert texts(path, label="0") == ['say "hi"\tthere', "ok"]

    def test_tables_without_a_telling_name(self, tmp_path: Path) -> None:
        sms = write(tmp_path, "SMSCollection", "ham\tgo on, then\nspam\twin, win\n")
        numbers = write(tmp_path, "net.txt", "1,2,3,x\n4,5,6,y\n")
        assert texts(sms, label="0") == ["go on, then", "win, win"]
        assert readings(numbers, label="3")[0].record.fields == {"0": 1.0, "1": 2.0, "2": 3.0}

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("a.log", "a,b,c,d\ne,f,g,h\n"),
            ("a.log.1", "a,b,c,d\ne,f,g,h\n"),
            ("a.txt", "well, yes\nno, never\n"),
            ("a.txt", "x\ty\nno tab here\n"),
        ],
    )
    def test_logs_and_prose_are_not_taken_for_tables(self, tmp_path: Path, name: str, content: str) -> None:
        assert texts(write(tmp_path, name, content)) == content.splitlines()

    def test_an_explicit_format_wins(self, tmp_path: Path) -> None:
        log = write(tmp_path, "a.log", "a,b\n1,2\n3,4\n")
        assert readings(log, format="csv")[0].record.fields == {"a": 1.0, "b": 2.0}
        table = write(tmp_path, "a.csv", "a,b\n1,2\n")
        assert texts(table, format="log") == ["a,b", "1,2"]


class TestJson:
    def write(self, folder: Path, *values: Any, name: str = "a.jsonl") -> Path:
        return write(folder, name, "".join(json.dumps(value) + "\n" for value in values))

    def test_flat_and_nested_rows(self, tmp_path: Path) -> None:
        row = {"id": 7, "cpu": {"load": 0.5, "hot": True}, "tags": ["a", 2], "gone": None, "label": False}
        found = readings(self.write(tmp_path, row), label="label")[0]
        assert found.record.fields == {"cpu.load": 0.5, "cpu.hot": True, "tags": "a, 2", "gone": None}
        assert found.record.text == "cpu.load is 0.5 cpu.hot is true tags is a, 2"
        assert (found.label, found.label_value) == ("normal", "false")

    def test_dotted_names_can_be_asked_for(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, {"cpu": {"load": 3, "hot": True}, "x": 1})
        assert readings(path, text=["cpu.load", "x"])[0].record.fields == {"cpu.load": 3.0, "x": 1.0}

    def test_a_lone_message_is_the_text_and_time_is_the_time(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, {"@timestamp": "2026-01-01", "message": "disk full", "label": 1})
        found = readings(path, label="label")[0]
        assert (found.record.text, found.record.fields, found.record.time) == ("disk full", {}, "2026-01-01")
        assert found.label == "anomalous"

    def test_a_session(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, {"id": "s1", "events": ["open", 5, "close"], "seconds": 3, "label": 0})
        plain = readings(path, label="label")[0].record
        assert (plain.text, plain.events, plain.fields) == ("open ; 5 ; close", ("open", "5", "close"), {})
        assert readings(path, label="label", text=["seconds"])[0].record.fields == {"seconds": 3.0}

    def test_a_long_session_is_shortened_and_says_so(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, {"events": list(range(10_001))})
        found = readings(path, max_chars=1_000)[0]
        assert len(found.record.events) == 10_000
        assert len(found.record.text) == 1_000
        assert found.notes[0] == "the first 10000 of 10001 events are kept"
        assert "to 1000 characters" in found.notes[1]

    def test_strings_are_texts(self, tmp_path: Path) -> None:
        assert texts(self.write(tmp_path, "one", "two")) == ["one", "two"]

    def test_json_is_known_by_its_first_line_whatever_the_name(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, {"text": "one"}, {"text": "two"}, name="service.log")
        assert texts(path) == ["one", "two"]

    @pytest.mark.parametrize("indent", [None, 2])
    def test_an_array_keeps_its_lines(self, tmp_path: Path, indent: int | None) -> None:
        path = write(tmp_path, "a.json", json.dumps([{"text": "one"}, {"text": "two"}], indent=indent))
        found = readings(path)
        assert [r.record.text for r in found] == ["one", "two"]
        assert [r.record.line for r in found] == ([1, 1] if indent is None else [2, 5])

    def test_what_no_store_takes_is_replaced_and_noted(self, tmp_path: Path) -> None:
        path = write(tmp_path, "a.jsonl", '{"text": "a\\u0000b\\ud800c"}\n"a\\u0000b\\ud800c"\n')
        found, string = readings(path)
        assert found.record.text == string.record.text == "a\ufffdb\ufffdc"
        assert found.notes == string.notes == ("2 characters were NUL or half of a pair and were replaced",)


class TestParquet:
    def frame(self) -> pl.DataFrame:
        return pl.DataFrame(
            {
                "time": [datetime(2026, 1, 1), datetime(2026, 1, 2)],
                "amount": [1.5, None],
                "shop": [{"name": "bar"}, {"name": "kiosk"}],
                "label": [0, 1],
            }
        )

    def test_rows(self, tmp_path: Path) -> None:
        path = tmp_path / "a.parquet"
        self.frame().write_parquet(path)
        first, second = readings(path, label="label")
        assert first.record.fields == {"amount": 1.5, "shop.name": "bar"}
        assert (first.record.time, first.record.line, first.label) == ("2026-01-01T00:00:00", 1, "normal")
        assert second.record.fields == {"amount": None, "shop.name": "kiosk"}
        assert (second.record.line, second.label) == (2, "anomalous")

    def test_from_a_pipe_and_packed(self, tmp_path: Path) -> None:
        content = io.BytesIO()
        self.frame().write_parquet(content)
        packed = write(tmp_path, "a.parquet.gz", gzip.compress(content.getvalue()))
        content.seek(0)
        assert texts("-", stdin=content, text=["shop.name"]) == texts(packed, text=["shop.name"]) == ["bar", "kiosk"]

    def test_batches_keep_order_and_count(self, tmp_path: Path) -> None:
        path = tmp_path / "a.parquet"
        pl.DataFrame({"n": range(25_000)}).write_parquet(path, row_group_size=1_000)
        assert [r.record.line for r in readings(path)] == list(range(1, 25_001))


class TestStreams:
    @pytest.mark.parametrize("name", ["app.log", "app.log.gz", "anything"])
    @pytest.mark.parametrize(
        "pack",
        [
            lambda data: data,
            gzip.compress,
            zstandard.compress,
            lambda data: gzip.compress(data[:7]) + gzip.compress(data[7:]) + bytes(512),
            lambda data: zstandard.compress(data[:7]) + zstandard.compress(data[7:]),
            lambda data: b"\x50\x2a\x4d\x18\x04\x00\x00\x00skip" + zstandard.compress(data),
        ],
    )
    def test_packing_is_known_by_its_magic(self, tmp_path: Path, name: str, pack: Any) -> None:
        path = write(tmp_path, name, pack(b"one line\nand another\n"))
        assert texts(path) == ["one line", "and another"]

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
    def test_encodings_with_a_mark(self, tmp_path: Path, encoding: str) -> None:
        path = write(tmp_path, "a.txt", "größer 🙂\r\nzwei\r\n".encode(encoding))
        found = readings(path)
        assert [r.record.text for r in found] == ["größer 🙂", "zwei"]
        assert [r.notes for r in found] == [(), ()]

    def test_standard_input(self) -> None:
        found = readings("-", stdin=io.BytesIO(b"a,b\n1,2\n"), format="csv")
        assert (found[0].record.file, found[0].record.line) == ("-", 2)

    def test_a_live_log_is_read_line_by_line(self) -> None:
        class Live(io.RawIOBase):
            def __init__(self) -> None:
                self.lines = [b"first\n"]

            def read1(self, size: int) -> bytes:
                assert self.lines, "waited for more than the first line"
                return self.lines.pop(0)

        first = next(read("-", stdin=Live(), multiline="off"))  # type: ignore[arg-type]
        assert isinstance(first, ParsedRow)
        assert first.record.text == "first"

    def test_what_is_not_utf8_is_replaced_and_counted_once(self, tmp_path: Path) -> None:
        path = write(tmp_path, "a.log", b"good\ncaf\xe9 \xff\xfe\nwith \0 NUL\ngood\n")
        found = readings(path)
        assert [r.record.text for r in found] == ["good", "caf\ufffd \ufffd\ufffd", "with \ufffd NUL", "good"]
        assert [r.notes for r in found] == [
            (),
            ("3 bytes were not UTF-8 and were replaced",),
            ("1 character was NUL and was replaced",),
            (),
        ]

    @pytest.mark.parametrize("character", ["a", "é", "🙂"])
    def test_a_long_line_keeps_head_and_tail(self, tmp_path: Path, character: str) -> None:
        path = write(tmp_path, "a.log", "x" + character * 1_000_000 + "END\nnext\n")
        long, after = readings(path, max_chars=100)
        assert len(long.record.text) == 100
        assert long.record.text.startswith("x" + character * 50)
        assert long.record.text.endswith(character * 10 + "END")
        assert "\ufffd" not in long.record.text
        assert " […] " in long.record.text
        assert long.notes == ("shortened from 1000004 to 100 characters",)
        assert (after.record.text, after.record.line) == ("next", 2)


@pytest.mark.parametrize("value", ["0", "0.0", " NORMAL ", "-", "Ham", "False"])
def test_normal_labels(tmp_path: Path, value: str) -> None:
    path = write(tmp_path, "a.csv", f"text,label\nhello,{value}\n")
    assert readings(path, label="label")[0].label == "normal"


@pytest.mark.parametrize("value", ["1", "0.5", "true", "neptune"])
def test_anomalous_labels(tmp_path: Path, value: str) -> None:
    path = write(tmp_path, "a.csv", f"text,label\nhello,{value}\n")
    found = readings(path, label="label")[0]
    assert (found.label, found.label_value) == ("anomalous", value)


def test_listed_normal_values_replace_the_default(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "text,label\nhello,benign\nworld,0\nthere,NA\n")
    found = readings(path, label="label", normal=["Benign", "na"])
    assert [r.label for r in found] == ["normal", "anomalous", "normal"]


@pytest.mark.data
class TestPublicData:
    """The files of ../shared/data, whose counts are known."""

    def path(self, name: str) -> Path:
        path = DATA / name
        if not path.exists():
            pytest.skip(f"{path} is not here: ../shared/data holds the public data sets on development machines only")
        return path

    @pytest.mark.parametrize(
        ("name", "options", "count", "anomalous"),
        [
            ("logs/bgl/BGL_2k.log_structured.csv", {"label": "Label", "normal": ["-"]}, 2_000, 143),
            ("logs/bgl/BGL_2k.log", {"label": "0", "normal": ["-"]}, 2_000, 143),
            ("sms/SMSSpamCollection", {"label": "0"}, 5_574, 747),
            ("hdfs_100k/train.jsonl", {"label": "label"}, 6_352, 256),
            ("nslkdd/KDDTest+.txt", {"label": "41", "text": ["0-40"]}, 22_544, 12_833),
            ("workflows/1000genome/test.csv", {"label": "label", "text": ["text"]}, 4_809, 1_580),
        ],
    )
    def test_labelled(self, name: str, options: dict[str, Any], count: int, anomalous: int) -> None:
        found = readings(self.path(name), **options)
        assert (len(found), sum(r.label == "anomalous" for r in found)) == (count, anomalous)

    @pytest.mark.parametrize("name", ["Apache", "HDFS", "Linux", "OpenSSH", "Spark", "Windows", "Zookeeper"])
    def test_raw_logs(self, name: str) -> None:
        path = self.path(f"logs/raw/{name}_2k.log")
        lines = path.read_bytes().replace(b"\r\n", b"\n").decode().split("\n")
        assert texts(path) == [line for line in lines if line.strip()]

    def test_workflow_rows_have_fields(self) -> None:
        found = readings(self.path("workflows/1000genome/test.csv"), label="label", text=["text"])
        assert {len(r.record.fields) for r in found} == {9}
        assert found[0].record.fields["queue_delay"] == 1006.0
        assert found[1].record.fields["stage_in_bytes"] is None

    def test_network_rows_have_41_fields(self) -> None:
        first = next(read(self.path("nslkdd/KDDTest+.txt"), label="41", text=["0-40"]))
        assert isinstance(first, ParsedRow)
        assert list(first.record.fields) == [str(number) for number in range(41)]
        assert (first.record.fields["1"], first.record.fields["22"]) == ("tcp", 229.0)

    def test_sessions_have_events(self) -> None:
        found = readings(self.path("hdfs_100k/train.jsonl"), label="label")
        assert all(r.record.events and not r.record.fields for r in found)

    def test_messages_have_no_fields(self) -> None:
        assert not any(r.record.fields for r in readings(self.path("sms/SMSSpamCollection"), label="0"))
