"""Lines by the million, side by side in one run: `make bench-speed` (`python -m benchmarks.speed`), docs/speed.md.

BGL_2k with its numbers and addresses varied is judged by the command `precedent judge` without the language model, each
time a process of its own, beside the floor: a bare polars pipeline that reads, masks with one pattern, tells templates
apart, joins and writes short lines. A plain LangChain RAG chain (retriever, prompt, the model answers verdict and
reason for each record) judges some lines of the other half of BGL_2k, a quarter of them anomalous; cordon, where its
executable is given, scores a sample of the varied lines.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from benchmarks import bgl
from benchmarks.rag import judged_by_rag

_ROOT = Path(__file__).resolve().parents[1]
_VARIED = re.compile(r"0x[0-9a-fA-F]+|\d+")
_CORDON_LINES, _OWN = 2_000, 1_000_000
_FLOOR = """
import sys, polars as pl
lines = pl.read_csv(sys.argv[1], has_header=False, separator="\\x01", quote_char=None, new_columns=["line"])
masked = pl.col("line").str.replace_all(r"0x[0-9a-fA-F]+|\\d+", "#")
masked = lines.with_row_index("line_number", 1).with_columns(m=masked)
known = masked.select("m").unique(maintain_order=True).with_row_index("template")
known = known.with_columns(label=pl.lit("normal"), probability=pl.lit(0.01))
columns = [pl.lit("x.log").alias("file"), "line_number", "label", "probability", "template"]
masked.join(known, on="m", how="left").select(columns).write_ndjson(sys.argv[2])
"""


@dataclass(frozen=True)
class Run:
    """A process: its seconds from start to end, and its peak memory in MiB."""

    seconds: float
    memory: float


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000, help="how many are judged in bulk")
    parser.add_argument("--more", type=int, default=10_000_000, help="how many for memory and growth; 0: none")
    parser.add_argument("--rag", type=int, default=40, help="how many lines the RAG chain judges; 0: none")
    parser.add_argument("--cordon", help="the executable of cordon, in an environment of its own")
    parser.add_argument("--write", action="store_true", help="write docs/speed.md")
    asked = parser.parse_args()
    log = bgl.BGL.with_name("BGL_2k.log")
    if not log.is_file():
        sys.exit(f"the public data set is not at {log}")
    with tempfile.TemporaryDirectory() as folder:
        rows = [*_bulk(Path(folder), log, asked), *_beside_rag(Path(folder), log, asked.rag)]
    page = _page(rows)
    print(page)
    if asked.write:
        (_ROOT / "docs" / "speed.md").write_text(page, encoding="utf-8")


Row = tuple[str, str, str, str]


def _bulk(folder: Path, log: Path, asked: argparse.Namespace) -> list[Row]:
    lines, source = asked.lines, folder / "lines.log"
    vary(log, source, lines)
    _precedent(folder, "learn", log, "--source", "bgl", "--label", "0", "--brief", bgl.BRIEF)
    judge = "judge", source, "--source", "bgl", "--output", folder / "out.jsonl"
    first = _precedent(folder, *judge)
    bare = [sys.executable, "-c", _FLOOR, str(source), str(folder / "floor.jsonl")]
    # in turn, the best of three each
    turns = [(_measured(bare), _precedent(folder, *judge)) for _ in range(3)]
    floor, again = (min(runs, key=lambda run: run.seconds) for runs in zip(*turns, strict=True))
    full = _precedent(folder, *judge, "--detail", "full")
    (folder / "out.jsonl").unlink()

    def row(what: str, run: Run, of: int) -> Row:
        rate = of / run.seconds
        ratio = rate / (lines / floor.seconds)
        return what, f"{run.seconds:.1f} s, {rate:,.0f} lines/s", f"{ratio:.2g}", f"{run.memory:,.0f} MiB"

    rows = [
        row(f"floor: bare polars, {lines:,} lines", floor, lines),
        row("precedent, templates remembered, short lines", again, lines),
        row("precedent, casebook known, no template remembered", first, lines),
        row("precedent, whole verdicts", full, lines),
    ]
    if asked.cordon:
        sample = folder / "sample.log"
        with source.open(encoding="utf-8") as all_lines:
            sample.write_text("".join(next(all_lines) for _ in range(_CORDON_LINES)), encoding="utf-8")
        scored = _measured([*asked.cordon.split(), str(sample)])
        rows.append(row(f"cordon, {_CORDON_LINES:,} lines", scored, _CORDON_LINES))
    if asked.more:
        vary(log, source, asked.more)
        rows.append(row(f"precedent, {asked.more:,} lines", _precedent(folder, *judge), asked.more))
        (folder / "out.jsonl").unlink()
    one = folder / "one.log"
    one.write_text(log.read_text(encoding="utf-8").splitlines()[0] + "\n", encoding="utf-8")
    cold = _measured([sys.executable, "-c", "import torch, sentence_transformers, chromadb"])
    single = _precedent(folder, "judge", one, "--source", "bgl", "--to", "jsonl")
    for what, run in (
        ("importing torch, sentence-transformers, Chroma", cold),
        ("precedent judge of one line", single),
    ):
        rows.append((f"{what}, cold process", f"{run.seconds:.1f} s", "", f"{run.memory:,.0f} MiB"))
    return rows


def vary(log: Path, out: Path, lines: int) -> None:
    """So many lines of ``log``, over and over, each digit of a number or address another one."""
    rng = random.Random(1)

    def other(found: re.Match[str]) -> str:
        text = found[0]
        if text.startswith("0x"):
            return "0x" + "".join(rng.choices("0123456789abcdef", k=len(text) - 2))
        return "".join(rng.choices("0123456789", k=len(text)))

    said = log.read_text(encoding="utf-8").splitlines()
    # after a million lines of its own the same again: making them takes longer than judging them
    own = [_VARIED.sub(other, said[i % len(said)]) + "\n" for i in range(min(lines, _OWN))]
    with out.open("w", encoding="utf-8") as file:
        for start in range(0, lines, len(own)):
            file.writelines(own[: lines - start])


def _beside_rag(folder: Path, log: Path, count: int) -> list[Row]:
    if not count:
        return []
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
    learned, other = lines[0::2], lines[1::2]
    judged = random.Random(3).sample([line for line in other if not line.startswith("- ")], count // 4)
    judged += random.Random(4).sample([line for line in other if line.startswith("- ")], count - len(judged))
    (folder / "half.log").write_text("".join(learned), encoding="utf-8")
    (folder / "judged.log").write_text("".join(judged), encoding="utf-8")
    truth = [not line.startswith("- ") for line in judged]
    _precedent(folder, "learn", folder / "half.log", "--source", "half", "--label", "0", "--brief", bgl.BRIEF)
    answers = folder / "answers.jsonl"
    ours = _precedent(folder, "judge", folder / "judged.log", "--source", "half", "--output", answers)
    told = [json.loads(line)["label"] == "anomalous" for line in answers.read_text(encoding="utf-8").splitlines()]
    started = time.monotonic()
    by_rag = judged_by_rag(learned, judged)
    rag = time.monotonic() - started
    rag_f1 = _f1(by_rag, truth)
    same, f1 = f"precedent, the same {count} lines, cold process", _f1(told, truth)
    return [
        (f"plain RAG chain, {count} lines", f"{rag:.1f} s, {count / rag:.2f} lines/s", f"F1 {rag_f1:.2f}", ""),
        (same, f"{ours.seconds:.1f} s, {count / ours.seconds:.1f} lines/s", f"F1 {f1:.2f}", f"{ours.memory:,.0f} MiB"),
    ]


def _f1(told: Sequence[bool], truth: Sequence[bool]) -> float:
    both = sum(a and b for a, b in zip(told, truth, strict=True))
    return 2 * both / (sum(told) + sum(truth)) if both else 0.0


def _precedent(home: Path, *arguments: object) -> Run:
    entry = [sys.executable, "-c", "from agent.cli import main; main()"]
    return _measured([*entry, *map(str, arguments)], PRECEDENT_HOME=str(home / "home"), PRECEDENT_MODEL="none")


def _measured(command: Sequence[str], **environment: str) -> Run:
    started = time.monotonic()
    running = subprocess.Popen(
        command, cwd=_ROOT, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert running.stderr is not None
    said = running.stderr.read()
    _, status, used = os.wait4(running.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)[:200]} failed:\n{said.decode('utf-8', 'replace')}")
    return Run(time.monotonic() - started, _mebibytes(used))


def _mebibytes(used: resource.struct_rusage) -> float:
    return used.ru_maxrss / (1024 * 1024 if sys.platform == "darwin" else 1024)


def _page(rows: Sequence[Row]) -> str:
    table = [f"| {what} | {rate} | {ratio} | {memory} |" for what, rate, ratio, memory in rows]
    return "\n".join(
        [
            "# Speed",
            "",
            (__doc__ or "").strip(),
            "",
            f"Measured on {os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}, "
            f"polars {version('polars')}, without a GPU. Whole processes, from start to end; "
            "*to the floor*: lines a second, as a share of the floor's.",
            "",
            "| what | time | to the floor | peak memory |",
            "| --- | --- | --- | --- |",
            *table,
            "",
        ]
    )


if __name__ == "__main__":
    main()
