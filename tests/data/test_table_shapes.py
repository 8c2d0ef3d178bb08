"""Tables as programs write them: what is around the rows, which dialect, and what a file calls its columns."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from agent.core.errors import InputError
from agent.data.read_options import ReadOptions
from agent.data.readers import ParsedRow, RowError
from agent.data.readers.table_schema import LearnedColumn, TableSchema
from tests.data.reading import read

ROWS = [[f"{10 + i / 4}", str(200 + i), ("oak", "elm")[i % 2], str(int(i % 9 == 8))] for i in range(30)]
HEADER = ["width", "height", "tree", "cut"]
PLAIN = [dict(zip(HEADER[:3], [float(row[0]), float(row[1]), row[2]], strict=True)) for row in ROWS]


def text(rows: list[list[str]], *, delimiter: str = ",", end: str = "\n") -> str:
    return "".join(delimiter.join(row) + end for row in rows)


def fields(path: Path, content: str | bytes) -> list[dict[str, object]]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    rows = list(read(path, label="cut"))
    assert not [row for row in rows if isinstance(row, RowError)]
    return [row.record.fields for row in rows if isinstance(row, ParsedRow)]


SHAPES = {
    "comments": "# made by probe 7\n# widths in cm\n" + text([HEADER, *ROWS]),
    "comments inside": "# made by probe 7\n" + text([HEADER, *ROWS[:5]]) + "# half\n" + text(ROWS[5:]) + "# end\n",
    "title": "Trees of 2024\n\nExported on Monday\n" + text([HEADER, *ROWS]),
    "separator line": "sep=;\n" + text([HEADER, *ROWS], delimiter=";"),
    "quoted separator line": '"sep=|"\r\n' + text([HEADER, *ROWS], delimiter="|", end="\r\n"),
    "header again": text([HEADER, *ROWS[:7], HEADER, *ROWS[7:20], HEADER, *ROWS[20:]]),
    "joined with byte order marks": "\ufeff" + text([HEADER, *ROWS[:7]]) + "\ufeff" + text([HEADER, *ROWS[7:]]),
    "rows end in a delimiter": text([HEADER, *([*row, ""] for row in ROWS)]),
    "some rows end in a delimiter": text([HEADER, *([*row, ""][: 4 + i % 2] for i, row in enumerate(ROWS))]),
    "all lines end in a delimiter": text([[*row, ""] for row in (HEADER, *ROWS)]),
    "carriage returns": text([HEADER, *ROWS], end="\r"),
    "mixed line ends": text([HEADER, *ROWS[:9]], end="\r\n") + text(ROWS[9:]),
    "single quotes": text([[f"'{cell}'" for cell in row] for row in (HEADER, *ROWS)]),
    "spaces": text([[f" {cell}" for cell in row] for row in (HEADER, *ROWS)]),
    "spaces before quotes": text([[f'"{cell}"' for cell in row] for row in (HEADER, *ROWS)], delimiter=", "),
    "tabs": text([HEADER, *ROWS], delimiter="\t"),
    "utf-16": text([HEADER, *ROWS]).encode("utf-16"),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_each_shape_gives_the_same_rows(tmp_path: Path, shape: str) -> None:
    assert fields(tmp_path / "t.csv", SHAPES[shape]) == PLAIN


def test_names_of_rows_are_a_column_without_a_name(tmp_path: Path) -> None:
    named = text([HEADER, *([f'"{i}"', *row] for i, row in enumerate(ROWS, start=1))])
    assert fields(tmp_path / "t.csv", named) == [{"0": float(i), **row} for i, row in enumerate(PLAIN, start=1)]


def test_what_is_left_out_is_named_on_the_record_after_it(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("# by probe 7\n" + text([HEADER, ROWS[0], HEADER, *ROWS[1:]]), encoding="utf-8")
    first, second, third = list(read(path, label="cut"))[:3]
    assert first.notes == (  # type: ignore[union-attr]
        "what comes before line 2 is not part of the table",
        "lines that begin with # are left out",
    )
    assert second.notes == ("line 4 is the header again and is left out",)  # type: ignore[union-attr]
    assert third.notes == ()  # type: ignore[union-attr]


def test_backslashes_before_quotes_are_read_as_doubled_quotes_are(tmp_path: Path) -> None:
    said = ['he said "stop", twice', "nothing", 'a "b" c', "plain, with a comma"] * 8
    file = io.StringIO()
    csv.writer(file, quoting=csv.QUOTE_ALL).writerows(
        [["n", "said", "cut"], *([i, one, 0] for i, one in enumerate(said))]
    )
    doubled = file.getvalue()
    expected = fields(tmp_path / "doubled.csv", doubled)
    assert [row["said"] for row in expected] == said
    assert fields(tmp_path / "backslash.csv", doubled.replace('""', '\\"')) == expected


def test_a_table_whose_rows_do_not_fit_its_header_is_refused_by_one_message(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text([HEADER, *([*row, "1", "2"] for row in ROWS)]), encoding="utf-8")
    with pytest.raises(
        InputError, match=r"with the delimiter ',' .* its header has 4 columns and its first rows have 6"
    ):
        list(read(path, label="cut"))


LEARNED = ReadOptions(
    label="cut",
    table=TableSchema(columns=tuple(LearnedColumn(name=name, type="number") for name in HEADER[:3])),
)


def unlabelled(path: Path, header: list[str] | None, options: ReadOptions = LEARNED) -> list[ParsedRow | RowError]:
    path.write_text(text([*([header] if header else []), *ROWS]), encoding="utf-8")
    return list(options.read_unlabelled(path, 65_536))


@pytest.mark.parametrize(
    "header",
    [["Width", "HEIGHT", "tree", "Cut"], [" width ", "height", "Tree", "cut"], ["WIDTH", "Height", "t.r.e.e", "cut"]],
)
def test_columns_in_another_case_are_matched_and_named(tmp_path: Path, header: list[str]) -> None:
    first, *rest = unlabelled(tmp_path / "t.csv", header)
    assert isinstance(first, ParsedRow)
    assert list(first.record.fields) == HEADER[:3]
    assert first.notes[0].startswith("columns are read by other names: ")
    assert not any(row.notes for row in rest if isinstance(row, ParsedRow))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            ["width_cm", "height_cm", "kind", "class"],
            "lacks 'width', 'height', 'tree'.*--columns width=width_cm --columns height=height_cm",
        ),
        (["height", "tree", "species", "cut"], "lacks 'width', which the cases"),
        (None, "lacks 'width'.* has no header: its columns are 0 to 3"),
    ],
)
def test_a_file_without_learned_columns_is_refused_with_the_nearest(
    tmp_path: Path, header: list[str] | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        unlabelled(tmp_path / "t.csv", header)


def test_columns_are_read_under_the_names_that_a_person_says(tmp_path: Path) -> None:
    table = LEARNED.table.with_names([("width", "breite"), ("hoehe", "height")])
    first, *_ = unlabelled(
        tmp_path / "t.csv", ["breite", "hoehe", "tree", "x"], LEARNED.model_copy(update={"table": table})
    )
    assert isinstance(first, ParsedRow)
    assert list(first.record.fields)[:3] == HEADER[:3]
    with pytest.raises(ValueError, match="the source has neither"):
        LEARNED.table.with_names([("breite", "hoehe")])


def test_of_many_columns_a_file_may_lack_few(tmp_path: Path) -> None:
    names = [f"c{i}" for i in range(20)]
    options = ReadOptions(table=TableSchema(columns=tuple(LearnedColumn(name=name, type="number") for name in names)))
    path = tmp_path / "t.csv"
    for lacking, refused in ((2, False), (3, True)):
        kept = names[lacking:]
        path.write_text(text([kept, *([str(i)] * len(kept) for i in range(5))]), encoding="utf-8")
        if refused:
            with pytest.raises(InputError, match="lacks 'c0', 'c1', 'c2'"):
                list(options.read_unlabelled(path, 65_536))
        else:
            first, *_ = options.read_unlabelled(path, 65_536)
            assert isinstance(first, ParsedRow)
            assert first.notes[0].startswith("lacks 'c0', 'c1', which the cases have")


def test_rows_that_lack_their_last_cells_have_no_value_there(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text([HEADER, *(row if i % 7 else row[:2] for i, row in enumerate(ROWS))]), encoding="utf-8")
    parsed = list(read(path, label="cut", lenient=True))
    assert len(parsed) == len(ROWS)
    assert all(isinstance(row, ParsedRow) for row in parsed)
    records = [row.record.fields for row in parsed if isinstance(row, ParsedRow)]
    assert records == [row if i % 7 else {**row, "tree": None} for i, row in enumerate(PLAIN)]
    notes = [(row.record.line, row.notes) for row in parsed if isinstance(row, ParsedRow) and row.notes]
    first = (2, ("has 2 of 4 cells; those missing are empty, also in later rows",))
    assert notes == [first, (31, ("5 rows of the file have fewer cells than columns",))]


def test_a_row_over_several_lines_is_not_filled_up(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('a,b,c\n1,2,3\n4,"5\n6",\n7,"8\n9,1,2\n', encoding="utf-8")
    items = list(read(path))
    assert [item.line for item in items if isinstance(item, RowError)] == [5]
    assert [item.record.line for item in items if isinstance(item, ParsedRow)] == [2, 3, 6]


def test_a_backslash_before_a_quote_may_be_one_of_the_cell(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(
        '"n","message","label"\n"1","say \\"hi\\" now","0"\n"2","in C:\\dir\\","1"\n"3","plain","0"\n', encoding="utf-8"
    )
    rows = [row for row in read(path, text=["message"], label="label") if isinstance(row, ParsedRow)]
    assert [row.record.text for row in rows] == ['say "hi" now', "in C:\\dir\\", "plain"]


def test_columns_that_no_case_has_are_named_once(tmp_path: Path) -> None:
    table = TableSchema(columns=tuple(LearnedColumn(name=name, type="number") for name in ("width", "height")))
    for name, content in (
        ("t.csv", "width,height,weight,cut,time\n1,2,3,0,9\n2,3,4,0,9\n"),
        (
            "t.jsonl",
            '{"width": 1, "height": 2, "weight": 3, "cut": 0, "id": 7}\n{"width": 2, "height": 3, "weight": 4}\n',
        ),
    ):
        (tmp_path / name).write_text(content, encoding="utf-8")
        rows = list(read(tmp_path / name, label="cut", lenient=True, table=table))
        notes = [note for row in rows if isinstance(row, ParsedRow) for note in row.notes]
        assert notes == ["has 'weight', which the cases do not have: is not read"]


def test_what_sessions_have_beside_their_events_is_named_once(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    line = '{"session_id": 3, "events": ["a", "b"], "host": "n1", "label": 0, "time": "noon"}\n'
    path.write_text(line * 3 + line.replace("host", "text"), encoding="utf-8")
    rows = [row for row in read(path, label="label") if isinstance(row, ParsedRow)]
    named = "beside the events of a session {} is not read"
    assert [row.notes for row in rows] == [(named.format("'host'"),), (), (), (named.format("'text'"),)]
    assert not [row for row in read(path, label="label", text=["host", "text"]) if getattr(row, "notes", ())]


def test_a_new_name_that_the_file_does_not_have_is_named(tmp_path: Path) -> None:
    learned = TableSchema(columns=tuple(LearnedColumn(name=name, type="number") for name in ("width", "height")))
    path = tmp_path / "t.csv"
    path.write_text("w,height\n1,2\n2,3\n", encoding="utf-8")
    with pytest.raises(InputError, match="--columns width=wide: it has no column 'wide', but 'w', 'height'"):
        list(read(path, lenient=True, table=learned.with_names([("width", "wide")])))
    rows = list(read(path, lenient=True, table=learned.with_names([("width", "w")])))
    assert next(row.record.fields for row in rows if isinstance(row, ParsedRow)) == {"width": 1.0, "height": 2.0}


@pytest.mark.parametrize("name", ["message", "log_text", "Body"])
def test_a_word_over_a_single_column_of_texts_is_its_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / "t.csv"
    texts = ["the tree was cut", "no tree, no shade", "leaves fell early"]
    path.write_text("".join(f"{line}\n" for line in (name, *(f'"{text}"' for text in texts))), encoding="utf-8")
    rows = [row for row in read(path, label="cut", lenient=True) if isinstance(row, ParsedRow)]
    assert [row.record.text for row in rows] == texts
    assert rows[0].notes == (f"its first line, '{name}', is read as the name of its only column",)


@pytest.mark.parametrize("lines", [["started", "the disk failed", "stopped"], ["fell over", "it fell", "it rose"]])
def test_a_text_over_texts_is_a_record(tmp_path: Path, lines: list[str]) -> None:
    path = tmp_path / "t.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    assert [row.record.text for row in read(path) if isinstance(row, ParsedRow)] == lines


@pytest.mark.parametrize(("header", "missing"), [("width", "'height', 'tree'"), ("Tree", "'width', 'height'")])
def test_a_file_with_a_single_learned_column_lacks_the_others(tmp_path: Path, header: str, missing: str) -> None:
    for name, content in (("t.csv", f"{header}\n1\n2\n"), ("t.jsonl", f'{{"{header}": 1}}\n{{"{header}": 2}}\n')):
        (tmp_path / name).write_text(content, encoding="utf-8")
        with pytest.raises(InputError, match=f"lacks {missing}, which the cases"):
            list(LEARNED.read_unlabelled(tmp_path / name, 65_536))


def test_how_many_rows_are_short_is_named_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    for count in (0, 1, 2, 12):
        path.write_text(text([HEADER, *(row[: 3 if i < count else 4] for i, row in enumerate(ROWS))]), encoding="utf-8")
        rows = [row for row in LEARNED.read_unlabelled(path, 65_536) if isinstance(row, ParsedRow)]
        assert [row.record.line for row in rows] == list(range(2, 32))
        assert rows[0].notes == (("has 3 of 4 cells; those missing are empty, also in later rows",) if count else ())
        assert rows[-1].notes == ((f"{count} rows of the file have fewer cells than columns",) if count > 1 else ())


def test_names_of_several_columns_are_named_and_a_label_is_one(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    for header in (["tree", "tree", "tree", "cut"], ["tree", "tree", "height", "cut"]):
        path.write_text(text([header, *ROWS]), encoding="utf-8")
        first, *rest = [row for row in read(path, label="cut") if isinstance(row, ParsedRow)]
        assert first.notes == (f"{header.count('tree')} columns are named 'tree': the second is read as 'tree.1'",)
        assert not any(row.notes for row in rest)
    path.write_text(text([["width", "cut", "tree", "cut"], *ROWS]), encoding="utf-8")
    with pytest.raises(InputError, match="has 2 columns 'cut': which one is the label"):
        list(read(path, label="cut"))
    # without a name that is requested, equal names over numbers are a header as well
    path.write_text(text([["a", "a", "b", "c"], *ROWS]), encoding="utf-8")
    assert len(list(read(path))) == len(ROWS)
    path.write_text("oak,oak\nelm,oak\nash,elm\n", encoding="utf-8")
    assert len(list(read(path))) == 3
