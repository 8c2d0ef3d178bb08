"""Sources whose text is one column: what else a file has is named, and the column is found under any of its names."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from agent.core.errors import InputError
from agent.core.records import Record
from agent.data.read_options import ReadOptions
from agent.data.readers import ParsedRow, RowError
from agent.data.record_reading import as_read, dropped_fields, lacks_text, note_on_reading
from agent.training.reading_report import survey

TEXTS = ["the oak was felled", "no tree, no shade", 'they said "wait" and left', "leaves fell early"]
NOTE = "has 'wind', which the cases do not have: is not read"


def table(path: Path, columns: dict[str, list[str]]) -> Path:
    frame = pl.DataFrame(columns)
    match path.suffix:
        case ".jsonl":
            frame.write_ndjson(path)
        case ".parquet":
            frame.write_parquet(path)
        case _:
            frame.write_csv(path)
    return path


def learned(tmp_path: Path, text: tuple[str, ...] = (), **others: str) -> ReadOptions:
    columns = {"remark": TEXTS, **{name: [value] * 4 for name, value in others.items()}, "cut": ["0", "1", "0", "0"]}
    options = ReadOptions(label="cut", text=text)
    return survey([table(tmp_path / "learn.csv", columns)], options, 65_536).options


def texts(options: ReadOptions, path: Path) -> tuple[list[str], list[str]]:
    rows = [row for row in options.read_unlabelled(path, 65_536) if isinstance(row, ParsedRow)]
    assert not any(row.record.fields for row in rows)
    return [row.record.text for row in rows], [note for row in rows for note in row.notes]


@pytest.mark.parametrize("text", [(), ("remark",)])
@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
def test_a_further_column_is_named_once_and_not_read(tmp_path: Path, text: tuple[str, ...], name: str) -> None:
    options = learned(tmp_path, text)
    wind = ["strong"] * 4
    assert texts(options, table(tmp_path / name, {"remark": TEXTS, "wind": wind})) == (TEXTS, [NOTE])
    assert texts(options, table(tmp_path / name, {"wind": wind, "cut": wind, "remark": TEXTS})) == (TEXTS, [NOTE])
    other_case = "columns are read by other names: 'ReMark' as 'remark'"
    assert texts(options, table(tmp_path / name, {"ReMark": TEXTS, "wind": wind})) == (TEXTS, [other_case, NOTE])


def test_columns_that_the_learned_files_have_are_not_named(tmp_path: Path) -> None:
    options = learned(tmp_path, ("remark",), wind="weak")
    assert texts(options, table(tmp_path / "t.csv", {"remark": TEXTS, "wind": ["strong"] * 4})) == (TEXTS, [])
    read = as_read(Record(fields={"remark": TEXTS[0], "wind": "strong"}), options)
    assert (read.text, read.fields) == (TEXTS[0], {})


@pytest.mark.parametrize("text", [(), ("remark",)])
def test_a_file_without_the_column_is_refused_and_read_as_told(tmp_path: Path, text: tuple[str, ...]) -> None:
    options = learned(tmp_path, text)
    path = table(tmp_path / "t.csv", {"message": TEXTS, "wind": ["strong"] * 4})
    with pytest.raises(InputError, match=r"lacks 'remark'.* it has 'message', 'wind'; --columns remark=NAME"):
        texts(options, path)
    renamed = options.model_copy(update={"table": options.table.with_names([("remark", "message")])})
    assert texts(renamed, path) == (TEXTS, [NOTE])


@pytest.mark.parametrize("name", ["remark", "anything"])
def test_a_file_with_one_column_is_texts_whatever_its_name(tmp_path: Path, name: str) -> None:
    assert texts(learned(tmp_path), table(tmp_path / "t.csv", {name: TEXTS}))[0] == TEXTS


def test_an_object_without_the_column_is_an_error(tmp_path: Path) -> None:
    rows = [{"remark": TEXTS[0]}, {"wind": "strong", "sun": "low"}, {"remark": TEXTS[1], "sun": "high"}]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    read = list(learned(tmp_path).read_unlabelled(tmp_path / "t.jsonl", 65_536))
    assert [getattr(row, "reason", None) for row in read] == [None, "has no 'remark', which holds the text", None]
    assert isinstance(read[1], RowError)


def test_a_log_of_a_container_has_no_columns(tmp_path: Path) -> None:
    line = json.dumps({"log": "the oak was felled\n", "stream": "stdout", "time": "2026-01-02T03:04:05Z"})
    (tmp_path / "c.log").write_text(line, encoding="utf-8")
    for options in (learned(tmp_path), learned(tmp_path, ("remark",))):
        note = "these are lines as Docker writes them: their text is 'log' (--text names others)"
        assert texts(options, tmp_path / "c.log") == (["the oak was felled"], [note])
    labelled = json.dumps({"log": "the oak was felled\n", "stream": "stdout", "cut": 0})
    (tmp_path / "learn.jsonl").write_text(labelled, encoding="utf-8")
    assert survey([tmp_path / "c.log"], ReadOptions(), 65_536).options.table.text_column is None


@pytest.mark.parametrize("content", ["{}\n{}\n", '"{}"\n"{}"\n', "\ufeff{}\r\n{}\r\n"])
def test_the_learned_name_over_the_texts_is_a_header(tmp_path: Path, content: str) -> None:
    options = learned(tmp_path)
    for name in ("t.csv", "t.txt"):
        (tmp_path / name).write_text(content.format("remark", "it fell"), encoding="utf-8")
        assert texts(options, tmp_path / name) == (["it fell"], [])


def test_lines_under_the_learned_name_are_not_split_at_commas_and_quotes_end_where_they_end(tmp_path: Path) -> None:
    lines = 'remark\nwind, rain\nhail, snow\n"first\nsecond"\n"a ""b"" c"\n'
    (tmp_path / "t.txt").write_text(lines, encoding="utf-8")
    expected = ["wind, rain", "hail, snow", "first\nsecond", 'a "b" c']
    assert texts(learned(tmp_path), tmp_path / "t.txt")[0] == expected
    (tmp_path / "t.txt").write_text("remark\nwind, rain\nhail, snow\nsun, heat\n", encoding="utf-8")
    assert texts(learned(tmp_path), tmp_path / "t.txt")[0] == ["wind, rain", "hail, snow", "sun, heat"]
    (tmp_path / "t.txt").write_text('remark\n"Oak" is a tree\nsay "Elm"\n', encoding="utf-8")
    assert texts(learned(tmp_path), tmp_path / "t.txt")[0] == ['"Oak" is a tree', 'say "Elm"']


def test_a_header_alone_is_no_record(tmp_path: Path) -> None:
    options = learned(tmp_path)
    for name, content in (("t.csv", "remark\n"), ("t.txt", "remark\n"), ("t.csv", "remark,wind\n")):
        (tmp_path / name).write_text(content, encoding="utf-8")
        with pytest.raises(InputError, match="has no records below its header"):
            texts(options, tmp_path / name)
    with pytest.raises(InputError, match="has no records below its header"):
        survey([tmp_path / "t.csv"], ReadOptions(label="1"), 65_536)


def test_single_records_are_read_as_files_are(tmp_path: Path) -> None:
    options = learned(tmp_path)
    for fields in ({"remark": TEXTS[0]}, {"REMARK": TEXTS[0]}, {"remark": TEXTS[0], "cut": 1.0, "id": "x"}):
        sent = Record(fields=fields)
        read = as_read(sent, options)
        assert (read.text, read.fields, dropped_fields(sent, read, options)) == (TEXTS[0], {}, ())
        assert as_read(read, options) == read
    sent = Record(fields={"Remark": TEXTS[0], "wind": "strong"})
    assert as_read(sent, options).text == TEXTS[0]
    assert as_read(sent, options).fields == {"wind": "strong"}
    assert note_on_reading(sent, as_read(sent, options), options) == "read by other names: 'Remark' as 'remark'"
    assert not lacks_text(sent, options)
    assert lacks_text(Record(fields={"wind": "strong"}), options)
    spelled = as_read(Record(text="wind is strong remark is low"), options)
    assert (spelled.text, spelled.fields) == ("wind is strong remark is low", {"wind": "strong", "remark": "low"})
