"""`precedent judge`: few records one by one, many in bulk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from agent.cli.options import (
    FormatOption,
    ModelOption,
    NormalOption,
    SourceOption,
    TextOption,
    context_of,
    exit_over,
    intake_of,
    say,
)
from agent.core.errors import Stopped, UsageError

if TYPE_CHECKING:
    from agent.bulk.runner import BulkOptions, BulkRunner
    from agent.core.records import JudgeError
    from agent.data.read_options import ReadOptions
    from agent.data.readers import ParsedRow, RowError
    from agent.pipeline.context import AppContext

Explain = Literal["none", "facts", "llm"]
To = Literal["table", "jsonl", "csv", "parquet"]
_BY_ENDING: dict[str, To] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet"}
_LABELS = ("normal", "anomalous", "unsure")


def judge(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE…", help="Files, folders or patterns; - is standard input.")
    ],
    source: SourceOption,
    format: FormatOption = None,
    text: TextOption = None,
    label: Annotated[
        str | None, typer.Option("--label", help="Column to leave out of the records. [the one learned from]")
    ] = None,
    normal: NormalOption = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write there instead of to the screen.")] = None,
    to: Annotated[
        To | None,
        typer.Option(
            "--to",
            help="How verdicts are written; of many records a table says what was found. [as --output ends; table]",
        ),
    ] = None,
    detail: Annotated[
        Literal["full", "compact"] | None,
        typer.Option("--detail", help="The whole verdict a record, or a short line. [compact from 10,000 lines on]"),
    ] = None,
    only: Annotated[
        str | None, typer.Option("--only", help="Labels whose records are written, such as anomalous,unsure. [all]")
    ] = None,
    explain: Annotated[
        Explain | None,
        typer.Option(
            "--explain",
            help="none; facts; or llm: up to three sentences by the model as well (slow). [facts; none for many rows]",
        ),
    ] = None,
    llm_calls: Annotated[
        int | None, typer.Option("--llm-calls", min=0, help="Most calls of the language model; spent where worth most.")
    ] = None,
    time_limit: Annotated[
        float | None, typer.Option("--time-limit", min=0, help="Seconds after which the language model is not asked.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the output where it was stopped.")] = False,
    report: Annotated[
        Path | None, typer.Option("--report", help="Write what was found there, as one HTML page.")
    ] = None,
    model: ModelOption = None,
) -> None:
    """Judge records: one verdict each, in order."""
    from agent.data.inputs import expand_inputs, is_large_input

    wanted_labels = _labels(only)
    to = to or _by_ending(output)
    context = context_of(model)
    intake = intake_of(context.source(source), format, text, label, normal)
    chosen = expand_inputs(files, intake.format, say)
    for written in (output, report):
        _refuse_to_overwrite(written, chosen)
    many = is_large_input(chosen)
    in_bulk = detail == "compact" or resume or to == "parquet"
    in_bulk = in_bulk or any(one is not None for one in (llm_calls, time_limit, report))
    if not in_bulk and (not many or (detail == "full" and to != "jsonl")):
        if many:
            say(f"whole verdicts as {to} are made one by one: --detail compact, or --to jsonl, takes far less time")
        read = intake.read if label is not None else intake.read_unlabelled
        failures = _one_by_one(context, read, chosen, source, cast(Any, to), output, explain or "facts", wanted_labels)
        context.close()
        exit_over(failures)
        return
    from agent.bulk.runner import BulkOptions

    wanted = BulkOptions(
        files=tuple(chosen),
        source=source,
        detail=detail or ("compact" if to in ("csv", "parquet") or many else "full"),
        to="csv" if to == "csv" else "jsonl",
        only=wanted_labels,
        explain=explain or "facts",
        explain_rows=explain or "none",
        calls=llm_calls,
        seconds=time_limit,
        lines=to != "table",
    )
    _check(wanted, to, output, resume)
    triage = _many(context, intake, wanted, output, resume=resume, to=to, report=report)
    context.close()
    exit_over(list(triage.failures))


def _labels(only: str | None) -> frozenset[str]:
    labels = frozenset(only.split(",")) if only else frozenset(_LABELS)
    if unknown := labels - set(_LABELS):
        raise UsageError(f"--only {sorted(unknown)[0]!r}: it takes {', '.join(_LABELS)}, with commas between them")
    return labels


def _by_ending(output: Path | None) -> To:
    ending = output.suffix if output else ""
    if ending in ("", ".txt"):
        return "table"
    if ending not in _BY_ENDING:
        raise UsageError(f"{output}: its ending is none of {', '.join(_BY_ENDING)}; --to says what is to be written")
    return _BY_ENDING[ending]


def _refuse_to_overwrite(path: Path | None, files: list[str]) -> None:
    if path is not None and path.exists() and any(file != "-" and path.samefile(file) for file in files):
        raise UsageError(f"{path} is one of the files to judge: write to another one")


def _check(wanted: BulkOptions, to: str, output: Path | None, resume: bool) -> None:
    if resume and "-" in wanted.files:
        raise UsageError("--resume: what came from standard input cannot be read again from where it was")
    if resume and (output is None or not wanted.lines):
        raise UsageError("--resume goes on with a file: --output names it, and --to jsonl, csv or parquet its form")
    if to == "parquet" and output is None:
        raise UsageError("--to parquet takes --output")
    if wanted.detail == "full" and to in ("csv", "parquet"):
        raise UsageError(f"--to {to} has short lines when many are judged: --detail compact, or --to jsonl")


def _one_by_one(
    context: AppContext,
    read: Callable[[str, int], Iterator[ParsedRow | RowError]],
    files: list[str],
    source: str,
    to: Literal["table", "jsonl", "csv"],
    output: Path | None,
    explain: Explain,
    only: frozenset[str],
) -> list[Any]:
    from agent.cli import render
    from agent.core import terminal
    from agent.core.records import Record, Verdict
    from agent.data.inputs import MANY
    from agent.data.readers import RowError
    from agent.detectors.novelty import is_far, mostly_unfamiliar
    from agent.pipeline.pipeline import build
    from agent.pipeline.service import judge_many
    from retrieval.encoding.representation import Representation

    failures: list[RowError | JudgeError] = []

    def records() -> Iterator[Record]:
        for file in files:
            for item in read(file, context.settings.max_record_chars):
                if isinstance(item, RowError):
                    failures.append(item)
                else:
                    render.notes(item)
                    yield item.record

    given = far = 0
    by_text = (context.source(source).space or Representation()).field_encoder is None
    with render.writer(to, output) as write, terminal.progress() as progress:
        for number, answer in enumerate(judge_many(context, build(context), records(), source, explain), start=1):
            if not isinstance(answer, Verdict):
                failures.append(answer)
            else:
                given, far = given + 1, far + (by_text and is_far(answer.signals["novelty"]))
                if answer.label in only:
                    write(answer)
            progress("judging", number, 0)
            if number == MANY and "-" in files:
                say("standard input goes one by one: --detail compact judges many lines in bulk, which is far quicker")
    if mostly_unfamiliar(far, given):
        say(terminal.unfamiliar_records_warning(source, far, given))
    return failures


def _many(
    context: AppContext,
    intake: ReadOptions,
    wanted: BulkOptions,
    output: Path | None,
    *,
    resume: bool,
    to: str,
    report: Path | None,
) -> BulkRunner:
    from agent.bulk import report as found
    from agent.bulk.output import as_parquet
    from agent.bulk.runner import BulkRunner
    from agent.core import terminal

    then = [] if report is None else [partial(found.page, path=report)]
    with terminal.progress() as progress:
        triage = BulkRunner(context, intake, wanted, progress, say)
        try:
            if to == "parquet" and output is not None:
                summary = as_parquet(
                    output, lambda lines, convert: triage.run(lines, resume=resume, then=[convert, *then])
                )
            else:
                summary = triage.run(output if wanted.lines else None, resume=resume, then=then)
        except KeyboardInterrupt as stop:
            if not wanted.lines or output is None or "-" in wanted.files:
                raise
            done = f"{triage.kept:,} records are written"
            raise Stopped(f"stopped: {done}; the same command with --resume goes on after them") from stop
    if output is not None and not wanted.lines:
        with terminal.open_output(output) as stream:
            found.screen(summary, stream)
    found.screen(summary)
    if report is not None:
        say(f"what was found is in {report}")
    return triage
