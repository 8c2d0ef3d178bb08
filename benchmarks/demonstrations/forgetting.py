"""Catastrophic forgetting: a classifier tuned on A, then on B; the casebook that learns both beside it."""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.special import expit

from agent.core.errors import UsageError
from agent.data.readers import ParsedRow
from agent.detectors.contrib.catalog import hint_of, is_installed
from agent.detectors.contrib.tuned import TextScorer
from agent.pipeline.context import AppContext
from agent.training.evaluation import calibration_error, classification_figures
from agent.training.tune_classifier import default_options
from agent.training.tune_trainer import TrainerOptions, train
from benchmarks.demonstrations.inputs import SEED, Data, public, read_data, sample
from benchmarks.demonstrations.learning import empty_context, judge_rows, learn_rows
from benchmarks.demonstrations.report import Row, Table
from benchmarks.progress import Progress, print_status, progress_lines
from benchmarks.systems.split import Files, own_options

NAME, TITLE = "forgetting", "Forgetting: what is left of A after B was learned"
SHOWS = """\
A transformer (the embedding model with a new head) is fine-tuned on A, and the result on B. Beside it, one casebook
learns A, then B as well. Both are measured on the same records of A and of B, before and after B. No weights of the
casebook's embedding model change, so that A's cases are as near as before.
"""
CONCLUDES = """\
Tuning on B costs the transformer accuracy on A; the casebook keeps A's cases, and its F1 on A does not fall. Before B
was learned, the transformer decides all of B and most of it wrongly. Limits: 200 records and three epochs are little
for a transformer (`--limit`, `--epochs`); what it forgets depends on how alike A and B are.
"""
DEFAULT = ("sms", "bgl-time")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("--data", nargs=2, default=DEFAULT, metavar=("A", "B"), help=f"[{' '.join(DEFAULT)}]")
    parser.add_argument("--file", nargs=2, type=Path, metavar=("A", "B"), help="own labelled files instead")
    parser.add_argument("--label", metavar="COLUMN", help="label column of the own files")
    parser.add_argument("--normal", action="append", metavar="VALUE", help="label value that means normal; repeat it")
    parser.add_argument("--text", action="append", metavar="COLUMN", help="text column of the own files; repeat it")
    parser.add_argument("--brief", metavar="TEXT", help="what A holds")
    parser.add_argument("--base", metavar="MODEL", help="model to fine-tune, a folder or a hub name [the embedder]")
    parser.add_argument("--epochs", type=int, default=3, metavar="N", help="of each fine-tuning [%(default)s]")
    parser.add_argument("--limit", type=int, default=200, metavar="N", help="most records of a side [%(default)s]")


def measure(options: argparse.Namespace, folder: Path) -> Iterator[Table]:
    """One table."""
    first, second = _data(options, folder)
    progress = progress_lines("forgetting")
    context = empty_context(folder / "home", options.model)
    rows = list[Row]()
    learn_rows(context, "both", first.learned, first.options, first.brief)
    rows += _casebook(context, "A", first, second, progress)
    learn_rows(context, "both", second.learned, first.options, None)
    rows += _casebook(context, "A, then B", first, second, progress)
    if is_installed("tune"):
        tuning = default_options(context, options.base, epochs=options.epochs)
        rows += _tuned(tuning, first, second, folder, progress)
    else:
        print_status(f"the fine-tuned transformer is left out, it needs the extra [tune]: {hint_of('tune')}")
    context.close()
    about = (
        f"A is {first.name}, B is {second.name}: {len(first.learned):,} and {len(second.learned):,} records learned, "
    )
    about += f"{len(first.judged):,} and {len(second.judged):,} judged."
    yield Table(f"{first.name}, then {second.name}", about, rows)


def _data(options: argparse.Namespace, folder: Path) -> tuple[Data, Data]:
    """A and B, each with records to learn and others to judge: of an own file, a half each."""
    if options.file is None:
        ends = list[Data]()
        for name in options.data:
            task = public(name)
            if task.missing:
                raise UsageError(f"{name}: {task.missing[0]} is not here; --file A B --label COLUMN takes your own")
            path = folder / f"data-{len(ends)}"
            path.mkdir()
            ends.append(read_data(Files.of_task(task, options.limit, 0, path), options.limit))
        return ends[0], ends[1]
    read = own_options(options)
    a, b = (
        _halves(path, Files(path.stem, "", path, path, read, options.brief), options.limit) for path in options.file
    )
    return a, b


def _halves(path: Path, files: Files, limit: int) -> Data:
    data = read_data(files, 2 * limit)
    shuffled = random.Random(SEED).sample(list(data.learned), len(data.learned))
    half = len(shuffled) // 2
    if not half:
        raise UsageError(f"{path} has one record with a label: it takes at least one to learn and one to judge")
    return replace(data, learned=sample(shuffled[:half], limit), judged=sample(shuffled[half:], limit))


def _casebook(context: AppContext, learned: str, first: Data, second: Data, progress: Progress) -> Iterator[Row]:
    for name, data in (("A", first), ("B", second)):
        yield {"system": "**Precedent**", "learned": learned, "judged": name} | judge_rows(
            context, "both", data.judged, progress
        ).figures()


def _tuned(options: TrainerOptions, first: Data, second: Data, folder: Path, progress: Progress) -> Iterator[Row]:
    for place, (learned, data) in enumerate((("A", first), ("A, then B", second))):
        anomalous = _truth(data.learned)
        if anomalous.all() or not anomalous.any():
            print_status(f"the fine-tuned transformer is left out: {data.name} has one label only")
            return

        def steps(done: int, total: int, name: str = data.name) -> None:
            progress(f"tuning on {name}", done, total)

        work, kept = folder / f"tune-{place}", folder / f"tuned-{place}"
        model, tokenizer = train(_texts(data.learned), anomalous, options, work, steps, resume=False)
        scorer = TextScorer(model, tokenizer, options.max_tokens)
        for name, judged in (("A", first.judged), ("B", second.judged)):
            yield {"system": "fine-tuned transformer", "learned": learned, "judged": name} | _figures(scorer, judged)
        model.save_pretrained(kept)
        tokenizer.save_pretrained(kept)
        options = replace(options, base=str(kept))


def _figures(scorer: TextScorer, judged: Sequence[ParsedRow]) -> Row:
    log_odds, _ = scorer.log_odds(_texts(judged))
    truth, predicted = _truth(judged), log_odds > 0
    figures = classification_figures(predicted, truth, log_odds)
    error = 1 - figures["accuracy"]
    return {
        "roc_auc": figures["roc_auc"],
        "f1": figures["f1"],
        "ece": calibration_error(np.asarray(expit(log_odds)), truth),
        "coverage": 1.0,
        "decided_error": error,
        "surely_wrong": error,
    }


def _texts(rows: Sequence[ParsedRow]) -> list[str]:
    return [row.record.text for row in rows]


def _truth(rows: Sequence[ParsedRow]) -> np.typing.NDArray[np.bool_]:
    return np.array([row.label == "anomalous" for row in rows])
