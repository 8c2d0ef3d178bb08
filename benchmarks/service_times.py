"""Seconds of a processor core that a record takes by kind, measured in this process; `benchmarks.scale` uses them."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

from agent.bulk.options import BulkOptions
from agent.bulk.part_judge import JudgedPart, Part, PartJudge
from agent.bulk.ray_runner import RayRunner
from agent.core.settings import Settings, settings
from agent.data.read_options import ReadOptions
from agent.detectors.language import ANSWERS, build_messages
from agent.pipeline.context import AppContext
from agent.training.learn import learn
from benchmarks.bulk_ray import varied
from llm.factory import choose_model

_WORDS = (
    "disk",
    "pump",
    "valve",
    "query",
    "lock",
    "index",
    "cache",
    "shard",
    "queue",
    "token",
    "batch",
    "route",
    "probe",
)
_LINES, _NEW, _LEARNED, _QUERIES = 1_000_000, 200, 200, 6
# records that are judged before, and of each kind: of rows and sessions, whole verdicts of the first ones are kept
_WARM, _ROWS, _MESSAGES = 300, 20_000, 600


@dataclass
class Measured:
    """What was measured of the judging of one file.

    Attributes
    ----------
    workers, driver : list of float
        Seconds for each part, of who judges it and of who reads and writes.
    records : int
    stored : list of int
        Bytes of the verdicts that go to the history.
    """

    workers: list[float] = field(default_factory=list)
    driver: list[float] = field(default_factory=list)
    records: int = 0
    stored: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Times:
    """Seconds of one core.

    Attributes
    ----------
    kinds : dict of str to float
        For one record by kind; lines have known templates.
    template, query : float
        For a new template, and for a query of the embedded language model.
    driver : float
        Of the process that reads and writes, for a line.
    verdict : float
        Bytes of a verdict in the history.
    """

    kinds: dict[str, float]
    template: float
    query: float
    driver: float
    verdict: float


class _Here:
    """In place of a cluster: one worker in this process; what it is sent and sends is packed, as by a cluster."""

    measured = Measured()

    def __init__(self, address: str, workers: int | None, snapshot: Any, read: ReadOptions, *rest: Any) -> None:
        self._snapshot, self._setup = snapshot, (read, rest[0], _quiet, _quiet)

    def __enter__(self) -> _Here:
        self._context = self._snapshot.open(
            Path(self._snapshot.settings.home) / f"worker-{time.monotonic_ns()}", threads=1
        )
        self._judge = PartJudge(self._context, *self._setup)
        return self

    def __exit__(self, *_: object) -> None:
        self._context.close()

    def judge(self, parts: Iterator[Part]) -> Iterator[tuple[Part, JudgedPart]]:
        measured = self.measured
        before = time.process_time()
        for part in parts:
            sent = ForkingPickler.dumps(part)
            handed = time.process_time()
            judged = self._judge.judge(ForkingPickler.loads(sent))
            packed = ForkingPickler.dumps(judged)
            done = time.process_time()
            yield part, ForkingPickler.loads(packed)
            measured.workers.append(done - handed)
            measured.driver.append(time.process_time() - done + handed - before)
            measured.stored += [len(body) for _, body in judged.history]
            before = time.process_time()


class _RunHere(RayRunner):
    cluster = _Here


def _quiet(*_: object) -> None:
    pass


def judged_here(context: AppContext, source: str, file: Path, output: Path) -> Measured:
    """Judge a file by parts in this process."""
    _Here.measured = Measured()
    reading = ReadOptions.model_validate(context.source(source).reading)
    options = BulkOptions((str(file),), source, "compact", "jsonl", explain_rows="none")
    _Here.measured.records = _RunHere(context, reading, options, _quiet, _quiet).run(output).records
    return _Here.measured


def new_templates(file: Path, count: int, seed: int) -> None:
    """Lines of which no two have one template."""
    draw = random.Random(seed)
    lines = (" ".join(draw.choices(_WORDS, k=14)) for _ in range(count))
    file.write_text("".join(f"- {line}\n" for line in lines), encoding="utf-8")


def _others(folder: Path) -> Iterator[tuple[str, ReadOptions, list[Path]]]:
    """Records that are no lines: name, how they are read, and files to learn, to judge before and to judge."""
    draw, names = random.Random(5), ("learn", "before", "judge")
    for name, count in zip(names, (_LEARNED, _WARM, _ROWS), strict=True):
        rows = ["a,b,c,d,e,f,g,kind,label"]
        prose, sessions = ["text,label"], list[str]()
        for number in range(count):
            odd = number % 7 == 6
            cells = [f"{draw.gauss(3 * odd, 1):.3f}" for _ in range(7)]
            rows.append(",".join([*cells, draw.choice("xyz"), str(int(odd))]))
            prose.append(f'"{" ".join(draw.choices(_WORDS, k=18))}{" prize money" * odd}",{int(odd)}')
            events = [f"step {draw.choice(_WORDS)}" for _ in range(12)] + ["fatal fault"] * odd
            sessions.append(json.dumps({"id": f"{name}{number}", "events": events, "label": int(odd)}))
        del prose[_MESSAGES + 1 :]
        for kind, lines in (("rows.csv", rows), ("prose.csv", prose), ("sessions.jsonl", sessions)):
            (folder / f"{name}-{kind}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name, kind in (
        ("table row, 8 columns", "rows.csv"),
        ("prose message", "prose.csv"),
        ("session", "sessions.jsonl"),
    ):
        yield name, ReadOptions(label="label"), [folder / f"{part}-{kind}" for part in names]


def measure(context: AppContext, folder: Path) -> Times:
    """Measure all, with a context that has learned the demo's log as ``postgres``."""
    known, fresh = folder / "known.log", folder / "fresh.log"
    varied(known, _LINES)
    new_templates(fresh, 2 * _NEW, 1)
    judged_here(context, "postgres", known, folder / "out")
    lines = judged_here(context, "postgres", known, folder / "out")
    line = sum(lines.workers) / lines.records
    # the embedding model is loaded with the first of them
    judged_here(context, "postgres", fresh, folder / "out")
    new_templates(fresh, _NEW, 2)
    new = judged_here(context, "postgres", fresh, folder / "out")
    kinds = {"log line of a known template": line}
    for number, (name, options, (learned, before, judged)) in enumerate(_others(folder)):
        learn(context, [learned], f"kind{number}", options, brief=name)
        judged_here(context, f"kind{number}", before, folder / "out")
        found = judged_here(context, f"kind{number}", judged, folder / "out")
        kinds[name] = sum(found.workers) / found.records
    driver = sum(lines.driver) / lines.records
    return Times(kinds, sum(new.workers) / new.records - line, _query(), driver, sum(new.stored) / len(new.stored))


def _query() -> float:
    """Seconds of a query of the embedded language model."""
    chosen = Settings(model="none")
    model = choose_model(
        "embedded:qwen2.5-coder-0.5b", cache=settings().cache, offline=True, ollama_hosts="", ollama_model="",
        context_tokens=chosen.context_tokens, threads=1, queue_size=4, timeout=60.0,
    )  # fmt: skip
    draw, seconds = random.Random(3), 0.0
    for number in range(_QUERIES + 1):
        text = " ".join(draw.choices(_WORDS, k=20))
        before = time.process_time()
        model.answer_log_probabilities(build_messages("A log.", text), ANSWERS)
        # the first one reads the prompt that all have in common
        seconds += (time.process_time() - before) * (number > 0)
    model.close()
    return seconds / _QUERIES
