"""Online detection: verdicts while the features of a job, or the events of a session, arrive one by one."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from agent.core.errors import UsageError
from agent.core.records import Record, VerdictLabel
from agent.data.readers import ParsedRow
from agent.data.readers.values import spell_out
from benchmarks.demonstrations.inputs import Data, chosen_data
from benchmarks.demonstrations.learning import empty_context, judge_rows, learn_rows
from benchmarks.demonstrations.report import Row, Table
from benchmarks.progress import progress_lines
from benchmarks.quality.baselines import Floats, forest
from benchmarks.systems.split import add_file_options

NAME, TITLE = "online", "Online detection: a verdict before all features are there"
SHOWS = """\
The features of each record arrive one by one, in the order of the file's columns (of a session: its events). It is
judged at each number of them, first by the complete cases, then by a source for each number, whose cases were cut to
that many: what a job that still runs is compared with. *flips*: verdicts decided there that are later decided
otherwise. *first right after*: the mean number of features at a record's first right decision, among the share *ever
right*. The forest is fitted for each number too, and decides always.
"""
CONCLUDES = """\
With complete cases a verdict stays unsure until nearly all features are there: early verdicts are not wrong, and not
there. A source whose cases are cut to what a running job has decides a third of the jobs from the third feature (run
time) on, and hardly any of these verdicts flips. So learn one source for each stage of a job. Limits: the order of
the features is the file's, and what comes early says little here; with two features, decided verdicts are wrong too
often.
"""
DEFAULT = ("genome",)
_MOST_COUNTS = 9
Cut = Callable[[ParsedRow, int], ParsedRow]


@dataclass(frozen=True)
class _Stage:
    """The verdicts of one system on all records at one number of features."""

    labels: Sequence[VerdictLabel]
    probability: Sequence[float]


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add_file_options(parser, "LEARN", "JUDGE", DEFAULT)
    parser.add_argument("--limit", type=int, default=300, metavar="N", help="most records of a side [%(default)s]")


def measure(options: argparse.Namespace, folder: Path) -> Iterator[Table]:
    """Two tables for each data set: by number of features, and when the right verdict comes."""
    for data in chosen_data(options, DEFAULT, folder):
        if data.shape == "text":
            raise UsageError(
                f"{data.name}: online detection needs records with fields, such as columns or `name is value name is "
                "value`, or sessions with events; these are texts"
            )
        counts, progress = _counts(data), progress_lines(data.name)
        stages: dict[str, list[_Stage]] = {"complete cases": [], "cases cut alike": [], "random forest": []}
        context = empty_context(folder / f"home-{data.name}", options.model)
        learn_rows(context, "complete", data.learned, data.options, data.brief)
        for number, count in enumerate(counts):
            progress(f"{count} features", number, len(counts))
            learned = [_cut(row, count, data.shape) for row in data.learned]
            judged = [_cut(row, count, data.shape) for row in data.judged]
            learn_rows(context, f"cut-{count}", learned, data.options, data.brief)
            for name, source in (("complete cases", "complete"), ("cases cut alike", f"cut-{count}")):
                verdicts = judge_rows(context, source, judged).verdicts
                if len(verdicts) < len(judged):
                    raise UsageError(f"{data.name}: some records cannot be judged with {count} features")
                stages[name].append(_Stage([v.label for v in verdicts], [v.probability for v in verdicts]))
            context.casebook.remove(f"cut-{count}")
            stages["random forest"].append(_forest_stage(learned, judged))
        context.close()
        yield from _tables(data, counts, stages)


def _forest_stage(learned: Sequence[ParsedRow], judged: Sequence[ParsedRow]) -> _Stage:
    if len({row.label for row in learned}) < 2:
        return _Stage(["unsure"] * len(judged), [0.5] * len(judged))
    probability = forest(learned, judged, _no_encoding)
    return _Stage(["anomalous" if p >= 0.5 else "normal" for p in probability.tolist()], probability.tolist())


def _no_encoding(texts: Sequence[str]) -> Floats:
    raise AssertionError("a forest of fields reads no texts")


def _counts(data: Data) -> list[int]:
    """At which numbers of features the records are judged: at most nine, from one to all."""
    events = data.shape == "events"
    rows = [row.record for row in (*data.learned, *data.judged)]
    most = max(len(record.events) if events else len(record.fields) for record in rows)
    # sessions differ most at their beginnings
    spread = np.geomspace if events else np.linspace
    return sorted({round(float(count)) for count in spread(1, most, min(most, _MOST_COUNTS))})


def _cut(row: ParsedRow, count: int, shape: str) -> ParsedRow:
    """The row as it was when so many of its features were there."""
    record = row.record
    if shape == "events":
        return replace(row, record=Record(events=record.events[:count]))
    fields = dict(list(record.fields.items())[:count])
    return replace(row, record=Record(text=spell_out(fields) or next(iter(fields)), fields=fields))


def _tables(data: Data, counts: Sequence[int], stages: Mapping[str, Sequence[_Stage]]) -> Iterator[Table]:
    truth = ["anomalous" if row.label == "anomalous" else "normal" for row in data.judged]
    anomalous = truth.count("anomalous")
    kind = "events" if data.shape == "events" else "features"
    judged = f"{len(data.learned):,} learned, {len(truth):,} judged, {anomalous:,} of them anomalous."
    rows = [
        {kind: count, "system": name, **_at(of_system, place, truth)}
        for place, count in enumerate(counts)
        for name, of_system in stages.items()
    ]
    yield Table(data.name, f"{data.about} {judged}", rows)
    yield Table(
        f"{data.name}: when", f"The first right decision of each record, in {kind}.", _when(counts, stages, truth)
    )


def _at(stages: Sequence[_Stage], place: int, truth: Sequence[str]) -> Row:
    """The figures at one number of features."""
    from sklearn.metrics import roc_auc_score

    labels = stages[place].labels
    decided = [i for i, label in enumerate(labels) if label != "unsure"]
    right = sum(labels[i] == truth[i] for i in decided)
    flips = sum(any(later.labels[i] not in ("unsure", labels[i]) for later in stages[place + 1 :]) for i in decided)
    both = len(set(truth)) == 2
    return {
        "roc_auc": float(roc_auc_score([t == "anomalous" for t in truth], stages[place].probability)) if both else None,
        "coverage": len(decided) / len(truth),
        "decided right": right / len(truth),
        "decided_error": 1 - right / len(decided) if decided else None,
        "flips": flips / len(decided) if decided else None,
    }


def _when(counts: Sequence[int], stages: Mapping[str, Sequence[_Stage]], truth: Sequence[str]) -> list[Row]:
    rows = list[Row]()
    for name, of_system in stages.items():
        for label in ("normal", "anomalous"):
            of_label = [i for i, true in enumerate(truth) if true == label]
            first = [
                next((c for c, stage in zip(counts, of_system, strict=True) if stage.labels[i] == label), None)
                for i in of_label
            ]
            reached = [count for count in first if count is not None]
            rows.append(
                {
                    "system": name,
                    "records": label,
                    "ever right": len(reached) / len(of_label) if of_label else None,
                    "first right after": statistics.fmean(reached) if reached else None,
                    "of": counts[-1],
                }
            )
    return rows
