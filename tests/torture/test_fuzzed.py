"""Mutated files and texts: no reader crashes, hangs or loses a line of a log without saying so."""

from __future__ import annotations

import gzip
import json
import random
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import polars as pl
import pytest
from pydantic import ValidationError

from agent.core.errors import InputError
from agent.core.records import Record
from agent.data.block_readers import open_blocks
from agent.data.read_options import ReadOptions
from agent.data.readers import ParsedRow, RowError
from agent.data.readers.byte_stream import Damaged
from agent.data.record_reading import as_read
from retrieval.text.masked_forms import masked_forms
from retrieval.text.masking import mask
from retrieval.text.prompt_injection import find_injections, remove_injections
from tests.conftest import POSTGRES
from tests.torture import fuzz
from tests.torture.conftest import Figures

# seconds of the processor beyond which an input of some kilobytes hangs a reader
_LIMIT = 5.0
LOG = b"".join((POSTGRES / "judge.log").read_bytes().splitlines(keepends=True)[:60])
ROWS = [
    {"time": f"2026-01-02 03:04:{i:02}", "n": i * 1.5, "kind": f"k{i % 3}", "text": f"naive é, {i}"} for i in range(40)
]
T = TypeVar("T")
SPECIAL = [
    b"\0", b"\r", b"\n\n", b'"', b'""', b"\xff\xfe", b"\xef\xbb\xbf", b"\xe2\x80\xae", b"{", b"}", b"[" * 200, b"\t",
    b"9" * 400, b"1e999", b"NaN", b"null", b"\\u0000", b"\\ud800", b"=cmd()", b"\x1b[31m", b" is ", b"<|im_end|>",
]  # fmt: skip


def seeds() -> dict[str, bytes]:
    """A sound file of each format."""
    lines = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)
    events = b"".join(json.dumps({"id": i, "events": ["a", f"b {i}", "c"]}).encode() + b"\n" for i in range(30))
    frame = pl.DataFrame(ROWS)
    return {
        "a.log": LOG,
        "a.csv": frame.write_csv().encode(),
        "a.tsv": frame.write_csv(separator="\t").encode(),
        "a.jsonl": lines,
        "b.jsonl": events,
        "a.json": json.dumps({"Records": ROWS}).encode(),
        "a.log.gz": gzip.compress(LOG),
        "a.parquet": b"",
    }


def mutated(content: bytes, rng: random.Random) -> bytes:
    for _ in range(rng.randint(1, 6)):
        place = rng.randrange(len(content) + 1)
        length = rng.choice([1, 1, 2, 8, 100, 3_000])
        how = rng.random()
        if how < 0.25:
            content = content[:place] + rng.choice(SPECIAL) + content[place:]
        elif how < 0.45:
            content = content[:place] + content[place + length :]
        elif how < 0.65:
            content = content[:place] + rng.randbytes(min(length, 40)) + content[place + length :]
        elif how < 0.85:
            content = content[:place] + content[place : place + length] * rng.randint(2, 4) + content[place + length :]
        else:
            content = content[:place]
        content = content or b"x"
    return content


@pytest.mark.parametrize("name", sorted(seeds()))
def test_files(name: str, tmp_path: Path, is_long: bool, figures: Figures) -> None:
    seed = seeds()[name]
    path = tmp_path / name
    if name.endswith(".parquet"):
        pl.DataFrame(ROWS).write_parquet(path)
        seed = path.read_bytes()
    rng, count = random.Random(name), 4_000 if is_long else 60
    for _ in range(count):
        path.write_bytes(mutated(seed, rng))
        rows = _timed(path, lambda: _read(path))
        if name == "a.log" and rows is not None:
            _is_whole(path, rows)
        _timed(path, lambda: _in_blocks(path))
    _count(figures, count)


def _is_whole(path: Path, rows: list[ParsedRow | RowError]) -> None:
    """Each line of a log that is not blank is one record, or named as not read, in order."""
    numbers = [row.line if isinstance(row, RowError) else row.record.line for row in rows]
    assert numbers == sorted(set(numbers), key=lambda number: number or 0)
    content = path.read_bytes().decode("utf-8", "replace")
    if all(sign.isprintable() or sign == "\n" for sign in content):
        lines = [number for number, line in enumerate(content.split("\n"), start=1) if line.strip()]
        assert numbers == lines


def _read(path: Path) -> list[ParsedRow | RowError] | None:
    try:
        return list(ReadOptions(multiline="off").read(path, 65_536, lenient=True))
    except InputError:
        return None


def _in_blocks(path: Path) -> None:
    try:
        with ReadOptions().open(path, 65_536, lenient=True) as (stream, kind, request):
            table = open_blocks(stream, kind, request, 4_096)
            for _ in table.blocks if table else ():
                pass
    except (InputError, Damaged):
        return


def _timed(what: object, step: Callable[[], T]) -> T:
    started = time.process_time()
    result = step()
    assert time.process_time() - started < _LIMIT, what
    return result


def test_texts(is_long: bool, figures: Figures) -> None:
    rng, count = random.Random(5), 8_000 if is_long else 400
    lines = LOG.decode().splitlines()
    for _ in range(count):
        texts = [
            mutated(rng.choice(lines).encode(), rng).decode("utf-8", "replace").replace("\n", " ").replace("\0", " ")
            for _ in range(4)
        ]
        found = _timed(texts[0], lambda texts=texts: masked_forms(pl.Series(texts, dtype=pl.String), longest=4_000))
        assert len(found) == len(texts)
        for text in texts:
            _timed(text, lambda text=text: (mask(text), find_injections(text), remove_injections(text)))
            # nothing but a colour is an empty record
            with suppress(ValidationError):
                _timed(text, lambda text=text: as_read(Record(text=text), ReadOptions()))
    _count(figures, 4 * count)


def test_chat_templates(is_long: bool, figures: Figures) -> None:
    rng, count, target = random.Random(6), 20_000 if is_long else 400, fuzz.TARGETS["chat_template"]()
    seeds = fuzz.seeds_of("chat_template")
    for _ in range(count):
        template = mutated(rng.choice(seeds), rng)
        _timed(template, lambda template=template: target(template))
    target(b"{{" + b"(" * 20_000)
    _count(figures, count)


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_targets_take_what_they_are_given_first(name: str) -> None:
    target = fuzz.TARGETS[name]()
    for seed in fuzz.seeds_of(name):
        target(seed)


def test_guided_by_coverage(is_long: bool, figures: Figures) -> None:
    if not is_long or not list(fuzz.PACKAGES.glob("lib/python*/site-packages/atheris")):
        pytest.skip("`make torture` and `make fuzz` do this, with atheris, which Linux on x86-64 has")
    found = fuzz.fuzzed_together(list(fuzz.TARGETS), 60)
    assert None not in found
    _count(figures, sum(filter(None, found)))


_COUNT = {"inputs": 0}


def _count(figures: Figures, inputs: int) -> None:
    _COUNT["inputs"] += inputs
    figures("fuzzed", inputs=_COUNT["inputs"], crashes=0, hangs=0)
