"""Speed against bare engines, measured in one run: `make bench-speed` (`python -m benchmarks.speed`), docs/speed.md.

BGL_2k with varied numbers and addresses is judged by the command `precedent judge` without the language model, each
time in a new process, and compared with the floor: a bare polars pipeline that reads, masks with one pattern, groups by
template, joins and writes short lines. cordon scores a sample of the varied lines. `precedent serve` judges varied
lines and lines of unseen templates for 64 clients that wait a tenth of a second between their requests, and streams of
NDJSON. A large casebook is learned and searched. A plain LangChain RAG chain (retriever, prompt, the model answers
verdict and reason for each record) judges some lines of the other half of BGL_2k, an eighth of them anomalous.
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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from agent.core.settings import settings
from agent.pipeline.context import AppContext
from benchmarks import at_size, bgl, bulk_memory, bulk_ray, bulk_rows, bulk_texts, load
from benchmarks.private_ollama import free_port
from benchmarks.rag import judged_by_rag

_ROOT = Path(__file__).resolve().parents[1]
_CORDON_LINES, _DISTINCT = 2_000, 1_000_000
_BARE, _QUERIES, _RAG = 4_000, 400, 500
# the time that a run may take beside the language model's, as a multiple of the floor's
_OVER_FLOOR = 1.15
_ENTRY = "from agent.cli.app import main; main()"
_CLIENTS, _PAUSE, _REPEATED, _NEW, _STREAMED = 64, 0.1, 4_000, 1_000, 100_000
# in what ru_maxrss counts
_MEBIBYTE = 1024 * 1024 if sys.platform == "darwin" else 1024
# a process inherits the peak memory of the one that starts it, so a small one starts the measured command
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
chromadb.PersistentClient(sys.argv[2]).get_or_create_collection("empty").count()
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
    parser.add_argument("--lines", type=int, default=1_000_000, help="lines judged in bulk")
    parser.add_argument("--more", type=int, default=10_000_000, help="records judged to measure memory; 0: none")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of a table judged in bulk")
    parser.add_argument("--sessions", type=int, default=100_000, help="sessions judged in bulk")
    parser.add_argument("--rag", type=int, default=100, help="lines of 500 that the RAG chain judges; 0: none")
    parser.add_argument("--cases", type=int, nargs="*", default=[100_000], help="sizes of the large casebooks")
    parser.add_argument("--seconds", type=int, default=60, help="seconds of load on the server; 0: none")
    parser.add_argument("--storm", type=int, default=100_000, help="lines, a tenth of new templates; 0: none")
    parser.add_argument("--prose", type=int, default=100_000, help="messages of prose; 0: none")
    parser.add_argument("--cordon", help="the executable of cordon, in an environment of its own")
    parser.add_argument("--write", action="store_true", help="write docs/speed.md")
    options = parser.parse_args()
    log = bgl.BGL.with_name("BGL_2k.log")
    if not log.is_file():
        sys.exit(f"the public data set is not at {log}")
    with tempfile.TemporaryDirectory() as folder:
        rows = list[Row]()
        for measured in _parts(Path(folder), log, options):
            print(*_lines(measured), sep="\n", flush=True)
            rows += measured
    if options.write:
        (_ROOT / "docs" / "speed.md").write_text(_page(rows), encoding="utf-8")


Row = tuple[str, str, str, str]


def _parts(folder: Path, log: Path, options: argparse.Namespace) -> Iterator[list[Row]]:
    yield _bulk(folder, log, options)
    yield bulk_rows.rows_of_tables(folder, _precedent, options.rows)
    yield bulk_rows.rows_of_sessions(folder, _precedent, options.sessions)
    yield bulk_texts.rows(folder, options.lines, _program, _precedent)
    if options.more:
        yield bulk_memory.rows(folder, options.more, _precedent)
    embedder = AppContext(settings()).embedder().folder
    if options.storm:
        yield bulk_texts.storm_rows(folder, embedder, _program, _precedent, options.storm)
    if options.prose:
        yield bulk_texts.prose_rows(folder, embedder, _program, _precedent, options.prose)
    for count in options.cases:
        yield _at_size(folder / str(count), log, count)
    yield _beside_rag(folder, log, options.rag)
    if options.rag:
        yield _with_llm(folder, log, options.lines)
    yield bulk_ray.rows(folder / "ray", options.lines)


def _bulk(folder: Path, log: Path, options: argparse.Namespace) -> list[Row]:
    lines, source = options.lines, folder / "lines.log"
    vary(log, source, lines)
    _precedent(folder, "learn", log, "--source", "bgl", "--label", "0", "--brief", bgl.BRIEF)
    judge = "judge", source, "--source", "bgl", "--output", folder / "out.jsonl"
    first = _precedent(folder, *judge)
    # alternating, the best of three each
    turns = [(_measured(_floor(folder, source)), _precedent(folder, *judge)) for _ in range(3)]
    floor, again = (min(runs, key=lambda run: run.seconds) for runs in zip(*turns, strict=True))
    full = _precedent(folder, *judge, "--detail", "full")
    (folder / "out.jsonl").unlink()

    def row(name: str, run: Run, judged: int) -> Row:
        rate = judged / run.seconds
        ratio = rate / (lines / floor.seconds)
        return name, f"{run.seconds:.1f} s, {rate:,.0f} lines/s", f"{ratio:.2g}", _mib(run)

    rows = [
        row(f"floor: bare polars, {lines:,} lines", floor, lines),
        row("precedent, templates cached, short lines", again, lines),
        row("precedent, casebook loaded, no template cached", first, lines),
        row("precedent, whole verdicts", full, lines),
    ]
    if options.cordon:
        sample = folder / "sample.log"
        with source.open(encoding="utf-8") as all_lines:
            sample.write_text("".join(next(all_lines) for _ in range(_CORDON_LINES)), encoding="utf-8")
        embedder = AppContext(settings()).embedder().folder
        command = [
            options.cordon,
            "--model-name",
            embedder,
            "--device",
            "cpu",
            "--output",
            folder / "blocks.xml",
            sample,
        ]
        scored = _measured([str(argument) for argument in command], HF_HUB_OFFLINE="1")
        rows.append(row(f"cordon, {_CORDON_LINES:,} lines", scored, _CORDON_LINES))
    if options.seconds:
        rows += _server(folder, log, options.seconds, lines / full.seconds)
    if options.more:
        vary(log, source, options.more)
        rows.append(row(f"precedent, {options.more:,} lines", _precedent(folder, *judge), options.more))
        (folder / "out.jsonl").unlink()
    return rows + _cold(folder, log)


def _cold(folder: Path, log: Path) -> list[Row]:
    """One line in a new process, the best of three, alternating with the bare engines."""
    embedder = AppContext(settings()).embedder().folder
    engines = [sys.executable, "-c", _ENGINES, str(embedder), str(folder / "engines")]
    lines = {"a line of a known template": log.read_text(encoding="utf-8").splitlines()[0]}
    lines["a line of a new template"] = at_size.reworded(log, 1, 4)[0]
    judge: dict[str, list[object]] = {}
    for name, line in lines.items():
        file = folder / f"{name}.log"
        file.write_text(line + "\n", encoding="utf-8")
        judge[name] = ["judge", file, "--source", "bgl", "--to", "jsonl"]
    turns = [[_measured(engines), *(_precedent(folder, *arguments) for arguments in judge.values())] for _ in range(3)]
    floor, *singles = (min(runs, key=lambda run: run.seconds) for runs in zip(*turns, strict=True))
    rows = [("importing torch, opening Chroma, loading the embedding model", f"{floor.seconds:.1f} s", "", _mib(floor))]
    for name, run in zip(judge, singles, strict=True):
        ratio = f"{run.seconds / floor.seconds:.2f} of that"
        rows.append((f"precedent judge of {name}, cold process", f"{run.seconds:.1f} s", ratio, _mib(run)))
        rows.append(("of it, importing", _imports(folder, judge[name]), "", ""))
    return rows


def _imports(folder: Path, judge: Sequence[object]) -> str:
    """Seconds of importing by top-level package; -X importtime itself makes them longer."""
    command = [sys.executable, "-X", "importtime", "-c", _ENTRY, *map(str, judge)]
    environment = {**os.environ, **_environment(folder)}
    done = subprocess.run(command, cwd=_ROOT, env=environment, capture_output=True, text=True, check=True)
    by_package = Counter[str]()
    for microseconds, module in _IMPORTED.findall(done.stderr):
        by_package[module.partition(".")[0]] += int(microseconds)
    most = ", ".join(f"{package} {microseconds / 1e6:.2f}" for package, microseconds in by_package.most_common(_SHOWN))
    return f"{by_package.total() / 1e6:.1f} s: {most}"


def _mib(run: Run) -> str:
    return f"{run.memory:,.0f} MiB"


def vary(log: Path, out: Path, lines: int) -> None:
    """Write ``lines`` lines: those of ``log``, repeated, with each digit of a number or address replaced."""
    rng = random.Random(1)
    recorded = log.read_text(encoding="utf-8").splitlines()
    # after a million distinct lines the same again: making them takes longer than judging them
    varied = [bgl.varied(recorded[i % len(recorded)], rng) + "\n" for i in range(min(lines, _DISTINCT))]
    with out.open("w", encoding="utf-8") as file:
        for start in range(0, lines, len(varied)):
            file.writelines(varied[: lines - start])


def _server(folder: Path, log: Path, seconds: int, by_command: float) -> list[Row]:
    """The server under load; ``by_command``: whole verdicts a second of the command."""
    lines = folder / "served.log"
    vary(log, lines, 2 * _STREAMED)
    varied = [line.split(" ", 1)[1] for line in lines.read_text(encoding="utf-8").splitlines()]
    new = [line.split(" ", 1)[1] for line in at_size.reworded(log, _NEW, 1)]
    port = free_port()
    command = [sys.executable, "-c", _ENTRY, "serve", "--port", str(port)]
    environment = {**os.environ, **_environment(folder)}
    server = subprocess.Popen(command, cwd=_ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}/v1/verdicts"
    try:
        load.wait_until_ready(port)
        mixed = varied[:_REPEATED] + new
        clients = asyncio.run(load.clients(url, "bgl", mixed, _CLIENTS, seconds, _PAUSE))
        asyncio.run(load.streamed(url, "bgl", varied[:_STREAMED], 1_000))
        new_lines = asyncio.run(load.streamed(url, "bgl", varied[_STREAMED:], 1_000))
        for _ in range(2):
            repeated = asyncio.run(load.streamed(url, "bgl", varied[-_STREAMED // 2 :], 1_000))
    finally:
        server.terminate()
        server.wait()
    answered = clients.statuses[200]
    wrong = clients.wrong + new_lines.wrong + repeated.wrong + len(clients.ids) - len(set(clients.ids))
    failed = sum(clients.statuses.values()) - answered
    latency = (
        f"half within {1000 * clients.percentile(0.5):.0f} ms, 95 % within {1000 * clients.percentile(0.95):.0f} ms"
    )

    def row(name: str, stream: load.Load) -> Row:
        rate = stream.count / stream.duration
        return name, f"{rate:,.0f}/s", f"{rate / by_command:.2g} of the command's whole verdicts", ""

    summary = f"{answered:,} verdicts, {wrong} wrong or duplicate, {failed} refused or failed"
    return [
        (f"{_CLIENTS} clients, {seconds} s: {summary}", f"{answered / clients.duration:,.0f}/s; {latency}", "", ""),
        row("NDJSON, new lines of known templates", new_lines),
        row("NDJSON, the same lines again", repeated),
    ]


def _at_size(folder: Path, log: Path, count: int) -> list[Row]:
    folder.mkdir()
    cases = at_size.reworded(log, count, 2)
    learned, queries, sample = (folder / f"{name}.log" for name in ("learned", "queries", "sample"))
    for path, lines in (
        (learned, cases),
        (queries, [line.split(" ", 1)[1] for line in at_size.reworded(log, _QUERIES, 3)]),
        (sample, [line.split(" ", 1)[1] for line in random.Random(1).sample(cases, min(_BARE, count))]),
    ):
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    bare = _run_module("benchmarks.at_size", "bare", sample)["rate"]
    run = _precedent(folder, "learn", learned, "--source", at_size.SOURCE, "--label", "0", "--brief", bgl.BRIEF)
    rate, home = count / run.seconds, folder / "home"
    disk = sum(path.stat().st_size for path in home.rglob("*") if path.is_file()) / 2**20
    search = _run_module("benchmarks.at_size", "query", home, queries)
    latency = f"95 % within {search['stored']:.1f} ms; {search['new']:.0f} ms with the embedding of a new text"
    return [
        (f"bare sentence-transformers, {_BARE:,} of the texts", f"{bare:,.0f} texts/s", "", ""),
        (
            f"learn {count:,} cases ({search['templates']:,.0f} templates, {disk:,.0f} MiB on disk)",
            f"{run.seconds:.0f} s, {rate:,.0f} cases/s",
            f"{rate / bare:.2g} of bare encoding",
            _mib(run),
        ),
        (f"query of {count:,} cases", latency, f"recall@8 {search['recall']:.3f}", ""),
    ]


def _run_module(module: str, *arguments: object) -> dict[str, float]:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, cwd=_ROOT, stdout=subprocess.PIPE, check=True, text=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


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
    run = _precedent(folder, "judge", folder / "judged.log", "--source", "half", "--output", answers)
    labels = [json.loads(line)["label"] == "anomalous" for line in answers.read_text(encoding="utf-8").splitlines()]
    started = time.monotonic()
    by_rag = judged_by_rag(learned, judged[:count])
    rag_rate, rate = count / (time.monotonic() - started), _RAG / run.seconds
    f1, f1_of_same = _f1(labels, truth), _f1(labels[:count], truth[:count])
    return [
        (
            f"plain RAG chain, {count} of {_RAG} lines",
            f"{rag_rate:.2f} lines/s",
            f"F1 {_f1(by_rag, truth[:count]):.2f}",
            "",
        ),
        (
            f"precedent, the {_RAG} lines, cold process",
            f"{run.seconds:.1f} s, {rate:.0f} lines/s, {rate / rag_rate:,.0f} times the chain's",
            f"F1 {f1:.2f}; on those {count} {f1_of_same:.2f}",
            _mib(run),
        ),
    ]


def _with_llm(folder: Path, log: Path, lines: int) -> list[Row]:
    """The varied lines, where the casebook has every other line and the language model is queried about the rest."""
    source, out = folder / "lines.log", folder / "with-llm.jsonl"
    vary(log, source, lines)
    judge = "judge", source, "--source", "half", "--output", out
    without_llm = _precedent(folder, *judge)
    with_llm = _precedent(folder, *judge, model="auto")
    bare = _run_module("benchmarks.bare_llm", folder / "home", "half", out.with_name(out.name + ".templates.jsonl"))
    floor = min(_measured(_floor(folder, source)).seconds for _ in range(2))
    least = _OVER_FLOOR * floor + bare["seconds"]
    return [
        (
            f"bare llama.cpp, the {bare['tokens']:,.0f} new tokens of the next row's {bare['queried']} prompts",
            f"{bare['seconds']:.1f} s",
            "",
            "",
        ),
        (
            f"precedent, {lines:,} lines, half of the cases, {bare['queried']} queries of the model",
            f"{with_llm.seconds:.1f} s; {without_llm.seconds:.1f} s without the model",
            f"{with_llm.seconds / least:.2f} times {_OVER_FLOOR} floors and bare llama.cpp",
            _mib(with_llm),
        ),
    ]


def _floor(folder: Path, source: Path) -> list[str]:
    return [sys.executable, "-c", _FLOOR, str(source), str(folder / "floor.jsonl")]


def _f1(labels: Sequence[bool], truth: Sequence[bool]) -> float:
    true_positives = sum(label and actual for label, actual in zip(labels, truth, strict=True))
    return 2 * true_positives / (sum(labels) + sum(truth)) if true_positives else 0.0


def _environment(folder: Path, model: str = "none") -> dict[str, str]:
    """The environment of a command whose data directory is in the folder."""
    return {"PRECEDENT_HOME": str(folder / "home"), "PRECEDENT_MODEL": model}


def _precedent(folder: Path, *arguments: object, model: str = "none") -> Run:
    return _measured([sys.executable, "-c", _ENTRY, *map(str, arguments)], **_environment(folder, model))


def _program(code: str, *arguments: object) -> Run:
    return _measured([sys.executable, "-c", code, *map(str, arguments)])


def _measured(command: Sequence[str], **environment: str) -> Run:
    watched = [sys.executable, "-S", "-c", _WATCH, *command]
    # a command compiles its modules once, not each time, unless it is told not to keep them
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(watched, cwd=_ROOT, env={**kept, **environment}, capture_output=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)[:200]} failed:\n{done.stderr.decode('utf-8', 'replace')}")
    seconds, memory = map(float, done.stdout.split())
    return Run(seconds, memory / _MEBIBYTE)


def _lines(rows: Sequence[Row]) -> list[str]:
    return [f"| {name} | {rate} | {ratio} | {memory} |" for name, rate, ratio, memory in rows]


def _page(rows: Sequence[Row]) -> str:
    return "\n".join(
        [
            "# Speed",
            "",
            (__doc__ or "").strip(),
            "",
            f"Measured on {os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}, "
            f"polars {version('polars')}, without a GPU. Whole processes, from start to end; "
            "*ratio*: unless stated otherwise, lines a second as a share of the floor's.",
            "",
            "| measured | time | ratio | peak memory |",
            "| --- | --- | --- | --- |",
            *_lines(rows),
            "",
        ]
    )


if __name__ == "__main__":
    main()
