"""What was learned about one file applies to others, which may lack its columns."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from agent.data.read_options import ReadOptions
from agent.data.readers import ParsedRow
from agent.data.readers.entries import SAMPLED_LINES

NUMBERED = ReadOptions(format="log", label="0", label_values=("-", "BAD"))


class LivePipe(io.RawIOBase):
    """A pipe that fails the test when more is awaited than what was written."""

    def __init__(self, lines: list[bytes]) -> None:
        self.lines = lines

    def read1(self, size: int) -> bytes:
        assert self.lines, "waited for more than what was written"
        return self.lines.pop(0)


def first(options: ReadOptions, lines: list[bytes]) -> str:
    row = next(options.read("-", 65_536, lenient=True, stdin=LivePipe(lines)))  # type: ignore[arg-type]
    assert isinstance(row, ParsedRow)
    return row.record.text


@pytest.mark.parametrize(
    ("label", "content", "texts", "values"),
    [
        ("0", "- all well\nBAD disk lost\n", ["all well", "disk lost"], ["-", "BAD"]),
        ("0", "all well\ndisk lost\n", ["all well", "disk lost"], [None, None]),
        ("0", "- all well\ndisk lost\n", ["all well", "lost"], ["-", "disk"]),
        ("7", "all well\n", ["all well"], [None]),
    ],
)
def test_a_numbered_label_is_known_by_its_values(
    tmp_path: Path, label: str, content: str, texts: list[str], values: list[str | None]
) -> None:
    (tmp_path / "a.log").write_text(content)
    options = NUMBERED.model_copy(update={"label": label})
    rows = [row for row in options.read_unlabelled(tmp_path / "a.log", 65_536) if isinstance(row, ParsedRow)]
    assert [row.record.text for row in rows] == texts
    assert [row.label_value for row in rows] == values


def test_a_live_pipe_is_not_awaited_for_a_named_label() -> None:
    options = ReadOptions(format="log", label="verdict", multiline="off")
    assert first(options, [b"one line\n"]) == "one line"


def test_a_live_pipe_is_awaited_for_few_lines_for_a_numbered_label() -> None:
    options = NUMBERED.model_copy(update={"multiline": "off"})
    assert first(options, [b"- one line\n"] * 51) == "one line"
    assert first(options, [b"one line\n"] * 51) == "one line"


def test_a_live_pipe_is_awaited_for_the_lines_that_show_what_begins_an_entry() -> None:
    assert first(ReadOptions(format="log"), [b"one line\n"] * (SAMPLED_LINES + 1)) == "one line"


@pytest.mark.parametrize("word", ["@SUM(1)", "+1+1", "Killed", "3"])
def test_lines_of_one_word_where_labels_are_first_words(word: str, tmp_path: Path) -> None:
    options = ReadOptions(label="0", normal=("-",)).model_copy(update={"label_values": ("-", "bad")})
    path = tmp_path / "=f.log"

    def read(text: str) -> list[str]:
        path.write_text(text)
        rows = options.read_unlabelled(path, 1_000)
        return [row.record.text if isinstance(row, ParsedRow) else row.reason for row in rows]

    only_label = "its only word is the label column"
    assert read(f"{word}\n") == [word]
    assert read(f"{word}\nOops\n") == [word, "Oops"]
    assert read(f"- disk 3 read\n{word}\n- disk 4 read\n") == ["disk 3 read", only_label, "disk 4 read"]
    assert read("bad\n-\n") == [only_label] * 2
