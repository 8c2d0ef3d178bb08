"""A pipe whose writer pauses: what has come is read."""

from __future__ import annotations

import os
import threading
import time
from itertools import chain

import pytest

from agent.bulk.chunks import prefetch_batches
from agent.data.read_options import ReadOptions
from agent.data.readers import Format, ParsedRow

HELD = 20.0


@pytest.mark.parametrize(
    ("format", "lines"),
    [
        ("auto", "GET /a 200\nGET /b 200\nGET /c 500\n"),
        ("auto", '{"x": 1, "y": 2}\n{"x": 2, "y": 2}\n{"x": 4, "y": 2}\n'),
        ("csv", "x,y\n1,2\n2,2\n4,2\n"),
    ],
)
def test_records_come_while_the_writer_pauses(format: Format, lines: str) -> None:
    reading, writing = os.pipe()
    os.write(writing, lines.encode())
    with os.fdopen(reading, "rb") as stdin:
        rows = ReadOptions(format=format).read("-", 1_000, lenient=True, stdin=stdin)
        closing = threading.Timer(HELD, os.close, [writing])
        closing.start()
        started = time.monotonic()
        records = [row.record.text for row in (next(rows), next(rows), next(rows)) if isinstance(row, ParsedRow)]
        assert len(records) == 3
        assert time.monotonic() - started < HELD / 2
        closing.cancel()
        os.close(writing)
        assert list(rows) == []


def test_a_shorter_batch_comes_when_nothing_follows() -> None:
    proceed = threading.Event()

    def items() -> object:
        yield from range(5)
        proceed.wait(HELD)
        yield 5

    batches = prefetch_batches(items(), 3, 9, pause=0.1)  # type: ignore[arg-type]
    assert next(batches) == [0, 1, 2]
    assert next(batches) == [3, 4]
    proceed.set()
    assert list(batches) == [[5]]


@pytest.mark.parametrize("pause", [None, 0.1])
def test_batches_hold_all_items_and_then_the_error(pause: float | None) -> None:
    def items() -> object:
        yield from range(7)
        raise ValueError("broken")

    seen = list[int]()
    batches = prefetch_batches(items(), 3, 3, pause)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="broken"):
        seen.extend(chain.from_iterable(batches))  # type: ignore[arg-type]
    assert seen == list(range(7))


def test_the_last_entry_of_a_log_does_not_wait_for_the_next() -> None:
    lines = "".join(f"2026-01-02 03:04:0{i} ERROR job {i} failed\n  at run (job.py)\n" for i in range(3))
    reading, writing = os.pipe()
    os.write(writing, lines.encode())
    with os.fdopen(reading, "rb") as stdin:
        rows = ReadOptions().read("-", 1_000, lenient=True, stdin=stdin)
        closing = threading.Timer(HELD, os.close, [writing])
        closing.start()
        started = time.monotonic()
        entries = [next(rows) for _ in range(3)]
        assert time.monotonic() - started < HELD / 2
        assert [row.record.text.count("\n") for row in entries if isinstance(row, ParsedRow)] == [1, 1, 1]
        os.write(writing, b"2026-01-02 03:04:09 INFO ok\n")
        last = next(rows)
        assert isinstance(last, ParsedRow)
        assert (last.record.line, last.record.text[-2:]) == (7, "ok")
        closing.cancel()
        os.close(writing)
        assert list(rows) == []
