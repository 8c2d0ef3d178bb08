"""The learning curve when `precedent review` chooses the records to label, against two other strategies.

Ten random cases are learned; then ten verdicts at a time are corrected, as a person would correct them, until there are
80 cases. At 10, 20, 40 and 80 the source is evaluated on records that were never listed. The other strategies: a random
record, and a random template of those that no case has. No language model; the same split and the same first ten cases
for all strategies; several seeds. `python -m benchmarks.review_curve`
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
from agent.training.learn import as_case
from agent.training.refit import refit

_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
_SEEDS = 4
_SIZE = 300
_FIRST, _STEP = 10, 10
_SHOWN = (10, 20, 40, 80)
_STRATEGIES = ("review", "template", "record")
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
    pairs = [line.split("\t", 1) for line in lines]
    return [_labelled(text, label == "ham", number) for number, (label, text) in enumerate(pairs, 1)]


def _labelled(text: str, normal: bool, line: int) -> Labelled:
    return Record(text=text, line=line), "normal" if normal else "anomalous"


def curve(context: AppContext, source: str, data: Sequence[Labelled], strategy: str, seed: int) -> list[Evaluation]:
    """Figures on the held-out records at each number of labels in `_SHOWN`."""
    rng = np.random.default_rng(seed)
    order = [int(i) for i in rng.permutation(len(data))[: 2 * _SIZE]]
    pool, held_out = [data[i] for i in order[:_SIZE]], [data[i] for i in order[_SIZE:]]
    truth = {record.line: label for record, label in pool}
    context.casebook.add(source, [as_case(*labelled) for labelled in pool[:_FIRST]], "benchmark")
    context.casebook.sync(source)
    refit(context, source)
    chain = build(context)
    figures, unlabelled = [], [record for record, _ in pool[_FIRST:]]
    for labels in range(_FIRST, _SHOWN[-1] + 1, _STEP):
        if labels in _SHOWN:
            texts = {record.text for record, _ in held_out}
            by_text = {text: chain.invoke(JudgeRequest(text=text, source=source)) for text in sorted(texts)}
            verdicts = [by_text[record.text] for record, _ in held_out]
            figures.append(evaluate(verdicts, [label == "anomalous" for _, label in held_out], 0.0))
        if labels == _SHOWN[-1]:
            break
        judged = unlabelled[:_STEP] if strategy == "record" else unlabelled
        records = {
            verdict.id: verdict.record
            for verdict in judge_many(context, chain, judged, source, "none")
            if isinstance(verdict, Verdict)
        }
        if strategy == "record":
            listed = list(records)
        else:
            listed = [candidate.id for candidate in select_for_review(context, source, len(unlabelled))]
        if strategy == "template":
            rng.shuffle(listed)
        listed = listed[:_STEP]
        for verdict_id in listed:
            correct(context, verdict_id, truth[records[verdict_id].line])
            refit_if_due(context, verdict_id)
        labelled_lines = {records[verdict_id].line for verdict_id in listed}
        unlabelled = [record for record in unlabelled if record.line not in labelled_lines]
    return figures


def main() -> None:
    for read in (bgl, sms):
        print(f"{read.__name__}: {(read.__doc__ or '').strip()} {_SIZE} to review, {_SIZE} held out, {_SEEDS} seeds")
        _compare(read)


def _compare(read: Callable[[], list[Labelled]]) -> None:
    with tempfile.TemporaryDirectory() as home:
        context = AppContext(Settings(home=Path(home), model="none", cache=settings().cache))
        curves: dict[str, list[list[Evaluation]]] = {strategy: [] for strategy in _STRATEGIES}
        for seed in range(_SEEDS):
            for strategy, of_strategy in curves.items():
                of_strategy.append(curve(context, f"{strategy}-{seed}", read(), strategy, seed))
                print(".", end="", file=sys.stderr, flush=True)
        context.close()
    print("\n" + "".join(f"{figure:>12}: {'  '.join(_STRATEGIES)}" for figure in ("labels  F1", "AUC", "error")))
    for at, labels in enumerate(_SHOWN):
        means = [
            statistics.mean(_figures(of_seed[at])[figure] for of_seed in curves[strategy])
            for figure in range(3)
            for strategy in _STRATEGIES
        ]
        print(f"{labels:6}" + (" " + "{:12.3f}{:10.3f}{:8.3f}" * 3).format(*means))


def _figures(evaluation: Evaluation) -> tuple[float, float, float]:
    return evaluation.f1, evaluation.roc_auc or 0.5, 1 - evaluation.accuracy


if __name__ == "__main__":
    main()
