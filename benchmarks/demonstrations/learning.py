"""Learning and judging rows with the functions of the commands, without files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.core.records import Record, Verdict
from agent.core.settings import settings
from agent.data.read_options import ReadOptions
from agent.data.readers import ParsedRow
from agent.data.record_reading import as_read
from agent.pipeline.context import AppContext
from agent.pipeline.pipeline import build
from agent.pipeline.service import judge_many
from agent.training.evaluation import evaluate
from agent.training.learn import as_case
from agent.training.refit import refit
from benchmarks.demonstrations.report import Row
from benchmarks.progress import Progress


def empty_context(home: Path, model: str = "none") -> AppContext:
    """The product's parts on an empty data directory."""
    return AppContext(settings().model_copy(update={"home": home, "model": model, "store": None, "chroma": None}))


def learn_rows(
    context: AppContext, source: str, rows: Sequence[ParsedRow], options: ReadOptions, brief: str | None = None
) -> None:
    """Learn rows as cases of a source, which may have some already."""
    cases = (as_case(as_read(row.record, options), row.label or "normal", row.label_value) for row in rows)
    context.casebook.add(source, cases, "benchmark")
    if not context.source(source).reading:
        context.casebook.set(source, reading=options.model_dump(mode="json"))
    if brief is not None:
        context.casebook.set(source, brief=brief, brief_by="person")
    context.casebook.sync(source)
    refit(context, source)


@dataclass(frozen=True)
class Judged:
    """Verdicts, with the true labels of their records."""

    verdicts: Sequence[Verdict]
    anomalous: Sequence[bool]

    def figures(self) -> Row:
        """The figures of all verdicts, unsure ones by their side of the threshold, and of the decided ones alone."""
        found = evaluate(self.verdicts, self.anomalous, 0.0)
        return {
            "roc_auc": found.roc_auc,
            "f1": found.f1,
            "ece": found.ece,
            "coverage": found.coverage,
            "decided_error": found.selective_error,
            "surely_wrong": found.coverage * (found.selective_error or 0.0),
        }


def judge_rows(context: AppContext, source: str, rows: Sequence[ParsedRow], progress: Progress | None = None) -> Judged:
    """Whole verdicts on rows; a record that cannot be judged has none."""
    verdicts, anomalous = list[Verdict](), list[bool]()
    answers = judge_many(context, build(context), (row.record for row in rows), source, explain="none", keep=False)
    for number, (answer, row) in enumerate(zip(answers, rows, strict=True), start=1):
        if isinstance(answer, Verdict):
            verdicts.append(answer)
            anomalous.append(row.label == "anomalous")
        if progress:
            progress("judging", number, len(rows))
    return Judged(verdicts, anomalous)


def judge_records(context: AppContext, source: str, records: Sequence[Record], explain: str = "none") -> list[Verdict]:
    """Whole verdicts on records, none of which may fail."""
    answers = judge_many(context, build(context), records, source, explain=explain, keep=False)  # type: ignore[arg-type]
    return [answer for answer in answers if isinstance(answer, Verdict)]
