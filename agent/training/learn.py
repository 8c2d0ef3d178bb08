"""From labelled files to a source that can judge: read, keep, embed, draft the brief, fit the judge."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agent.core.errors import UsageError
from agent.core.logs import timed_event
from agent.core.records import Label, Record
from agent.data.read_options import ReadOptions
from agent.data.readers import DEFAULT_NORMAL, RowError
from agent.pipeline.context import AppContext
from agent.scoring.calibration import Objective
from agent.training.brief import draft_brief
from agent.training.fit import fit_source
from llm.errors import EngineBusy, ModelFailure
from retrieval.casebook import NewCase, SourceRow

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_VALUES_SHOWN = 50
Progress = Callable[[str, int, int], None]


@dataclass
class LearnResult:
    """What `learn` did: how many records were read, how many cases are new, and what could not be read."""

    source: str
    read: int = 0
    added: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    label_values: Counter[str] = field(default_factory=Counter)
    unreadable: list[RowError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    brief: str = ""
    brief_drafted: bool = False
    language_auc: float | None = None
    language_missing: str | None = None
    language_note: str | None = None
    brief_rejected: str | None = None


def check_name(source: str) -> str:
    """The name, when it can be one.

    Raises:
        UsageError: it holds something else than letters, digits, dots, hyphens and underscores.
    """
    if not _NAME.fullmatch(source) or not source[-1].isalnum():
        raise UsageError(
            f"{source!r} is no name for a source: 1 to 63 letters, digits, dots, hyphens or underscores, "
            "with a letter or a digit at both ends"
        )
    return source


def learn(
    context: AppContext,
    files: Sequence[str | Path],
    source: str,
    intake: ReadOptions,
    *,
    brief: str | None = None,
    budget: int | None = None,
    objective: str | None = None,
    progress: Progress | None = None,
) -> LearnResult:
    """Learn the labelled records of ``files`` as cases of ``source``; the same record again adds nothing.

    Whatever interrupts it, the next `learn` finishes the work: what was committed stays. ``objective``: see
    `agent.scoring.calibration.Objective.parse`; None keeps the source's.

    Raises:
        InputError: a file cannot be read at all. Files before it are learned.
        UsageError: the source's name or the objective is none, no label is named, or none means normal.
    """
    done = LearnResult(check_name(source))
    if objective is not None:
        try:
            Objective.parse(objective)
        except ValueError as error:
            raise UsageError(f"--optimise: {error}") from error
    if intake.label is None:
        raise UsageError("learn needs --label COLUMN: which column says whether a record is normal")
    _check_normal(context, files, source, intake)
    for path in files:
        done.added += context.casebook.add(source, _cases(context, path, intake, done, progress), f"file {path}")
    if not done.read:
        return done
    _finish(context, source, intake, done, brief, budget, objective, progress)
    return done


def _check_normal(context: AppContext, files: Sequence[str | Path], source: str, intake: ReadOptions) -> None:
    """Refuse files without any normal record when nobody said which values mean normal."""
    row = context.casebook.source(source)
    if intake.normal != DEFAULT_NORMAL or "-" in map(str, files) or (row and row.counts["normal"]):
        return
    seen: Counter[str] = Counter()
    for path in files:
        for item in intake.read(path, context.settings.max_record_chars):
            if not isinstance(item, RowError):
                if item.label == "normal":
                    return
                seen[item.label_value or ""] += 1
    if len(seen) > 1:
        values = ", ".join(value for value, _ in seen.most_common(_VALUES_SHOWN))
        raise UsageError(f"which values of {intake.label} mean normal? Say --normal VALUE; it holds {values}")


def _cases(
    context: AppContext, path: str | Path, intake: ReadOptions, done: LearnResult, progress: Progress | None
) -> Iterator[NewCase]:
    for item in intake.read(path, context.settings.max_record_chars):
        if isinstance(item, RowError):
            done.unreadable.append(item)
            continue
        assert item.label is not None
        done.read += 1
        done.labels[item.label] += 1
        done.label_values[item.label_value or ""] += 1
        done.notes += [f"{item.record.file}:{item.record.line}: {note}" for note in item.notes]
        if progress and done.read % 500 == 0:
            progress("reading", done.read, 0)
        yield as_case(item.record, item.label, item.label_value)


def as_case(record: Record, label: Label, kind: str | None = None) -> NewCase:
    return NewCase(record, record.content_hash, label, record.file, record.line, record.time, kind)


def _finish(
    context: AppContext,
    source: str,
    intake: ReadOptions,
    done: LearnResult,
    brief: str | None,
    budget: int | None,
    objective: str | None,
    progress: Progress | None,
) -> None:
    casebook = context.casebook
    values = [value for value, _ in done.label_values.most_common(_VALUES_SHOWN)]
    casebook.set(source, reading=intake.with_values(values).model_dump(mode="json"))
    if brief is not None:
        casebook.set(source, brief=brief.strip(), brief_by="person")
    casebook.sync(source, progress)
    witness = None
    try:
        witness = context.language_detector()
        row = casebook.source(source)
        assert row is not None
        if not row.brief:
            if progress:
                progress("drafting a brief", 0, 1)
            draft = draft_brief(witness.model, casebook, source)
            if draft.problem is None:
                casebook.set(source, brief=draft.text, brief_by="model")
                done.brief_drafted = True
            done.brief_rejected = draft.problem
    except (ModelFailure, EngineBusy) as error:
        done.language_missing = str(error)
    row = casebook.source(source)
    assert row is not None
    model = witness.model.name if witness else None
    if done.added or brief is not None or done.brief_drafted or objective is not None or _unfitted(row, model):
        refit(context, source, budget=budget, objective=objective, progress=progress, done=done)
    done.brief = row.brief


def _unfitted(row: SourceRow, model: str | None) -> bool:
    """Whether the judge is missing, older than the cases, or was fitted with another language model than ``model``."""
    if row.judge is None or is_outdated(row):
        return True
    return model is not None and row.judge["model"] not in (model, None)


def is_outdated(row: SourceRow) -> bool:
    """Whether the judge is missing, or older than the cases."""
    return row.judge is None or row.judge["fitted_on"] != row.version


def refit_while_due(
    context: AppContext, source: str, due: Callable[[SourceRow], bool] = is_outdated, progress: Progress | None = None
) -> bool:
    """Fit the source's judge anew for as long as that is ``due``; whether it was fitted.

    Where a fit is running, that one looks again when it ends, so nobody waits for it.
    """
    fitted, turn = False, context.fitting(source)
    while due(context.source(source)) and turn.acquire(blocking=False):
        try:
            refit(context, source, progress=progress)
        finally:
            turn.release()
        fitted = True
    return fitted


def refit(
    context: AppContext,
    source: str,
    *,
    budget: int | None = None,
    objective: str | None = None,
    progress: Progress | None = None,
    done: LearnResult | None = None,
) -> None:
    """Fit the source's judge anew from its cases, one fit at a time; without a language model, only the others.

    ``objective``: what the threshold is chosen for from now on; None keeps what it is.
    """
    try:
        witness = context.language_detector()
    except ModelFailure:
        witness = None
    settings = context.settings
    with context.fitting(source), timed_event("refit", source=source):
        judge = fit_source(
            context.casebook,
            source,
            witness,
            precedents=settings.precedents,
            budget=settings.language_budget if budget is None else budget,
            risk=settings.risk,
            objective=objective,
            progress=progress,
        )
    if done is not None:
        done.language_auc, done.language_note = judge.language_auc, judge.language_note
