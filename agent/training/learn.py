"""Learning: labelled files are stored as cases and embedded, a brief is drafted, the source is fitted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from agent.core.access import Role, require, signed
from agent.core.errors import Conflict, PrecedentError, UsageError, translate
from agent.core.json_schemas import SOURCE_NAME
from agent.core.progress import Progress
from agent.core.records import Label, Record
from agent.data.inputs import spooled_stdin
from agent.data.read_options import ReadOptions, text_start
from agent.data.readers import RowError
from agent.data.record_reading import as_read
from agent.data.redaction import Redaction
from agent.data.series_choice import with_series_found
from agent.detectors.contrib.series_names import DEFAULT_OF_SERIES
from agent.pipeline.context import AppContext
from agent.scoring.calibration import Objective
from agent.training.brief import draft_brief
from agent.training.contrib_choice import check_names, notes_on_detectors
from agent.training.reading_report import VALUES_SHOWN, ReadingReport, check_normal, probable_labels, survey
from agent.training.refit import is_outdated, refit
from llm.errors import EngineBusy, ModelFailure
from retrieval.casebook import NewCase, SourceSnapshot

_TEXTS_MASKED = 10_000


@dataclass
class LearnResult:
    """What `learn` did.

    Attributes
    ----------
    read, added : int
        Records that were read, and cases that are new.
    relabelled : int
        Cases of the same file that had another label before, and have only the new one now.
    report : ReadingReport or None
        What reading the files found.
    labels, label_values, text_starts : Counter[str]
        Records by label, by the value of the label column, and, of the first, by the masked beginning of the text.
    unreadable : list[RowError]
    notes : list[str]
        Remarks on records that were changed while reading.
    brief : str
    brief_drafted : bool
        Whether the language model wrote the brief.
    brief_rejected : str or None
        Why its draft was not taken.
    language_auc : float or None
        Of the language model alone on the cases, None if not tried on enough of both labels.
    language_missing : PrecedentError or None
        Why the language model was not available.
    language_note : str or None
        On how many cases of each label it was tried, how many got no answer, and whether it helps.
    case_notes : Sequence[str]
        Which cases contradict each other, and which numbers are not masked.
    series_note : str or None
        By which columns and windows time series were read.
    """

    source: str
    read: int = 0
    added: int = 0
    relabelled: int = 0
    report: ReadingReport | None = None
    labels: Counter[str] = field(default_factory=Counter)
    label_values: Counter[str] = field(default_factory=Counter)
    text_starts: Counter[str] = field(default_factory=Counter)
    unreadable: list[RowError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    brief: str = ""
    brief_drafted: bool = False
    brief_rejected: str | None = None
    language_auc: float | None = None
    language_missing: PrecedentError | None = None
    language_note: str | None = None
    case_notes: Sequence[str] = ()
    series_note: str | None = None


def check_name(source: str) -> str:
    """Return the source's name if it is valid.

    Raises
    ------
    UsageError
    """
    if not re.fullmatch(SOURCE_NAME, source):
        raise UsageError(
            f"{source!r} is not a valid source name: use 1 to 63 letters, digits, dots, hyphens or underscores, "
            "with a letter or a digit at both ends"
        )
    return source


def learn(
    context: AppContext,
    files: Sequence[str | Path],
    source: str,
    read_options: ReadOptions,
    *,
    brief: str | None = None,
    budget: int | None = None,
    objective: str | None = None,
    detectors: Sequence[str] | None = None,
    dry_run: bool = False,
    all_normal: bool = False,
    redact: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> LearnResult:
    """Learn the labelled records of ``files`` as cases of ``source``.

    A record that is a case already adds nothing. An interrupted `learn` keeps what was committed, and the next one
    completes it.

    Parameters
    ----------
    context : AppContext
    files : Sequence of str or Path
    source : str
    read_options : ReadOptions
        How the files are read; ``label`` must be set, unless ``all_normal``.
    brief : str, optional
        None keeps the source's brief, or has one drafted.
    budget : int, optional
        The most queries of the language model; None is the setting ``language_budget``.
    objective : str, optional
        See `agent.scoring.calibration.Objective.parse`; None keeps the source's.
    detectors : Sequence of str, optional
        Names of contrib detectors, or ``none``; None keeps the source's.
    dry_run : bool
        Whether to read the files only.
    all_normal : bool
        Whether the files have no label, and all their records are normal.
    redact : Sequence of str, optional
        Kinds of values to redact, see `redaction_of`; None keeps the source's.
    progress : Progress, optional

    Raises
    ------
    InputError
        A file cannot be read at all, or lacks columns that the others have. Nothing is learned.
    Forbidden
        The caller's role is not enough.
    UsageError
        The source's name, the objective or a detector is invalid, no label column is named, or no value means normal.
    """
    require(Role.ADMIN)
    result = LearnResult(check_name(source))
    if objective is not None:
        try:
            Objective.parse(objective)
        except ValueError as error:
            raise UsageError(f"--optimise: {error}") from error
    if read_options.is_labelled == all_normal:
        found = probable_labels(files, read_options, context.settings.max_record_chars)
        raise UsageError(
            f"learn needs --label COLUMN, which holds the labels{found}, or --all-normal for files without any"
        )
    if detectors is None and read_options.series is not None and not _has_detectors(context, source):
        detectors = [DEFAULT_OF_SERIES]
    chosen = None if detectors is None else check_names(detectors)
    read_options = read_options.model_copy(update={"redact": redaction_of(context.casebook.source(source), redact)})
    with spooled_stdin(files) as stdin:
        _read(context, files, read_options, result, stdin=stdin, progress=progress, dry_run=dry_run)
    if result.read and not dry_run:
        _finish(context, source, result, brief, budget, objective, chosen, progress)
    return result


def redaction_of(snapshot: SourceSnapshot | None, kinds: Sequence[str] | None) -> Redaction | None:
    """What the records of a source are to be redacted of.

    Parameters
    ----------
    snapshot
        The source; None for a new one.
    kinds
        Of `retrieval.text.redaction.KINDS`, empty for none; None keeps the source's.

    Raises
    ------
    Conflict
        It has cases that were learned in another way: their texts, and the templates of its verdicts, would stay as
        they are.
    """
    earlier = ReadOptions.model_validate((snapshot.reading if snapshot else None) or {}).redact
    known = () if earlier is None else earlier.kinds
    if kinds is None or set(kinds) == set(known):
        return earlier
    if snapshot is not None and any(snapshot.counts.values()):
        how = f"redacting {', '.join(known)}" if known else "without redaction"
        raise Conflict(
            f"the cases of {snapshot.name} were learned {how}, and stay as they are: "
            "learn the files into a new source with this --redact, and judge by that one"
        )
    if not kinds:
        return None
    return Redaction.of(kinds) if earlier is None else Redaction(kinds=tuple(kinds), key=earlier.key)


def _has_detectors(context: AppContext, source: str) -> bool:
    snapshot = context.casebook.source(source)
    return bool(snapshot and (snapshot.source_model or {}).get("contrib"))


def _read(
    context: AppContext,
    files: Sequence[str | Path],
    read_options: ReadOptions,
    result: LearnResult,
    *,
    stdin: BinaryIO | None,
    progress: Progress | None,
    dry_run: bool,
) -> None:
    """Read the files, once to see what they hold, and once more to add their records as cases."""
    snapshot = context.casebook.source(result.source)
    earlier = ReadOptions.model_validate((snapshot.reading if snapshot else None) or {}).table
    read_options = read_options.model_copy(update={"table": earlier})
    if read_options.series is not None:
        read_options, result.series_note = with_series_found(
            read_options, files[0], context.settings.max_record_chars, stdin=stdin
        )
    result.report = report = survey(
        files, read_options, context.settings.max_record_chars, stdin=stdin, progress=progress
    )
    if not read_options.is_labelled:
        report.labels = Counter(normal=report.records)
    elif read_options.label is not None and not (snapshot and snapshot.counts["normal"]):
        check_normal(read_options, report)
    if dry_run:
        return
    if read_options.redact is not None:
        # cases that are learned with this key are never without it, wherever learning is stopped
        context.casebook.create(result.source)
        context.casebook.set(result.source, reading=read_options.to_stored())
    for path in files:
        given_by, seen = signed(f"file {path}"), Counter[tuple[str, str]]()
        cases = _cases(context, path, report.options, result, stdin, progress)
        result.added += context.casebook.add(result.source, cases, given_by, seen)
        if seen:
            result.relabelled += context.casebook.remove_relabelled(result.source, given_by, seen)


def _cases(
    context: AppContext,
    path: str | Path,
    read_options: ReadOptions,
    result: LearnResult,
    stdin: BinaryIO | None,
    progress: Progress | None,
) -> Iterator[NewCase]:
    if stdin is not None:
        stdin.seek(0)
    for item in read_options.read(path, context.settings.max_record_chars, stdin=stdin):
        if isinstance(item, RowError):
            result.unreadable.append(item)
            continue
        label: Label = item.label or "normal"
        result.read += 1
        result.labels[label] += 1
        result.label_values[item.label_value or ""] += 1
        if (read_options.label or "").isdecimal() and result.read <= _TEXTS_MASKED:
            result.text_starts[text_start(item.record.text)] += 1
        result.notes += [f"{item.record.file}:{item.record.line}: {note}" for note in item.notes]
        if progress and result.read % 500 == 0:
            progress("reading", result.read, 0)
        yield as_case(as_read(item.record, read_options), label, item.label_value)


def as_case(record: Record, label: Label, label_value: str | None = None) -> NewCase:
    """A case to add; ``label_value`` is the value of the label column."""
    series = None if record.series is None else record.series.model_dump(mode="json")
    return NewCase(record, record.content_hash, label, record.file, record.line, record.time, label_value, series)


def _finish(
    context: AppContext,
    source: str,
    result: LearnResult,
    brief: str | None,
    budget: int | None,
    objective: str | None,
    detectors: Sequence[str] | None,
    progress: Progress | None,
) -> None:
    casebook = context.casebook
    values, starts = (
        [value for value, _ in counter.most_common(VALUES_SHOWN)]
        for counter in (result.label_values, result.text_starts)
    )
    assert result.report is not None
    options = result.report.options.with_values(values, starts)
    earlier = ReadOptions.model_validate(context.source(source).reading or {})
    if options.label is None and earlier.label is not None:
        # files without labels do not change how files with labels are read
        kept = {name: getattr(earlier, name) for name in ("label", "normal", "label_values", "text_starts")}
        options = options.model_copy(update=kept)
    if options.series is not None:
        # the ranges are those of this file
        options = options.model_copy(update={"series": options.series.model_copy(update={"ranges": None})})
    casebook.set(source, reading=options.to_stored())
    if brief is not None:
        casebook.set(source, brief=brief.strip(), brief_by="person")
    casebook.sync(source, progress)
    model = _model_name(context, source, result, progress)
    snapshot = context.source(source)
    is_chosen = brief is not None or objective is not None or detectors is not None
    if result.added or result.relabelled or result.brief_drafted or is_chosen or _unfitted(snapshot, model):
        fitted = refit(context, source, budget=budget, objective=objective, detectors=detectors, progress=progress)
        result.language_auc, result.language_note = fitted.language_auc, fitted.language_note
        result.case_notes = (*fitted.notes, *notes_on_detectors(fitted))
    result.brief = snapshot.brief


def _model_name(context: AppContext, source: str, result: LearnResult, progress: Progress | None) -> str | None:
    """The language model, which drafts a brief for a source that has none; None if there is no model."""
    model = None
    try:
        row = context.source(source)
        model = context.language_detector(row).model
        if not row.brief:
            if progress:
                progress("drafting a brief", 0, 1)
            # an adapter is trained on labels, not on texts
            draft = draft_brief(context.language_detector().model, context.casebook, source)
            if draft.problem is None:
                context.casebook.set(source, brief=draft.text, brief_by="model")
            result.brief_drafted, result.brief_rejected = draft.problem is None, draft.problem
    except (ModelFailure, EngineBusy) as error:
        result.language_missing = translate(error)
    return model.name if model else None


def _unfitted(snapshot: SourceSnapshot, model: str | None) -> bool:
    """Whether the fit is missing, older than the cases, or without a trial of the language model ``model``."""
    return is_outdated(snapshot) or (model is not None and (snapshot.source_model or {})["model"] != model)
