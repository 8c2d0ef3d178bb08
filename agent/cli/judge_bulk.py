"""`precedent judge` in bulk: on this machine or on a Ray cluster, and what is shown of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.cli.options import print_status
from agent.core.errors import Stopped, UsageError
from agent.core.settings import remote_host

if TYPE_CHECKING:
    from agent.bulk.runner import BulkOptions, BulkRunner
    from agent.bulk.summary import Summary
    from agent.core.records import JudgeError
    from agent.data.read_options import ReadOptions
    from agent.data.readers import RowError
    from agent.pipeline.context import AppContext


def check(bulk_options: BulkOptions, to: str, output: Path | None, resume: bool) -> None:
    """Refuse options that exclude each other."""
    if resume and "-" in bulk_options.files:
        raise UsageError("--resume: standard input cannot be read again")
    if resume and (output is None or not bulk_options.lines):
        raise UsageError("--resume continues a file: it takes --output, and --to jsonl, csv or parquet")
    if to == "parquet" and output is None:
        raise UsageError("--to parquet takes --output")
    if bulk_options.detail == "full" and to in ("csv", "parquet"):
        raise UsageError(f"in bulk, --to {to} has short lines: use --detail compact, or --to jsonl")


def judge_in_bulk(
    context: AppContext,
    options: ReadOptions,
    bulk_options: BulkOptions,
    to: str,
    output: Path | None,
    resume: bool,
    report: Path | None,
    on: str | None,
) -> list[RowError | JudgeError]:
    """Judge files in bulk and show the summary; returns the records that could not be judged."""
    from agent.bulk.report import write_report, write_screen
    from agent.core import terminal

    with terminal.progress() as progress:
        runner = runner_type(on)(context, options, bulk_options, progress, print_status)
        try:
            reports = [] if report is None else [partial(write_report, path=report)]
            summary = _run(runner, to, output, resume, [partial(_note_rate, context), *reports])
        except KeyboardInterrupt as stop:
            if not bulk_options.lines or output is None or "-" in bulk_options.files:
                reason = "only files with --output, --to jsonl, csv or parquet, can be continued: this begins again"
                raise Stopped(f"stopped; {reason}") from stop
            written = terminal.plural(runner.written, "record")
            raise Stopped(f"stopped; {written} saved, the same command with --resume continues after that") from stop
    if output is not None and not bulk_options.lines:
        with terminal.open_output(output) as stream:
            write_screen(summary, stream)
    write_screen(summary)
    if report is not None:
        print_status(f"the report is in {report}")
    return runner.failures


def runner_type(on: str | None) -> Callable[..., BulkRunner]:
    """What makes the runner for ``--on``. Raises UsageError for what is no address."""
    if on is None:
        from agent.bulk.runner import BulkRunner

        return BulkRunner
    from agent.bulk.ray_runner import RayRunner

    if on != "ray" and not re.fullmatch(r"ray://[^/\s]+", on):
        raise UsageError(f"--on {on!r}: use ray, or ray://HOST:PORT")
    if on != "ray" and (host := remote_host(on)):
        print_status(f"records leave this machine: --on sends them to the cluster at {host}")
    return partial(RayRunner, address=on)


def _note_rate(context: AppContext, summary: Summary) -> None:
    from agent.training.rate_note import note_on_rate

    summary.rate_note = note_on_rate(context, summary.source, summary.batch)


def _run(runner: BulkRunner, to: str, output: Path | None, resume: bool, then: list[Callable[..., None]]) -> Any:
    if to == "parquet" and output is not None:
        from agent.bulk.parquet_output import as_parquet

        return as_parquet(output, lambda lines, convert: runner.run(lines, resume=resume, on_finish=[convert, *then]))
    return runner.run(output if runner.options.lines else None, resume=resume, on_finish=then)
