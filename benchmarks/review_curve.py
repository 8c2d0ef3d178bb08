"""What a label is worth when `precedent review` says which record gets it, against two ways without it.

From ten random cases on, ten more at a time are corrected, as a person would correct them, until there are 80; at 10,
20, 40 and 80 the judge is tried on records that were never listed. The other ways: a record at random, and a
template at random of those that no case has. No language model, the same split and the same ten first cases for
all ways, several seeds. `python -m benchmarks.review_curve`
"""

from __future__ import annotations

import csv
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from agent.core.records import Label, Record, Verdict
from agent.core.requests import JudgeRequest
from agent.core.settings import Settings, settings
from agent.pipeline.context import AppContext
from agent.pipeline.pipeline import build
from agent.pipeline.service import judge_many
from agent.training.active_learning import select_for_review
from agent.training.evaluation import Evaluation, evaluate
from agent.training.feedback import correct, refit_if_due
from agent.training.learn import as_case, refit

_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
_SEEDS = 4
_SIZE = 300
_FIRST, _STEP = 10, 10
_SHOWN = (10, 20, 40, 80)
_WAYS = ("review", "template", "record")
Labelled = tuple[Record, Label]


def bgl() -> list[Labelled]:
    """Lines of a supercomputer's log, 7 % anomalous."""
    with (_DATA / "logs" / "bgl" / "BGL_2k.log_structured.csv").open(encoding="utf-8", newline="") as file:
        return [
            _labelled(row["Content"], row["Label"] == "-", line) for line, row in enumerate(csv.DictReader(file), 2)
        ]


def sms() -> list[Labelled]:
    """Text messages, 13 % spam."""
    lines = (_DATA / "sms" / "SMSSpamCollection").read_text(encoding="utf-8").splitlines()
    parted = [line.partition("\t") for line in lines]
    return [_labelled(text, label == "ham", number) for number, (label, _, text) in enumerate(parted, 1)]


def _labelled(text: str, normal: bool, line: int) -> Labelled:
    return Record(text=text, line=line), "normal" if normal else "anomalous"


def curve(context: AppContext, source: str, data: Sequence[Labelled], way: str, seed: int) -> list[Evaluation]:
    """Figures on the held-out records at each number of labels in `_SHOWN`."""
    rng = np.random.default_rng(seed)
    order = [int(i) for i in rng.permutation(len(data))[: 2 * _SIZE]]
    pool, held_out = [data[i] for i in order[:_SIZE]], [data[i] for i in order[_SIZE:]]
    truth = {record.line: label for record, label in pool}
    context.casebook.add(source, [as_case(*one) for one in pool[:_FIRST]], "benchmark")
    context.casebook.sync(source)
    refit(context, source)
    chain = build(context)
    figures, waiting = [], [record for record, _ in pool[_FIRST:]]
    for labels in range(_FIRST, _SHOWN[-1] + 1, _STEP):
        if labels in _SHOWN:
            by_text = {one.text: chain.invoke(JudgeRequest(text=one.text, source=source)) for one, _ in held_out}
            verdicts = [by_text[record.text] for record, _ in held_out]
            figures.append(evaluate(verdicts, [label == "anomalous" for _, label in held_out], 0.0))
        if labels == _SHOWN[-1]:
            break
        asked = waiting[:_STEP] if way == "record" else waiting
        given = {
            one.id: one.record for one in judge_many(context, chain, asked, source, "none") if isinstance(one, Verdict)
        }
        listed = (
            list(given) if way == "record" else [one.id for one in select_for_review(context, source, len(waiting))]
        )
        if way == "template":
            rng.shuffle(listed)
        listed = listed[:_STEP]
        for verdict_id in listed:
            correct(context, verdict_id, truth[given[verdict_id].line])
            refit_if_due(context, verdict_id)
        done = {given[verdict_id].line for verdict_id in listed}
        waiting = [record for record in waiting if record.line not in done]
    return figures


def main() -> None:
    for read in (bgl, sms):
        print(f"{read.__name__}: {(read.__doc__ or '').strip()} {_SIZE} to review, {_SIZE} held out, {_SEEDS} seeds")
        _compare(read)


def _compare(read: Callable[[], list[Labelled]]) -> None:
    with tempfile.TemporaryDirectory() as home:
        context = AppContext(Settings(home=Path(home), model="none", cache=settings().cache))
        curves: dict[str, list[list[Evaluation]]] = {way: [] for way in _WAYS}
        for seed in range(_SEEDS):
            for way, every in curves.items():
                every.append(curve(context, f"{way}-{seed}", read(), way, seed))
                print(".", end="", file=sys.stderr, flush=True)
        context.close()
    print("\n" + "".join(f"{figure:>12}: {'  '.join(_WAYS)}" for figure in ("labels  F1", "AUC", "error")))
    for at, labels in enumerate(_SHOWN):
        means = [
            statistics.mean(_figures(one[at])[figure] for one in curves[way]) for figure in range(3) for way in _WAYS
        ]
        print(f"{labels:6}" + (" " + "{:12.3f}{:10.3f}{:8.3f}" * 3).format(*means))


def _figures(one: Evaluation) -> tuple[float, float, float]:
    return one.f1, one.roc_auc or 0.5, 1 - one.accuracy


if __name__ == "__main__":
    main()
