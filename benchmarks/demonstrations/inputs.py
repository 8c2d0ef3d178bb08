"""The records that a demonstration learns and judges: a public task by name, or a user's own files."""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from agent.core.errors import InputError, UsageError
from agent.core.settings import settings
from agent.data.read_options import ReadOptions
from agent.data.readers import ParsedRow
from agent.training.reading_report import survey
from benchmarks.progress import print_status
from benchmarks.quality.tasks import TASKS, Task, sms_messages
from benchmarks.systems.split import Files, own_files

SEED = 0
# by name: tasks whose learned side has enough records to draw from
PUBLIC: dict[str, Task] = {name: TASKS[name] for name in ("genome", "nslkdd", "hdfs100k", "hdfs-few", "bgl-time")}
PUBLIC["sms"] = replace(
    TASKS["sms-100"],
    name="sms",
    protocol="SMS spam: learns half of the messages, judges the others.",
    draw=partial(sms_messages, 2_787),
)


@dataclass(frozen=True)
class Data:
    """Labelled records of one shape.

    Attributes
    ----------
    learned, judged : sequence of ParsedRow
    options : ReadOptions
        How files of it are read, with the columns that were found.
    """

    name: str
    about: str
    learned: Sequence[ParsedRow]
    judged: Sequence[ParsedRow]
    options: ReadOptions
    brief: str | None = None

    @property
    def shape(self) -> str:
        """What most records consist of: events, fields or text."""
        rows = [row.record for row in (*self.learned, *self.judged)]
        for shape in ("events", "fields"):
            if 2 * sum(bool(getattr(record, shape)) for record in rows) > len(rows):
                return shape
        return "text"


def chosen_data(options: argparse.Namespace, default: Sequence[str], folder: Path) -> Iterator[Data]:
    """The own files, learned and judged, or the public data that are named and here.

    Raises
    ------
    UsageError
        A name is not known, or none of the data is on this machine.
    """
    if options.file is not None:
        yield read_data(own_files(options), options.limit)
        return
    found = False
    for name in options.data or default:
        task = public(name)
        if task.missing:
            print_status(f"{name}: left out, {task.missing[0]} is not here")
            continue
        found = True
        yield read_data(Files.of_task(task, options.limit, 0, folder), options.limit)
    if not found:
        raise UsageError("none of the data sets is on this machine; --file takes your own files")


def public(name: str) -> Task:
    """The task of that name.

    Raises
    ------
    UsageError
        There is none.
    """
    if name not in PUBLIC:
        raise UsageError(f"no data set {name!r}: {', '.join(PUBLIC)}")
    return PUBLIC[name]


def read_data(files: Files, limit: int) -> Data:
    """The records of both files, of each a seeded sample of at most ``limit``.

    Raises
    ------
    InputError
        A file cannot be read, or has no labelled record.
    """
    most_chars = settings().max_record_chars
    options = survey([files.learned], files.options, most_chars).options
    sides = list[Sequence[ParsedRow]]()
    for path in (files.learned, files.judged):
        rows = [row for row in options.read(path, most_chars, lenient=False) if isinstance(row, ParsedRow)]
        if not rows:
            raise InputError(f"has no record with a label in the column {files.options.label!r}", str(path))
        sides.append(sample(rows, limit))
    return Data(files.name, files.protocol, sides[0], sides[1], options, files.brief)


def sample(rows: Sequence[ParsedRow], size: int, seed: int = SEED) -> list[ParsedRow]:
    """A seeded sample in the order of the file."""
    if len(rows) <= size:
        return list(rows)
    return [rows[i] for i in sorted(random.Random(seed).sample(range(len(rows)), size))]


def label_numbers(text: str) -> list[int]:
    """Numbers of labels as they are written: ``10,50,all``; 0 stands for all.

    Raises
    ------
    UsageError
        It is not a list of whole numbers above 0.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    numbers = [0 if word == "all" else int(word) if word.isdecimal() else -1 for word in words]
    if not numbers or any(number < 0 or word == "0" for number, word in zip(numbers, words, strict=True)):
        raise UsageError(f"--labels {text!r}: whole numbers with commas between them, such as 10,50,200")
    return numbers
