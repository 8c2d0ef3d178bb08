"""Lines by the million, side by side in one run: `make bench-speed` (`python -m benchmarks.speed`), docs/speed.md.

BGL_2k with its numbers and addresses varied is judged by the command `precedent judge` without the language model, each
time a process of its own, beside the floor: a bare polars pipeline that reads, masks with one pattern, tells templates
apart, joins and writes short lines. cordon scores a sample of the varied lines. `precedent serve` judges varied lines
and lines with other words in them, which it has not seen, for 64 clients that wait a tenth of a second between their
requests, and streams of NDJSON. A casebook of lines with other words in them is learned and searched. A plain LangChain
RAG chain (retriever, prompt, the model answers verdict and reason for each record) judges some lines of the other half
of BGL_2k, an eighth of them anomalous.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from agent.core.settings import settings
from agent.pipeline.context import AppContext
from benchmarks import at_size, bgl, load
from benchmarks.rag import judged_by_rag

_ROOT = Path(__file__).resolve().parents[1]
_CORDON_LINES, _OWN = 2_000, 1_000_000
_BARE, _ASKED, _RAG = 4_000, 400, 500
# what a run may take over the floor beside the language model's own time
_OVER_FLOOR = 1.15
_ENTRY = "from agent.cli.app import main; main()"
_CLIENTS, _PAUSE, _REPEATED, _NEW, _STREAMED = 64, 0.1, 4_000, 1_000, 100_000
# in what ru_maxrss counts
_MEBIBYTE = 1024 * 1024 if sys.platform == "darwin" else 1024
# a process takes over the peak memory of the one that starts it, so a small one starts what is measured
_WATCH = """
import os, subprocess, sys, time
started = time.monotonic()
running = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, used = os.wait4(running.pid, 0)
print(time.monotonic() - started, used.ru_maxrss)
sys.exit(1 if status else 0)
"""
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


_ENGINES = """
import sys, torch, chromadb, sentence_transformers
sentence_transformers.SentenceTransformer(sys.argv[1], device="cpu", local_files_only=True).encode(["warm"])
chromadb.PersistentClient(sys.argv[2]).get_or_create_collection("one").count()
"""
_IMPORTED = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)")
_SHOWN = 6


@dataclass(frozen=True)
class Run:
    """A process: its seconds from start to end, and its peak memory in MiB."""

    seconds: float
    memory: float


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000, help="how many are judged in bulk")
    parser.add_argument("--more", type=int, default=10_000_000, help="how many for memory and growth; 0: none")
    parser.add_argument("--rag", type=int, default=100, help="how many of 500 lines the RAG chain judges; 0: none")
    parser.add_argument("--cases", type=int, nargs="*", default=[100_000], help="how many cases large casebooks have")
    parser.add_argument("--seconds", type=int, default=60, help="how long the server is under load; 0: not at all")
    parser.add_argument("--cordon", help="the executable of cordon, in an environment of its own")
    parser.add_argument("--write", action="store_true", help="write docs/speed.md")
    asked = parser.parse_args()
    log = bgl.BGL.with_name("BGL_2k.log")
    if not log.is_file():
        sys.exit(f"the public data set is not at {log}")
    with tempfile.TemporaryDirectory() as folder:
        rows = _bulk(Path(folder), log, asked)
        for count in asked.cases:
            rows += _at_size(Path(folder) / str(count), log, count)
        rows += _beside_rag(Path(folder), log, asked.rag)
        rows += _heard(Path(folder), log, asked.lines) if asked.rag else []
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
    # in turn, the best of three each
    turns = [(_measured(_floor(folder, source)), _precedent(folder, *judge)) for _ in range(3)]
    floor, again = (min(runs, key=lambda run: run.seconds) for runs in zip(*turns, strict=True))
    full = _precedent(folder, *judge, "--detail", "full")
    (folder / "out.jsonl").unlink()

    def row(what: str, run: Run, of: int) -> Row:
        rate = of / run.seconds
        ratio = rate / (lines / floor.seconds)
        return what, f"{run.seconds:.1f} s, {rate:,.0f} lines/s", f"{ratio:.2g}", _mib(run)

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
        embedder = AppContext(settings()).embedder().folder
        command = [asked.cordon, "--model-name", embedder, "--device", "cpu", "--output", folder / "blocks.xml", sample]
        scored = _measured([str(one) for one in command], HF_HUB_OFFLINE="1")
        rows.append(row(f"cordon, {_CORDON_LINES:,} lines", scored, _CORDON_LINES))
    if asked.seconds:
        rows += _served(folder, log, asked.seconds, lines / full.seconds)
    if asked.more:
        vary(log, source, asked.more)
        rows.append(row(f"precedent, {asked.more:,} lines", _precedent(folder, *judge), asked.more))
        (folder / "out.jsonl").unlink()
    return rows + _cold(folder, log)


def _cold(folder: Path, log: Path) -> list[Row]:
    """One line in a process of its own, the best of three in turn."""
    embedder = AppContext(settings()).embedder().folder
    engines = [sys.executable, "-c", _ENGINES, str(embedder), str(folder / "engines")]
    lines = {"a line of a known template": log.read_text(encoding="utf-8").splitlines()[0]}
    lines["a line unlike any"] = at_size.reworded(log, 1, 4)[0]
    judge: dict[str, list[object]] = {}
    for what, line in lines.items():
        file = folder / f"{what}.log"
        file.write_text(line + "\n", encoding="utf-8")
        judge[what] = ["judge", file, "--source", "bgl", "--to", "jsonl"]
    turns = [[_measured(engines), *(_precedent(folder, *one) for one in judge.values())] for _ in range(3)]
    floor, *singles = (min(runs, key=lambda run: run.seconds) for runs in zip(*turns, strict=True))
    rows = [("importing torch, opening Chroma, loading the embedding model", f"{floor.seconds:.1f} s", "", _mib(floor))]
    for what, run in zip(judge, singles, strict=True):
        ratio = f"{run.seconds / floor.seconds:.2f} of that"
        rows.append((f"precedent judge of {what}, cold process", f"{run.seconds:.1f} s", ratio, _mib(run)))
        rows.append(("of it, importing", _imports(folder, judge[what]), "", ""))
    return rows


def _imports(folder: Path, judge: Sequence[object]) -> str:
    """Seconds of importing, which -X importtime makes longer, by the first part of the modules' names."""
    command = [sys.executable, "-X", "importtime", "-c", _ENTRY, *map(str, judge)]
    environment = {**os.environ, **_own(folder)}
    done = subprocess.run(command, cwd=_ROOT, env=environment, capture_output=True, text=True, check=True)
    own = Counter[str]()
    for microseconds, module in _IMPORTED.findall(done.stderr):
        own[module.partition(".")[0]] += int(microseconds)
    most = ", ".join(f"{package} {taken / 1e6:.2f}" for package, taken in own.most_common(_SHOWN))
    return f"{own.total() / 1e6:.1f} s: {most}"


def _mib(run: Run) -> str:
    return f"{run.memory:,.0f} MiB"


def vary(log: Path, out: Path, lines: int) -> None:
    """So many lines of ``log``, over and over, each digit of a number or address another one."""
    rng = random.Random(1)
    said = log.read_text(encoding="utf-8").splitlines()
    # after a million lines of its own the same again: making them takes longer than judging them
    own = [bgl.varied(said[i % len(said)], rng) + "\n" for i in range(min(lines, _OWN))]
    with out.open("w", encoding="utf-8") as file:
        for start in range(0, lines, len(own)):
            file.writelines(own[: lines - start])


def _served(folder: Path, log: Path, seconds: int, by_command: float) -> list[Row]:
    """The server under load; ``by_command``: whole verdicts a second of the command."""
    lines = folder / "served.log"
    vary(log, lines, 2 * _STREAMED)
    varied = [line.split(" ", 1)[1] for line in lines.read_text(encoding="utf-8").splitlines()]
    new = [line.split(" ", 1)[1] for line in at_size.reworded(log, _NEW, 1)]
    port = load.free_port()
    command = [sys.executable, "-c", _ENTRY, "serve", "--port", str(port)]
    environment = {**os.environ, **_own(folder)}
    server = subprocess.Popen(command, cwd=_ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}/v1/verdicts"
    try:
        load.wait_until_ready(port)
        mixed = varied[:_REPEATED] + new
        many = asyncio.run(load.clients(url, "bgl", mixed, _CLIENTS, seconds, _PAUSE))
        asyncio.run(load.streamed(url, "bgl", varied[:_STREAMED], 1_000))
        fresh = asyncio.run(load.streamed(url, "bgl", varied[_STREAMED:], 1_000))
        for _ in range(2):
            same = asyncio.run(load.streamed(url, "bgl", varied[-_STREAMED // 2 :], 1_000))
    finally:
        server.terminate()
        server.wait()
    given, lost = many.statuses[200], many.wrong + fresh.wrong + same.wrong + len(many.ids) - len(set(many.ids))
    refused = sum(many.statuses.values()) - given
    said = f"{given / many.took:,.0f}/s; half within {1000 * many.percentile(0.5):.0f} ms, "
    said += f"95 % within {1000 * many.percentile(0.95):.0f} ms"
    of = "of the command's whole verdicts"
    return [
        (
            f"{_CLIENTS} clients, {seconds} s: {given:,} verdicts, {lost} wrong or twice, {refused} refused or failed",
            said,
            "",
            "",
        ),
        ("NDJSON, new lines of known templates", f"{_rate(fresh):,.0f}/s", f"{_rate(fresh) / by_command:.2g} {of}", ""),
        (
            "NDJSON, the same lines again",
            f"{_rate(same):,.0f}/s",
            f"{_rate(same) / by_command:.2g} {of}",
            "",
        ),
    ]


def _rate(one: load.Load) -> float:
    return one.count / one.took


def _at_size(folder: Path, log: Path, count: int) -> list[Row]:
    folder.mkdir()
    every = at_size.reworded(log, count, 2)
    learned, asked, sample = (folder / f"{name}.log" for name in ("learned", "asked", "sample"))
    for path, lines in (
        (learned, every),
        (asked, [line.split(" ", 1)[1] for line in at_size.reworded(log, _ASKED, 3)]),
        (sample, [line.split(" ", 1)[1] for line in random.Random(1).sample(every, min(_BARE, count))]),
    ):
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    bare = _told("benchmarks.at_size", "bare", sample)["rate"]
    run = _precedent(folder, "learn", learned, "--source", at_size.SOURCE, "--label", "0", "--brief", bgl.BRIEF)
    rate, home = count / run.seconds, folder / "home"
    disk = sum(path.stat().st_size for path in home.rglob("*") if path.is_file()) / 2**20
    found = _told("benchmarks.at_size", "query", home, asked)
    searched = f"95 % within {found['there']:.1f} ms; {found['new']:.0f} ms with the embedding of a new text"
    return [
        (f"bare sentence-transformers, {_BARE:,} of the texts", f"{bare:,.0f} texts/s", "", ""),
        (
            f"learn {count:,} cases ({found['templates']:,.0f} templates, {disk:,.0f} MiB on disk)",
            f"{run.seconds:.0f} s, {rate:,.0f} cases/s",
            f"{rate / bare:.2g} of bare encoding",
            _mib(run),
        ),
        (f"query of {count:,} cases", searched, f"recall@8 {found['recall']:.3f}", ""),
    ]


def _told(module: str, *arguments: object) -> dict[str, float]:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, cwd=_ROOT, stdout=subprocess.PIPE, check=True, text=True)
    told: dict[str, float] = json.loads(done.stdout)
    return told


def _beside_rag(folder: Path, log: Path, count: int) -> list[Row]:
    if not count:
        return []
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
    learned, other = lines[0::2], lines[1::2]
    judged = random.Random(3).sample([line for line in other if not line.startswith("- ")], _RAG // 8)
    judged += random.Random(4).sample([line for line in other if line.startswith("- ")], _RAG - len(judged))
    random.Random(5).shuffle(judged)
    (folder / "half.log").write_text("".join(learned), encoding="utf-8")
    (folder / "judged.log").write_text("".join(judged), encoding="utf-8")
    truth = [not line.startswith("- ") for line in judged]
    _precedent(folder, "learn", folder / "half.log", "--source", "half", "--label", "0", "--brief", bgl.BRIEF)
    answers = folder / "answers.jsonl"
    ours = _precedent(folder, "judge", folder / "judged.log", "--source", "half", "--output", answers)
    told = [json.loads(line)["label"] == "anomalous" for line in answers.read_text(encoding="utf-8").splitlines()]
    started = time.monotonic()
    by_rag = judged_by_rag(learned, judged[:count])
    rag = count / (time.monotonic() - started)
    rate, both = (
        _RAG / ours.seconds,
        f"F1 {_f1(told, truth):.2f}; on those {count} {_f1(told[:count], truth[:count]):.2f}",
    )
    return [
        (f"plain RAG chain, {count} of {_RAG} lines", f"{rag:.2f} lines/s", f"F1 {_f1(by_rag, truth[:count]):.2f}", ""),
        (
            f"precedent, the {_RAG} lines, cold process",
            f"{ours.seconds:.1f} s, {rate:.0f} lines/s, {rate / rag:,.0f} times the chain's",
            both,
            _mib(ours),
        ),
    ]


def _heard(folder: Path, log: Path, lines: int) -> list[Row]:
    """The varied lines, where the casebook has every other line and the language model is asked about the rest."""
    source, out = folder / "lines.log", folder / "heard.jsonl"
    vary(log, source, lines)
    judge = "judge", source, "--source", "half", "--output", out
    unheard = _precedent(folder, *judge)
    heard = _precedent(folder, *judge, model="auto")
    bare = _told("benchmarks.bare_llm", folder / "home", "half", out.with_name(out.name + ".templates.jsonl"))
    floor = min(_measured(_floor(folder, source)).seconds for _ in range(2))
    least = _OVER_FLOOR * floor + bare["seconds"]
    return [
        (
            f"bare llama.cpp, the {bare['tokens']:,.0f} new tokens of the next row's {bare['heard']} questions",
            f"{bare['seconds']:.1f} s",
            "",
            "",
        ),
        (
            f"precedent, {lines:,} lines, half of the cases, {bare['heard']} verdicts heard the model",
            f"{heard.seconds:.1f} s; {unheard.seconds:.1f} s without the model",
            f"{heard.seconds / least:.2f} times {_OVER_FLOOR} floors and bare llama.cpp",
            _mib(heard),
        ),
    ]


def _floor(folder: Path, source: Path) -> list[str]:
    return [sys.executable, "-c", _FLOOR, str(source), str(folder / "floor.jsonl")]


def _f1(told: Sequence[bool], truth: Sequence[bool]) -> float:
    both = sum(a and b for a, b in zip(told, truth, strict=True))
    return 2 * both / (sum(told) + sum(truth)) if both else 0.0


def _own(folder: Path, model: str = "none") -> dict[str, str]:
    """The environment of a command whose data directory is in the folder."""
    return {"PRECEDENT_HOME": str(folder / "home"), "PRECEDENT_MODEL": model}


def _precedent(folder: Path, *arguments: object, model: str = "none") -> Run:
    return _measured([sys.executable, "-c", _ENTRY, *map(str, arguments)], **_own(folder, model))


def _measured(command: Sequence[str], **environment: str) -> Run:
    watching = [sys.executable, "-S", "-c", _WATCH, *command]
    done = subprocess.run(watching, cwd=_ROOT, env={**os.environ, **environment}, capture_output=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)[:200]} failed:\n{done.stderr.decode('utf-8', 'replace')}")
    seconds, memory = map(float, done.stdout.split())
    return Run(seconds, memory / _MEBIBYTE)


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
            "*ratio*: where nothing else is said, lines a second as a share of the floor's.",
            "",
            "| what | time | ratio | peak memory |",
            "| --- | --- | --- | --- |",
            *table,
            "",
        ]
    )


if __name__ == "__main__":
    main()
