"""Transfer: what is learned on one source judges another, with and without adaptation."""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from agent.core.errors import UsageError
from agent.data.read_options import ReadOptions
from agent.data.readers import ParsedRow
from agent.pipeline.context import AppContext
from agent.training.batch_adaptation import adapt_to_batch
from benchmarks.demonstrations.inputs import SEED, Data, label_numbers, public, read_data, sample
from benchmarks.demonstrations.learning import empty_context, judge_rows, learn_rows
from benchmarks.demonstrations.report import Row, Table
from benchmarks.progress import Progress, print_status, progress_lines
from benchmarks.systems.split import Files, own_options

NAME, TITLE = "transfer", "Transfer: one source's cases judge another source"
SHOWS = """\
A source is learned, and the records of another are judged with it: as they are, with `judge --adapt` (all of the
target's records, none of its labels), and with some labelled records of the target among the cases. The last row has
only those. No verdict on a target may be surely wrong for want of cases like it: it must be *unsure*.
"""
CONCLUDES = """\
A foreign casebook ranks poorly and decides little where records are far from all cases; ten to fifty labels of the
target repair most of it, and the foreign cases do no harm. Limits: `--adapt` can only shift rates, so that it helps
no target that is unlike the cases; attacks that look like normal connections (*nslkdd-families*) are decided, and
wrong, because cases are near; and a casebook of very different texts calls some lines of another system normal.
`judge` then says that most records are unlike the cases.
"""
_DOS = frozenset({"neptune", "smurf", "back", "teardrop", "pod", "land"})
_BILLION = 3e8
Keep = Callable[[ParsedRow], bool]


def _normal_or(row: ParsedRow, *, dos: bool) -> bool:
    return row.label == "normal" or (row.label_value in _DOS) == dos


def _stages_in_much(row: ParsedRow) -> bool:
    size = row.record.fields.get("stage_in_bytes")
    return isinstance(size, float) and size > _BILLION


@dataclass(frozen=True)
class Pair:
    """Two public data sets, or two parts of one; ``learned`` and ``judged`` say which of their rows are used."""

    source: str
    target: str
    about: str
    learned: Keep = lambda row: True
    judged: Keep = lambda row: True


PAIRS = {
    "genome-jobs": Pair(
        "genome",
        "genome",
        "Jobs of 1000genome that stage in about 1 GB judge its other jobs, whose run times are a sixth.",
        _stages_in_much,
        lambda row: not _stages_in_much(row),
    ),
    "nslkdd-families": Pair(
        "nslkdd",
        "nslkdd",
        "NSL-KDD: normal connections and floods (DoS) judge probes, logins from outside and others of Test+.",
        lambda row: _normal_or(row, dos=True),
        lambda row: _normal_or(row, dos=False),
    ),
    "hdfs-halves": Pair("hdfs100k", "hdfs100k", "HDFS sessions of one cluster: the training split judges the other."),
    "hdfs-names": Pair("hdfs100k", "hdfs-few", "HDFS sessions judge HDFS sessions whose events have other names."),
    "sms-bgl": Pair("sms", "bgl-time", "Text messages judge lines of a supercomputer's log."),
    "bgl-sms": Pair("bgl-time", "sms", "Lines of a supercomputer's log judge text messages."),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("--pair", action="append", metavar="NAME", help=f"repeat it [{', '.join(PAIRS)}]")
    parser.add_argument("--file", nargs=2, type=Path, metavar=("SOURCE", "TARGET"), help="own labelled files instead")
    parser.add_argument("--label", metavar="COLUMN", help="label column of the own files")
    parser.add_argument("--target-label", metavar="COLUMN", help="that of TARGET, if it has another one")
    parser.add_argument("--normal", action="append", metavar="VALUE", help="label value that means normal; repeat it")
    parser.add_argument("--text", action="append", metavar="COLUMN", help="text column of SOURCE; repeat it")
    parser.add_argument("--brief", metavar="TEXT", help="what SOURCE holds")
    parser.add_argument(
        "--labels", default="10,50,200", metavar="N,N", help="labels of the target, or none [%(default)s]"
    )
    parser.add_argument("--limit", type=int, default=200, metavar="N", help="most records of a side [%(default)s]")


def measure(options: argparse.Namespace, folder: Path) -> Iterator[Table]:
    """A table for each pair."""
    numbers = [] if options.labels == "none" else label_numbers(options.labels)
    for name, source, target in _pairs(options, folder, max(numbers, default=0)):
        context = empty_context(folder / f"home-{name}", options.model)
        table = _measured(context, name, source, target, numbers, progress_lines(name))
        context.close()
        yield table


def _pairs(options: argparse.Namespace, folder: Path, labels: int) -> Iterator[tuple[str, Data, Data]]:
    """Name, source and target of each pair; the target's side to judge holds the records to label as well."""
    if options.file is not None:
        learned, judged = options.file
        read, name = own_options(options), f"{options.file[0].stem}-{options.file[1].stem}"
        about = f"Learns {learned.name}, judges {judged.name}."
        # the columns of the one file are not those of the other
        other = read if options.target_label is None else ReadOptions(label=options.target_label, normal=read.normal)
        source = read_data(Files(name, about, learned, learned, read, options.brief), options.limit)
        yield name, source, read_data(Files(name, about, judged, judged, other), options.limit + labels)
        return
    for name in options.pair or PAIRS:
        if name not in PAIRS:
            raise UsageError(f"no pair {name!r}: {', '.join(PAIRS)}")
        pair = PAIRS[name]
        if missing := [path for end in (pair.source, pair.target) for path in public(end).missing]:
            print_status(f"{name}: left out, {missing[0]} is not here")
            continue
        ends = list[Data]()
        for end in (pair.source, pair.target):
            path = folder / f"{name}-{len(ends)}"
            path.mkdir()
            # before the rows that are not used are left out
            ends.append(read_data(Files.of_task(public(end), 8 * (options.limit + labels), 0, path), 1 << 30))
        rows = sample([row for row in ends[0].learned if pair.learned(row)], options.limit)
        judged_rows = sample([row for row in ends[1].judged if pair.judged(row)], options.limit + labels)
        yield name, replace(ends[0], about=pair.about, learned=rows), replace(ends[1], judged=judged_rows)


def _measured(
    context: AppContext,
    name: str,
    source: Data,
    target: Data,
    numbers: Sequence[int],
    progress: Progress,
) -> Table:
    shuffled = random.Random(SEED).sample(list(target.judged), len(target.judged))
    pool = shuffled[: min(len(shuffled) if 0 in numbers else max(numbers, default=0), len(shuffled) // 2)]
    judged = shuffled[len(pool) :]
    rows = list[Row]()

    def add(adaptation: str, source_name: str, labels: int) -> None:
        progress(adaptation, 0, 1)
        rows.append({"adaptation": adaptation, **judge_rows(context, source_name, judged).figures(), "labels": labels})

    learn_rows(context, "foreign", source.learned, source.options, source.brief)
    add("none", "foreign", 0)
    note = adapt_to_batch(context, "foreign", (row.record for row in judged))
    print_status(f"{name}: {note}")
    add("`--adapt`, no labels", "foreign", 0)
    context.batch_models.clear()
    for labels in numbers:
        labelled = pool[: labels or len(pool)]
        if labels > len(pool):
            print_status(f"{name}: the target has only {len(pool)} records to label, not {labels}")
            continue
        both = f"with-{labels}"
        learn_rows(context, both, [*source.learned, *labelled], source.options, source.brief)
        add(f"{len(labelled)} labels of the target", both, len(labelled))
    if rows[-1]["labels"]:
        learn_rows(context, "own", pool[: rows[-1]["labels"]], target.options, target.brief)
        add("only these labels, no foreign case", "own", rows[-1]["labels"])
    anomalous = sum(row.label == "anomalous" for row in judged)
    about = f"{source.about} {len(source.learned):,} learned, {len(judged):,} judged, {anomalous:,} of them anomalous."
    return Table(name, about, rows)
