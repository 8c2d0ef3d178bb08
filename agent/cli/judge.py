"""`precedent judge`: a few records one by one, many in bulk."""

from __future__ import annotations

import time as clock
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from agent.cli.judge_bulk import check, judge_in_bulk
from agent.cli.judge_options import (
    AgainstOption,
    CallsOption,
    CsvRawOption,
    DetailOption,
    Explain,
    ExplainOption,
    FilesArgument,
    LabelOption,
    OnlyOption,
    OnOption,
    OutputOption,
    ReportOption,
    ResumeOption,
    TimeOption,
    To,
    ToOption,
    ViaServerOption,
)
from agent.cli.options import (
    AdaptOption,
    AloneOption,
    ColumnsOption,
    FormatOption,
    ModelOption,
    MultilineOption,
    NormalOption,
    OptionalSourceOption,
    RateOption,
    TextOption,
    adapt_to_files,
    decide_alone,
    exit_if_failed,
    open_context,
    print_status,
    read_options,
    refuse_to_overwrite,
    stopping,
    warn_without_evidence,
)
from agent.cli.series_options import (
    KeysOption,
    SeriesOption,
    TimeColumnOption,
    ValuesOption,
    WindowOption,
    with_series,
)
from agent.core.errors import UsageError

if TYPE_CHECKING:
    from agent.core.records import JudgeError, Verdict
    from agent.data.readers import ParsedRow, RowError
    from agent.pipeline.context import AppContext

_BY_SUFFIX: dict[str, To] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet"}
# seconds without a further record on standard input after which those that came are judged
_PAUSE = 0.5
_BEGINS_AGAIN = (
    "the verdicts so far are written, the same command begins again; with --detail compact and --output it could go on "
    "with --resume"
)
_LABELS = ("normal", "anomalous", "unsure")


def judge(
    files: FilesArgument,
    source: OptionalSourceOption = None,
    format: FormatOption = None,
    text: TextOption = None,
    label: LabelOption = None,
    normal: NormalOption = None,
    multiline: MultilineOption = None,
    columns: ColumnsOption = None,
    rate: RateOption = None,
    adapt: AdaptOption = False,
    output: OutputOption = None,
    to: ToOption = None,
    detail: DetailOption = None,
    only: OnlyOption = None,
    explain: ExplainOption = None,
    llm_calls: CallsOption = None,
    time_limit: TimeOption = None,
    resume: ResumeOption = False,
    report: ReportOption = None,
    on: OnOption = None,
    against: AgainstOption = None,
    csv_raw: CsvRawOption = False,
    detector: AloneOption = None,
    series: SeriesOption = False,
    time: TimeColumnOption = None,
    value: ValuesOption = None,
    key: KeysOption = None,
    window: WindowOption = None,
    via_server: ViaServerOption = "never",
    model: ModelOption = None,
) -> None:
    """Judge records: one verdict each, in order. Without a source: rank the events of files without labels."""
    from agent.cli import render
    from agent.cli.via_server import check_via_server
    from agent.data.inputs import expand_inputs, is_large_input
    from agent.data.read_options import NO_LABEL

    labels = parse_labels(only)
    to = to or _format_of(output)
    context = open_context(model)
    row = context.source(source) if source else None
    options = read_options(row, format, text, label, normal, multiline, columns)
    options = with_series(options, row, series=series, time=time, values=value, keys=key, window=window)
    paths = expand_inputs(files, options.format, print_status)
    for path in (output, report):
        refuse_to_overwrite(path, paths)
    if row is None:
        from agent.cli.rank import check_without_source, rank

        check_without_source(
            rate=rate, detail=detail, only=only, explain=explain, llm_calls=llm_calls, time_limit=time_limit,
            resume=resume or None, detector=detector, on=on,
        )  # fmt: skip
        if options.series is not None:
            from agent.cli.rank_series import rank_windows

            if against:
                raise UsageError("--against is for logs: a series is compared with itself")
            rank_windows(paths, options, context.settings.max_record_chars, to=to, output=output, report=report)
            context.close()
            return
        if names := context.casebook.names():
            print_status(f"no source is named, so events are ranked; --source NAME judges records ({', '.join(names)})")
        older = expand_inputs(against or [], options.format, print_status)
        rank(context, paths, options, against=older, to=to, output=output, report=report)
        context.close()
        return
    if against:
        raise UsageError("--against ranks events of files without a source: leave --source out")
    source = row.name
    decide_alone(context, source, detector, adapt=adapt)
    warn_without_evidence(context, source)
    large = is_large_input(paths)
    of_bulk = {
        "--detail compact": detail == "compact", "--resume": resume, "--to parquet": to == "parquet",
        "--llm-calls": llm_calls is not None, "--time-limit": time_limit is not None, "--report": report is not None,
        "--on": on is not None, "many records": large and (detail != "full" or to == "jsonl"),
    }  # fmt: skip
    in_bulk = any(of_bulk.values())
    read = options.read if label not in (None, NO_LABEL) else options.read_unlabelled
    of_process = {"--adapt": adapt, "--detector": detector, "--rate": rate is not None, "--model": model, **of_bulk}
    via_server = check_via_server(via_server, [name for name, is_given in of_process.items() if is_given])
    llm_calls, time_limit = _set_reference(context, read, paths, source, rate, llm_calls, time_limit)
    if adapt:
        adapt_to_files(context, source, paths, read)
    failures: list[Any]
    if in_bulk:
        from agent.bulk.runner import BulkOptions
        from agent.bulk.summary import ON_PAGE, ON_SCREEN

        # of a file that is not large, bulk's options leave the verdicts as they are without them
        detail = detail or ("compact" if to in ("csv", "parquet") or large else "full")
        bulk_options = BulkOptions(
            files=tuple(paths),
            source=source,
            detail=detail,
            to="csv" if to == "csv" else "jsonl",
            only=labels,
            explain=explain or "facts",
            explain_rows=explain or ("none" if detail == "compact" else "facts"),
            calls=llm_calls,
            seconds=time_limit,
            lines=to != "table",
            csv_raw=csv_raw,
            explain_found=to == "csv" or report is not None,
            listed=ON_SCREEN if report is None else ON_PAGE,
        )
        check(bulk_options, to, output, resume)
        failures = judge_in_bulk(context, options, bulk_options, to, output, resume, report, on)
    else:
        if large:
            print_status(f"whole verdicts as {to} are made one by one; --detail compact, or --to jsonl, is much faster")
        write_to = partial(render.writer, cast(Any, to), output, csv_raw=csv_raw)
        with stopping(_BEGINS_AGAIN):
            failures = _one_by_one(context, read, paths, source, write_to, explain or "facts", labels, via_server)
    context.close()
    exit_if_failed(failures)


def _set_reference(
    context: AppContext,
    read: Callable[[str, int], Iterator[ParsedRow | RowError]],
    files: list[str],
    source: str,
    rate: float | None,
    calls: int | None,
    seconds: float | None,
) -> tuple[int | None, float | None]:
    """Measure the reference of a source without labels; returns the calls and the seconds that are left for judging."""
    from agent.core import terminal
    from agent.training.batch_reference import reference_of_files

    started = clock.monotonic()
    until = None if seconds is None else started + seconds
    most = None if calls is None else calls // 2
    with terminal.progress() as progress:
        note = reference_of_files(context, source, files, read, rate=rate, calls=most, until=until, progress=progress)
    if note is None:
        return calls, seconds
    print_status(note)
    left = None if seconds is None else max(0.0, started + seconds - clock.monotonic())
    return None if calls is None else calls - calls // 2, left


def parse_labels(only: str | None) -> frozenset[str]:
    """The labels that ``--only`` names; all of them without it."""
    labels = frozenset(only.split(",")) if only else frozenset(_LABELS)
    if unknown := labels - set(_LABELS):
        raise UsageError(f"--only {sorted(unknown)[0]!r}: use {', '.join(_LABELS)}, separated by commas")
    return labels


def _format_of(output: Path | None) -> To:
    suffix = output.suffix if output else ""
    if suffix in ("", ".txt"):
        return "table"
    if suffix not in _BY_SUFFIX:
        raise UsageError(f"{output} does not end in {', '.join(_BY_SUFFIX)}: --to says which format to write")
    return _BY_SUFFIX[suffix]


def _one_by_one(
    context: AppContext,
    read: Callable[[str, int], Iterator[ParsedRow | RowError]],
    files: list[str],
    source: str,
    write_to: Callable[[], AbstractContextManager[Callable[[Verdict], None]]],
    explain: Explain,
    labels: frozenset[str],
    via_server: str,
) -> list[RowError | JudgeError]:
    from agent.cli import render
    from agent.cli.via_server import open_judge
    from agent.core import terminal
    from agent.core.records import Record, Verdict
    from agent.data.inputs import MANY
    from agent.data.readers import RowError
    from agent.detectors.novelty import is_far, mostly_unfamiliar
    from agent.pipeline.pipeline import Pipeline
    from agent.pipeline.service import CHUNK, judge_chunks, judge_many
    from agent.scoring.batch_rate import BatchProbabilities
    from agent.training.rate_note import note_on_rate
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

    judged = far = unread = 0
    representation, batch = context.source(source).representation or Representation(), BatchProbabilities()
    by_text = representation.field_encoder is None
    chain = open_judge(context, via_server)
    # a server has put its verdicts into the history
    keep = isinstance(chain, Pipeline)
    if "-" in files:
        from agent.bulk.chunks import prefetch_batches

        # whoever writes to the pipe may pause, and what has come is judged then
        chunks = prefetch_batches(records(), CHUNK, 2 * CHUNK, _PAUSE)
        answers = judge_chunks(context, chain, chunks, source, explain, keep=keep)
    else:
        answers = judge_many(context, chain, records(), source, explain, keep=keep)
    with write_to() as write, terminal.progress() as progress:
        for number, answer in enumerate(answers, start=1):
            if not isinstance(answer, Verdict):
                failures.append(answer)
            else:
                judged, far = judged + 1, far + (by_text and is_far(answer.signals["novelty"]))
                unread += not (by_text or answer.record.fields or answer.record.events)
                content = answer.record.content_hash
                batch.add(representation.key(answer.record, content), content, answer.probability)
                if answer.label in labels:
                    write(answer)
            progress("judging", number, 0)
            if number == MANY and "-" in files:
                print_status(
                    "standard input is judged one by one; --detail compact judges it in bulk, which is much faster"
                )
    if mostly_unfamiliar(far, judged):
        print_status(terminal.unfamiliar_records_warning(source, far, judged))
    if 2 * unread > judged:
        print_status(f"{unread:,} of {judged:,} records have nothing that the cases have: are they of source {source}?")
    if note := note_on_rate(context, source, batch):
        print_status(note)
    return failures
