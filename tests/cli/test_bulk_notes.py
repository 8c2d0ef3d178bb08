"""A bulk run says of a log what judging it line by line says, and how much it does not say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import Run
from tests.shop import LOG, NORMAL


@pytest.fixture
def shop(tmp_path: Path, run: Run) -> None:
    log = tmp_path / "shop.log"
    log.write_text(LOG)
    learned = run("learn", log, "--source", "shop", "--label", "0", "--normal", "-", "--brief", "a shop")
    assert learned.code == 0, learned.err


def judge(run: Run, path: Path, detail: str) -> tuple[list[int], list[str]]:
    """The line numbers of the answers, and the notes."""
    judged = run("judge", path, "--source", "shop", "--label", "none", "--detail", detail, "--to", "jsonl")
    assert judged.code == 0, judged.err
    answers = [json.loads(line) for line in judged.out.splitlines()]
    notes = [line for line in judged.err.splitlines() if "shortened" in line or "not shown" in line]
    return [answer["line"] if detail == "compact" else answer["record"]["line"] for answer in answers], notes


@pytest.mark.parametrize("entries", [False, True])
def test_each_line_that_is_shortened_is_named(tmp_path: Path, run: Run, shop: None, entries: bool) -> None:
    long, times = f"{NORMAL} {'x' * 70_000}", [f"2026-01-01 00:00:{n:02} " if entries else "" for n in range(9)]
    path = tmp_path / "long.log"
    path.write_text(
        "".join(f"{time}{long if n % 3 == 0 else NORMAL}\n{' at x' * entries}\n" for n, time in enumerate(times))
    )
    numbers, notes = judge(run, path, "compact")
    assert (numbers, notes) == judge(run, path, "full")
    assert len(notes) == 3


def test_how_many_notes_are_not_shown(tmp_path: Path, run: Run, shop: None) -> None:
    path = tmp_path / "long.log"
    path.write_text(f"{NORMAL} {'x' * 70_000}\n" * 23)
    _, notes = judge(run, path, "compact")
    assert notes[20:] == ["3 more notes on what was read, not shown"]


def test_carriage_returns_alone_end_lines(tmp_path: Path, run: Run, shop: None) -> None:
    path = tmp_path / "old.log"
    path.write_bytes(f"{NORMAL}\r".encode() * 5)
    assert judge(run, path, "compact")[0] == judge(run, path, "full")[0] == [1, 2, 3, 4, 5]
    # a line that ends as others do keeps those inside of it
    path.write_bytes(f"{NORMAL}\r10 %\r20 %\n{NORMAL}\n".encode())
    assert judge(run, path, "compact")[0] == judge(run, path, "full")[0] == [1, 2]
