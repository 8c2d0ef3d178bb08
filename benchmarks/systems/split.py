"""What is learned and what is judged: files, a source that was learned from them, and both as detectors see them."""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from agent.core.errors import UsageError
from agent.core.requests import JudgeRequest
from agent.data.read_options import ReadOptions
from agent.data.readers import DEFAULT_NORMAL, ParsedRow
from agent.detectors.base import DetectorInput, TrainingCase
from agent.pipeline.context import AppContext
from agent.pipeline.steps import Steps
from agent.training.learn import learn
from agent.training.leave_one_out import CaseKey, leave_one_out, training_cases
from benchmarks.progress import Progress
from benchmarks.quality.tasks import Task
from retrieval.encoding.representation import Representation
from retrieval.types import StoredCase

_CHUNK = 500
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Files:
    """A file to learn and one to judge, and how they are read."""

    name: str
    protocol: str
    learned: Path
    judged: Path
    options: ReadOptions
    brief: str | None = None
    draw: int = 0

    @classmethod
    def of_task(cls, task: Task, limit: int, seed: int, folder: Path) -> Files:
        """A draw of a task of `benchmarks.quality`, both sides a seeded sample of at most ``limit`` lines; 0: all."""
        draw = task.draw(seed)
        header = [draw.header] if draw.header else []
        paths = list[Path]()
        for what, lines in (("learned", draw.learned), ("judged", draw.judged)):
            path = folder / f"{task.name}-{seed}-{what}{task.suffix}"
            path.write_text("\n".join([*header, *_sample(lines, limit, seed)]) + "\n", encoding="utf-8")
            paths.append(path)
        return cls(task.name, task.protocol, paths[0], paths[1], task.intake, task.brief, seed)


def _sample(items: Sequence[_Item], limit: int, seed: int) -> list[_Item]:
    if not limit or len(items) <= limit:
        return list(items)
    return [items[i] for i in sorted(random.Random(seed).sample(range(len(items)), limit))]


def add_file_options(parser: argparse.ArgumentParser, first: str, second: str, default: Sequence[str]) -> None:
    """Options that choose public data or own files; ``first`` and ``second`` say what the two files are."""
    parser.add_argument("--data", action="append", metavar="NAME", help=f"repeat it [{', '.join(default)}]")
    parser.add_argument("--file", nargs=2, type=Path, metavar=(first, second), help="own labelled files instead")
    parser.add_argument("--label", metavar="COLUMN", help="label column of the own files")
    parser.add_argument("--normal", action="append", metavar="VALUE", help="label value that means normal; repeat it")
    parser.add_argument("--text", action="append", metavar="COLUMN", help="text column of the own files; repeat it")
    parser.add_argument("--brief", metavar="TEXT", help="what the own files hold")


def own_options(options: argparse.Namespace) -> ReadOptions:
    """How the own files are read.

    Raises
    ------
    UsageError
        No label column is named.
    """
    if options.label is None:
        raise UsageError("--file takes --label COLUMN, which holds the labels of both files")
    normal = tuple(options.normal or DEFAULT_NORMAL)
    return ReadOptions(label=options.label, normal=normal, text=tuple(options.text or ()))


def own_files(options: argparse.Namespace) -> Files:
    """The two files of ``--file``, learned and judged.

    Raises
    ------
    UsageError
        No label column is named.
    """
    learned, judged = options.file
    about = f"Learns {learned.name}, judges {judged.name}."
    return Files(learned.stem, about, learned, judged, own_options(options), options.brief)


@dataclass(frozen=True)
class Split:
    """A learned source, and the records to judge."""

    files: Files
    source: str
    learned: Sequence[ParsedRow]
    judged: Sequence[ParsedRow]
    seconds: float
    """That learning took, without contrib detectors."""
    cases: Sequence[TrainingCase]
    keys: Sequence[CaseKey]
    inputs: Sequence[DetectorInput]

    @property
    def truth(self) -> NDArray[np.bool_]:
        """Which of the records to judge are anomalous."""
        return np.array([row.label == "anomalous" for row in self.judged])

    @property
    def anomalous_labels(self) -> int:
        """How many of the learned records are anomalous."""
        return sum(row.label == "anomalous" for row in self.learned)


def make_split(context: AppContext, files: Files, limit: int, progress: Progress) -> Split:
    """Learn a source from the one file, and read the other; of it, a seeded sample of at most ``limit`` records."""
    started = time.perf_counter()
    result = learn(context, [files.learned], files.name, files.options, brief=files.brief, progress=progress)
    seconds = time.perf_counter() - started
    assert result.report is not None
    options = result.report.options
    learned, judged = (
        [row for row in options.read(path, context.settings.max_record_chars) if isinstance(row, ParsedRow)]
        for path in (files.learned, files.judged)
    )
    judged = _sample(judged, limit, files.draw)
    row = context.source(files.name)
    by_key: dict[CaseKey, StoredCase] = {
        key: case for key, (case, _) in context.casebook.by_template(files.name).items()
    }
    templates, _ = leave_one_out(context.casebook, row, by_key, context.settings.precedents)
    cases = training_cases(templates, by_key, row.representation or Representation())
    steps, inputs = Steps(context), list[DetectorInput]()
    for start in range(0, len(judged), _CHUNK):
        requests = [JudgeRequest.about(row.record, files.name, "none") for row in judged[start : start + _CHUNK]]
        states = steps.score_fields(steps.retrieve(steps.prepare(row, requests)))
        inputs += [state.detector_input for state in states]
        progress("embedding", len(inputs), len(judged))
    keys = [template.key for template in templates]
    return Split(files, files.name, learned, judged, seconds, cases, keys, inputs)


def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder for files and for the data directory."""
    return tempfile.TemporaryDirectory(prefix="precedent-systems-")
