"""What holds for any file: tables come back as written, and no bytes break the reader."""

from __future__ import annotations

import csv
import gzip
import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.errors import InputError
from agent.data.readers import ParsedRow, RowError
from tests.data.reading import read

CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0\x1b"), max_size=20)
FORMATS = ["auto", "log", "csv", "jsonl", "parquet"]


def table(rows: list[list[str]], delimiter: str) -> bytes:
    written = io.StringIO(newline="")
    writer = csv.writer(written, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writerow(["key", "first", "second"])
    writer.writerows([f"k{number}", *row] for number, row in enumerate(rows))
    return written.getvalue().encode()


@settings(max_examples=80, deadline=None)
@given(st.lists(st.lists(CELLS, min_size=2, max_size=2), min_size=1, max_size=12), st.sampled_from(",;|"))
def test_a_table_comes_back_as_it_was_written(rows: list[list[str]], delimiter: str) -> None:
    said = [row for row in rows if row[0].strip()]
    items = list(read("-", stdin=io.BytesIO(table(rows, delimiter)), format="csv", text=["first"]))
    assert [item.record.text for item in items if isinstance(item, ParsedRow)] == [row[0] for row in said]
    assert {item.reason for item in items if isinstance(item, RowError)} <= {"the text is empty"}
    assert len(items) == len(rows)


@settings(max_examples=60, deadline=None)
@given(st.lists(CELLS.filter(str.strip), min_size=1, max_size=12), st.booleans())
def test_json_lines_come_back_as_they_were_written(texts: list[str], ascii_only: bool) -> None:
    written = "".join(json.dumps({"text": text}, ensure_ascii=ascii_only) + "\n" for text in texts).encode()
    items = list(read("-", stdin=io.BytesIO(written), format="jsonl"))
    assert [item.record.text for item in items if isinstance(item, ParsedRow)] == texts


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=200).filter(bytes.strip), st.integers(64, 128))
def test_each_line_that_is_not_blank_is_one_record(data: bytes, max_chars: int) -> None:
    content = b"a first line of plain text, long enough for the file not to look like a binary one" * 10 + b"\n" + data
    items = list(read("-", stdin=io.BytesIO(content), format="log", max_chars=max_chars, multiline="off"))
    lines = content.decode("utf-8", "replace").split("\n")
    assert [item.record.line for item in items if isinstance(item, ParsedRow)] == [
        number for number, line in enumerate(lines, start=1) if line.replace("\0", "\ufffd").strip()
    ]
    assert all(len(item.record.text) <= max_chars for item in items if isinstance(item, ParsedRow))


TEXTLIKE = st.text(st.sampled_from('ab1,;|\t"\n\r {}[]:\\x\ufeffé'), max_size=300).map(str.encode)
HEADS = st.sampled_from(
    [b"", b"PAR1", b"\x1f\x8b\x08\x00", b"\x28\xb5\x2f\xfd", b"\xff\xfe", b"\xef\xbb\xbf", b"[", b"{"]
)


@pytest.mark.parametrize("format", FORMATS)
@settings(max_examples=80, deadline=2_000)
@given(
    data=st.one_of(st.binary(max_size=400), TEXTLIKE),
    head=HEADS,
    packed=st.booleans(),
    label=st.sampled_from([None, "0", "a"]),
)
def test_no_bytes_break_the_reader(format: Any, data: bytes, head: bytes, packed: bool, label: str | None) -> None:
    content = gzip.compress(head + data) if packed else head + data
    # a table may have carriage returns for line ends
    lines = sum((head + data).count(end) for end in (b"\n", b"\r", b"\0")) + 1
    try:
        items = list(read("-", stdin=io.BytesIO(content), format=format, label=label))
    except InputError:
        return
    assert items
    if not content.startswith(b"\x28\xb5\x2f\xfd"):
        assert all(item.line is None or item.line <= lines for item in items if isinstance(item, RowError))


@settings(max_examples=60, deadline=None)
@given(TEXTLIKE, st.integers(1, 400))
def test_how_a_pipe_cuts_the_data_makes_no_difference(data: bytes, size: int) -> None:
    class Pipe:
        def __init__(self) -> None:
            self.rest = data

        def read(self, _: int) -> bytes:
            part, self.rest = self.rest[:size], self.rest[size:]
            return part

    def outcome(stdin: Any) -> list[str]:
        try:
            return [repr(item) for item in read("-", stdin=stdin)]
        except InputError as error:
            return [str(error)]

    assert outcome(Pipe()) == outcome(io.BytesIO(data))
