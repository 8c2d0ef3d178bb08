"""In bulk the same lines are joined as one by one, wherever the chunks end."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.bulk.template_grouping import JOINED, TemplateGrouper
from agent.data.chunks import read_chunks
from agent.data.read_options import ReadOptions
from agent.data.readers import ParsedRow, entry_joining
from agent.data.readers.byte_stream import Stream
from retrieval.encoding.representation import Representation

STAMP = "2026-01-02T03:04:05.1Z"
LINES = {
    "time": [
        "2026-01-02 03:04:{n} a{k}",
        "2026-01-02 03:04:{n} b",
        "2026-01-02 03:04:{n} job {m} of 10.0.{n}.7:{m} took {m} ms",
        "\tat a.B.c(B.java:{m})",
        "Caused by: x",
        "",
        "plain {n}",
        "# c",
    ],
    "seconds": [
        "1767323045.{m} up {m}",
        "17673230{n} job {m} done",
        "[  {m}.{n}5] usb {m}",
        "{m} started",
        "goes on with {m}",
    ],
    "access": [
        "10.0.0.{n} - - [02/Jan/2026:03:04:05 +0000] GET /a/{m}",
        "{m} - x [02/Jan/2026:03:04:05 +0000] a",
        "10.20.{n}.1 12.30.10 - [02/Jan/2026:03:04:05 +0000] b {m}",
        "goes on with {m}",
    ],
    "indented": ["request {n} failed", "stopped", "\tat a.B.c(B.java:{n})", "  more {n}", "", "}}", "ValueError: {n}"],
    "container": [f"{STAMP} stdout F a{{k}}", f"{STAMP} stdout P b{{n}}", f"{STAMP} stderr F \tat a.B.c(B.java:1)", ""],
}
OPTIONS = {
    "time": ReadOptions(format="log"),
    "seconds": ReadOptions(format="log"),
    "access": ReadOptions(format="log"),
    "indented": ReadOptions(format="log"),
    "container": ReadOptions(format="log"),
    "expression": ReadOptions(format="log", multiline=r"^2026.*[13579] "),
    "labelled": ReadOptions(format="log", label="0", label_values=("-",)),
}


def number(rng: random.Random) -> int:
    return rng.randrange(10 ** rng.randint(1, 13))


def content(kind: str, seed: int) -> bytes:
    rng = random.Random(seed)
    if kind == "labelled":
        lines = [
            f"- {line}" if line.startswith("2026") else line for line in content("time", seed).decode().split("\n")
        ]
        return "\n".join(lines).encode()
    templates = LINES.get(kind, LINES["time"])
    lines = [
        rng.choice(templates).format(n=rng.randint(10, 59), k=rng.choice("xyz"), m=number(rng)) for _ in range(200)
    ]
    odd = ["\x1b[31m2026-01-02 03:04:05 red\x1b[0m", "\ufeff2026-01-02 03:04:06 joined", "\r"] * (seed % 2)
    return "\n".join([*lines[:100], *odd, *lines[100:]]).encode() + b"\n" * (seed % 3 == 0)


def in_bulk(path: Path, options: ReadOptions, size: int, step: int, data: bytes) -> Iterator[tuple[int, str, str]]:
    """The line, the text and the text of the group of each record."""
    grouper = TemplateGrouper(Representation(), ["a text of a case", "2026-01-02 03:04:11 b"], lambda key: False)
    with options.open(path, 65_536, lenient=True) as (_, _, request):
        pieces = Stream(data[at : at + step] for at in range(0, len(data), step))
        for chunk in read_chunks(pieces, size=size, rule=request.entries):
            prepared = grouper.prepare(chunk, request)
            numbers = grouper.assign(prepared)
            assert len(numbers) == chunk.lines
            starts = (numbers >= 0).nonzero()[0]
            assert all(number >= 0 or number in (JOINED, -1) for number in numbers.tolist())
            for index, text in zip(starts.tolist(), prepared.texts(starts), strict=True):
                yield chunk.first + index, text, grouper.groups[numbers[index]].first.text


@pytest.mark.parametrize("kind", OPTIONS)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("most", "most_plain"), [(4_000_000, 1_000), (4_000_000, 3), (5, 1_000)])
def test_every_entry_is_that_of_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, seed: int, most: int, most_plain: int
) -> None:
    monkeypatch.setattr(entry_joining, "MAX_LINES", 4_000_000 if kind == "indented" else most)
    monkeypatch.setattr(entry_joining, "MAX_PLAIN_LINES", most_plain)
    path, data = tmp_path / "a.log", content(kind, seed)
    path.write_bytes(data)
    options = OPTIONS[kind]
    expected = [
        (row.record.line, row.record.text)
        for row in options.read_unlabelled(path, 65_536)
        if isinstance(row, ParsedRow)
    ]
    assert any("\n" in text for _, text in expected)
    for size, step in ((1 << 20, 1 << 16), (500, 100), (1, 7)):
        found = list(in_bulk(path, options, size, step, data))
        assert [(line, text) for line, text, _ in found] == expected
        mask = Representation().key
        assert all(mask(_record(text), "") == mask(_record(group), "") for _, text, group in found)


def _record(text: str) -> Any:
    from agent.core.records import Record

    return Record(text=text)
