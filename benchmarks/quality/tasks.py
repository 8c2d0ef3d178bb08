"""The tasks: which public data set, what is learned, what is judged. Fixed, so that figures of versions compare.

What a draw learns and judges are the data set's own lines, written to files that a user would have. The labels
of what is judged choose nothing.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from agent.data.read_options import ReadOptions
from agent.data.readers import ParsedRow
from benchmarks import bgl
from benchmarks.quality import baselines
from benchmarks.quality.baselines import Baseline

DATA = bgl.BGL.parents[2]
_DRAWS = 5
_SMS = (
    "Text messages that came to a private person's mobile phone. Normal: what people write to each other. Anomalous: "
    "spam, such as advertising, prizes, paid services and appeals to call or text a number."
)


@dataclass(frozen=True)
class Draw:
    """Lines of a file, without line ends: those to learn and those to judge; both files begin with ``header``."""

    learned: Sequence[str]
    judged: Sequence[str]
    header: str = ""


@dataclass(frozen=True)
class Task:
    """``draw`` makes the draw of a seed out of ``files`` (under `DATA`); ``draws``: how many, 1 if none is random."""

    name: str
    protocol: str
    files: tuple[str, ...]
    intake: ReadOptions
    draw: Callable[[int], Draw]
    suffix: str = ".csv"
    brief: str | None = None
    draws: int = 1
    baselines: Mapping[str, Baseline] = field(default_factory=dict)

    @property
    def missing(self) -> list[Path]:
        return [DATA / name for name in self.files if not (DATA / name).is_file()]


def _lines(name: str) -> list[str]:
    return (DATA / name).read_text(encoding="utf-8").rstrip("\n").split("\n")


def _bgl_templates(seed: int) -> Draw:
    known, unseen = bgl.halves(seed)
    header, *rows = _lines(_BGL)

    def of(readings: Sequence[ParsedRow]) -> list[str]:
        # line 1 is the header
        return [rows[one.record.line - 2] for one in readings if one.record.line]

    return Draw(of(known), of(unseen), header)


def _bgl_learned(first: int, _: int) -> Draw:
    header, *rows = _lines(_BGL)
    return Draw(rows[:first], rows[first:], header)


def _genome(labels: int | None, seed: int) -> Draw:
    header, *rows = _lines(_GENOME[0])
    learned = rows if labels is None else random.Random(seed).sample(rows, labels)
    return Draw(learned, _lines(_GENOME[1])[1:], header)


def _nslkdd(only_normal: bool, _: int) -> Draw:
    rows = _lines(_NSLKDD[0])
    return Draw([row for row in rows if not only_normal or row.split(",")[41] == "normal"], _lines(_NSLKDD[1]))


def _hdfs_100k(_: int) -> Draw:
    return Draw(_lines(_HDFS_100K[0]), _lines(_HDFS_100K[1]))


def _hdfs_normal(seed: int) -> Draw:
    def sessions(name: str, label: int) -> list[str]:
        return [json.dumps({"events": [f"E{n}" for n in row.split()], "label": label}) for row in _lines(name)]

    rng = random.Random(seed)
    normal = sessions(_HDFS[0], 0)
    rng.shuffle(normal)
    learned = len(normal) * 7 // 10
    return Draw(normal[:learned], normal[learned:] + rng.sample(sessions(_HDFS[1], 1), 2_000))


def _hdfs_few(seed: int) -> Draw:
    """As many labels as .5 % of the 575,061 sessions of the whole set, with its share of anomalous ones (2.9 %)."""

    def sessions(name: str, label: int) -> list[str]:
        rows = [json.dumps({"events": [f"E{n}" for n in row.split()], "label": label}) for row in _lines(name)]
        random.Random(seed).shuffle(rows)
        return rows

    normal, anomalous = sessions(_HDFS[0], 0), sessions(_HDFS[1], 1)
    return Draw(normal[:2_792] + anomalous[:83], normal[2_792:] + anomalous[83:145])


# scikit-learn's tables and the class that is anomalous
_TABLES = (
    *(("breast_cancer", 0), ("iris", 1), ("iris", 2), ("wine", 0), ("wine", 1), ("wine", 2)),
    *(("digits", 1), ("digits", 4), ("digits", 8), ("digits", 9)),
)


def _table(labels: int | None, number: int) -> Draw:
    """Normal rows of half of a table, or ``labels`` of all its rows; judges the others, one in ten anomalous."""
    from sklearn import datasets

    name, anomalous = _TABLES[number % len(_TABLES)]
    bunch = getattr(datasets, f"load_{name}")()
    header = ",".join([*(str(column).replace(",", " ") for column in bunch.feature_names), "label"])
    rows: dict[bool, list[str]] = {False: [], True: []}
    for values, target in zip(bunch.data.tolist(), bunch.target.tolist(), strict=True):
        rows[target == anomalous].append(",".join(map(str, [*values, int(target == anomalous)])))
    rng = random.Random(number)
    for of_label in rows.values():
        rng.shuffle(of_label)
    half, few = len(rows[False]) // 2, len(rows[True]) // 2
    judged = rows[False][half:] + rows[True][few:][: max(5, (len(rows[False]) - half) // 9)]
    if labels is None:
        return Draw(rows[False][:half], judged, header)
    known = rows[False][:half] + rows[True][:few]
    return Draw(rng.sample(known, min(labels, len(known))), judged, header)


def sms_messages(labels: int, seed: int) -> Draw:
    rows = _lines("sms/SMSSpamCollection")
    random.Random(seed).shuffle(rows)
    return Draw(rows[:labels], rows[labels:])


_BGL = str(bgl.BGL.relative_to(DATA))
_GENOME = ("workflows/1000genome/validation.csv", "workflows/1000genome/test.csv")
_NSLKDD = ("nslkdd/KDDTrain+_20Percent.txt", "nslkdd/KDDTest+.txt")
_HDFS_100K = ("hdfs_100k/train.jsonl", "hdfs_100k/test.jsonl")
_HDFS = ("hdfs/hdfs_train", "hdfs/hdfs_test_abnormal")
_ROWS = ReadOptions(format="csv", label="label", text=("text",))
_CONNECTIONS = ReadOptions(format="csv", label="41", text=("0-40",))
_SESSIONS = ReadOptions(format="jsonl", label="label")
_MESSAGES = ReadOptions(format="csv", label="0", text=("1",))
_TABLE = ReadOptions(format="csv", label="label")

_TEMPLATES = Task(
    "bgl-templates",
    "BGL_2k (component, level, content): learns the lines of 60 % of each label's templates, judges those of "
    "the other templates.",
    (_BGL,),
    bgl.WHOLE,
    _bgl_templates,
    brief=bgl.BRIEF,
    draws=_DRAWS,
    baselines=baselines.TEXT,
)

TASKS = {
    task.name: task
    for task in (
        _TEMPLATES,
        replace(
            _TEMPLATES,
            name="bgl-content",
            protocol="The same of the content alone, without component and level.",
            intake=bgl.INTAKE,
        ),
        Task(
            "bgl-time",
            "BGL_2k (component, level, content): learns the first 1,000 lines, judges the other 1,000.",
            (_BGL,),
            bgl.WHOLE,
            partial(_bgl_learned, 1_000),
            brief=bgl.BRIEF,
            baselines=baselines.TEXT,
        ),
        Task(
            "bgl-brief",
            "BGL_2k (component, level, content): no labels, only the brief; judges all 2,000 lines.",
            (_BGL,),
            bgl.WHOLE,
            partial(_bgl_learned, 0),
            brief=bgl.BRIEF,
        ),
        Task(
            "genome",
            "1000genome workflow jobs: learns the validation split, judges the test split.",
            _GENOME,
            _ROWS,
            partial(_genome, None),
            baselines=baselines.JOBS,
        ),
        Task(
            "genome-200",
            "1000genome workflow jobs: learns 200 of the validation split, judges the test split.",
            _GENOME,
            _ROWS,
            partial(_genome, 200),
            draws=_DRAWS,
            baselines=baselines.FEW_JOBS,
        ),
        Task(
            "genome-1000",
            "1000genome workflow jobs: learns 1,000 of the validation split, judges the test split.",
            _GENOME,
            _ROWS,
            partial(_genome, 1_000),
            draws=_DRAWS,
            baselines=baselines.FEW_JOBS,
        ),
        Task(
            "nslkdd",
            "NSL-KDD connections: learns the 20 % training set, judges Test+ (attacks of other kinds).",
            _NSLKDD,
            _CONNECTIONS,
            partial(_nslkdd, False),
            baselines=baselines.FIELDS,
        ),
        Task(
            "nslkdd-normal",
            "NSL-KDD connections: learns only the normal ones of the 20 % training set, judges Test+.",
            _NSLKDD,
            _CONNECTIONS,
            partial(_nslkdd, True),
            baselines=baselines.NORMAL_ONLY,
        ),
        Task(
            "hdfs100k",
            "HDFS_100k sessions: learns the training split, judges the test split.",
            _HDFS_100K,
            _SESSIONS,
            _hdfs_100k,
            suffix=".jsonl",
            baselines=baselines.FIELDS,
        ),
        Task(
            "hdfs-normal",
            "HDFS sessions: learns 70 % of the normal ones, judges the others and 2,000 anomalous ones.",
            _HDFS,
            _SESSIONS,
            _hdfs_normal,
            suffix=".jsonl",
            draws=_DRAWS,
            baselines=baselines.NORMAL_ONLY,
        ),
        Task(
            "sms-100",
            "SMS spam: learns 100 messages, judges all others.",
            ("sms/SMSSpamCollection",),
            _MESSAGES,
            partial(sms_messages, 100),
            suffix=".tsv",
            brief=_SMS,
            draws=_DRAWS,
            baselines=baselines.TEXT,
        ),
        Task(
            "sms-20",
            "SMS spam: learns 20 messages, judges all others.",
            ("sms/SMSSpamCollection",),
            _MESSAGES,
            partial(sms_messages, 20),
            suffix=".tsv",
            brief=_SMS,
            draws=_DRAWS,
            baselines=baselines.TEXT,
        ),
        Task(
            "hdfs-few",
            "HDFS sessions: learns 2,875, .5 % of the whole set, with its share of anomalous ones; judges others.",
            _HDFS,
            _SESSIONS,
            _hdfs_few,
            suffix=".jsonl",
            draws=_DRAWS,
            baselines=baselines.FIELDS,
        ),
        Task(
            "tables-normal",
            "Ten classes of four of scikit-learn's tables, each once the anomalous one: learns half of the other rows.",
            (),
            _TABLE,
            partial(_table, None),
            draws=len(_TABLES),
            baselines=baselines.NORMAL_ONLY,
        ),
        Task(
            "tables-200",
            "The same with 200 labelled rows of both labels, or as many as there are.",
            (),
            _TABLE,
            partial(_table, 200),
            draws=len(_TABLES),
            baselines=baselines.FIELDS,
        ),
    )
}
