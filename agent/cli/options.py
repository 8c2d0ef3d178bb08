"""Options that several commands share, and functions to apply them."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from agent.core.errors import Stopped, UsageError, translate

if TYPE_CHECKING:
    from agent.core.settings import Settings
    from agent.data.read_options import ReadOptions
    from agent.data.readers import ParsedRow, RowError
    from agent.pipeline.context import AppContext
    from retrieval.casebook import SourceSnapshot

FormatName = Literal["auto", "log", "csv", "jsonl", "parquet"]
SourceOption = Annotated[str, typer.Option("--source", "-s", help="The source the records come from.")]
OptionalSourceOption = Annotated[
    str | None,
    typer.Option("--source", "-s", help="The source the records come from. [none: events are ranked]"),
]
TextOption = Annotated[
    list[str] | None,
    typer.Option(
        "--text", help="Column that makes the record; repeat it, or give a range such as 0-40. [every column]"
    ),
]
NormalOption = Annotated[
    list[str] | None,
    typer.Option("--normal", help="Label value that means normal; repeat it. [0, normal, -, ham, false]"),
]
ColumnsOption = Annotated[
    list[str] | None,
    typer.Option("--columns", metavar="OLD=NEW", help="Column that the file has under another name; repeat it."),
]
FormatOption = Annotated[FormatName | None, typer.Option("--format", help="Format of the file. [detected]")]
MultilineOption = Annotated[
    str | None,
    typer.Option(
        "--multiline",
        metavar="auto|off|REGEX",
        help="Log entries over several lines: detected, none, or begun by lines that match. [auto]",
    ),
]
VerdictArgument = Annotated[
    str,
    typer.Argument(
        metavar="ID",
        help="The verdict's id, a template's id, or FILE:LINE of a run over that file.",
    ),
]
RateOption = Annotated[
    float | None,
    typer.Option(
        "--rate", help="Share of records that are anomalous, for a source without labels. [as before; 0.05 is assumed]"
    ),
]
RedactOption = Annotated[
    str | None,
    typer.Option(
        "--redact",
        metavar="KINDS",
        help="Replace secrets and personal data before anything is stored: default, none, or some of secret, iban, "
        "card, email, phone, ip, with commas. [as before; none]",
    ),
]
AdaptOption = Annotated[
    bool,
    typer.Option(
        "--adapt",
        help="Adapt to the files as a whole: their rate of anomalies, groups of texts. Verdicts then depend on all "
        "records.",
    ),
]
AloneOption = Annotated[
    str | None,
    typer.Option("--detector", help="Judge by this detector of the source alone, without precedents and model."),
]
ModelOption = Annotated[
    str | None,
    typer.Option("--model", help="auto, embedded:NAME, ollama:NAME, openai:NAME@URL, none, or a path to a .gguf."),
]


def set_model(model: str | None) -> None:
    """Make this process use the model of the ``--model`` option, if it is given."""
    if model is not None:
        os.environ["PRECEDENT_MODEL"] = model


def warn_of_remote_services(settings: Settings) -> None:
    """Name the settings by which records leave this machine."""
    if remote := settings.remote_services:
        print_status(f"records may leave this machine by these settings: {', '.join(remote)}")


def open_context(model: str | None) -> AppContext:
    """The context of this process, with the model of the ``--model`` option.

    Raises
    ------
    ModelUnavailable
        The option names a model that is not available: the command does not judge without it.
    """
    from agent.pipeline.context import default_context

    set_model(model)
    context = default_context()
    warn_of_remote_services(context.settings)
    logging.getLogger("precedent.index").handlers = [_StatusHandler(logging.WARNING)]
    if model not in (None, "auto", "none"):
        context.language_detector()
    return context


class _StatusHandler(logging.Handler):
    """Shows an event as a line of the status."""

    def emit(self, record: logging.LogRecord) -> None:
        """Show it."""
        print_status(record.getMessage())


def read_options(
    row: SourceSnapshot | None,
    format: FormatName | None,
    text: list[str] | None,
    label: str | None,
    normal: list[str] | None,
    multiline: str | None,
    columns: list[str] | None = None,
) -> ReadOptions:
    """How to read files: the options, and for those not given, how the source was learned.

    Raises
    ------
    UsageError
        ``multiline`` is not a regular expression, or a pair of ``columns`` names no column that was learned.
    """
    from agent.data.read_options import NO_LABEL, ReadOptions

    if (multiline or "").lower() in ("on", "yes", "true", "no", "false", "none"):
        raise UsageError(f"--multiline {multiline}: use auto, off or a regular expression")
    try:
        re.compile(multiline or "")
    except re.error as error:
        raise UsageError(f"--multiline {multiline!r}: use auto, off or a regular expression ({error})") from error
    options = {"format": format, "text": text, "label": label, "normal": normal, "multiline": multiline}
    learned = (row.reading if row else None) or {}
    options = {**learned, **{name: value for name, value in options.items() if value}}
    read = ReadOptions.model_validate({**options, "label": None if label == NO_LABEL else options.get("label")})
    if not columns:
        return read
    pairs = [column.partition("=") for column in columns]
    try:
        table = read.table.with_names([(first.strip(), second.strip()) for first, _, second in pairs])
    except ValueError as error:
        raise UsageError(str(error)) from error
    return read.model_copy(update={"table": table})


def kinds_to_redact(option: str | None) -> tuple[str, ...] | None:
    """The kinds that ``--redact`` names; None without the option.

    Raises
    ------
    UsageError
        It names something else.
    """
    from agent.data.redaction import parse_kinds

    try:
        return None if option is None else parse_kinds(option)
    except ValueError as error:
        raise UsageError(f"--redact {option}: {error}") from error


def refuse_to_overwrite(path: Path | None, files: list[str]) -> None:
    """Raise if a file to write is one of those to read, or has a name that no file can have."""
    try:
        is_read = path is not None and path.exists() and any(file != "-" and path.samefile(file) for file in files)
    except OSError as error:
        raise UsageError(f"cannot write to {path}: {error.strerror}") from error
    if is_read:
        raise UsageError(f"{path} is one of the files to judge: write to another one")


def warn_without_evidence(context: AppContext, source: str) -> None:
    """Say that a source was never fitted, or that it has neither cases nor a language model to judge by."""
    from llm.errors import ModelFailure

    row = context.source(source)
    if any(row.counts.values()):
        if row.source_model is None:
            print_status(
                f"{source} has cases and was never fitted (was learning stopped?): its verdicts are incomplete; "
                f"precedent sources refit {source} fits it"
            )
        return
    try:
        context.language_detector()
    except ModelFailure as failure:
        print_status(
            f"{source} has no cases, and there is no language model to judge by its brief ({failure}): every record "
            "is unsure. Learn labelled records (precedent learn), or choose a model (--model; precedent doctor)"
        )


def adapt_to_files(
    context: AppContext, source: str, files: list[str], read: Callable[[str, int], Iterator[ParsedRow | RowError]]
) -> None:
    """Let the context judge the source with a model that is adapted to the records of files, and print what was done.

    Raises
    ------
    UsageError
        Standard input is among the files.
    """
    from agent.core import terminal
    from agent.training import batch_adaptation

    with terminal.progress() as progress:
        note = batch_adaptation.adapt_to_files(context, source, files, read, progress)
    print_status(note)


def decide_alone(context: AppContext, source: str, detector: str | None, *, adapt: bool) -> None:
    """Let the context judge the source by the ``detector`` alone, if there is one.

    Raises
    ------
    UsageError
        The source does not have it, or is to be adapted to the files as well.
    """
    if detector is None:
        return
    from agent.training.contrib_choice import judge_alone

    if adapt:
        raise UsageError("--adapt changes how the signals are combined, and --detector uses one alone: leave one out")
    judge_alone(context, source, detector)


@contextmanager
def stopping(what_next: str = "everything done so far is kept, and the same command again continues") -> Iterator[None]:
    """Say at Ctrl-C what is kept and how to go on."""
    try:
        yield
    except KeyboardInterrupt as stop:
        raise Stopped(f"stopped; {what_next}") from stop


def exit_if_failed(failures: list[Any]) -> None:
    """List the failures and exit with code 1, if there are any; of many for one reason not all."""
    from agent.core.records import NO_LABEL
    from agent.core.terminal import plural

    # in a file of which a part is labelled, most records may lack a label
    def most_shown(reason: str) -> int:
        return 3 if reason.startswith(NO_LABEL) else 100

    if failures:
        counts = Counter[str]()
        for failure in failures:
            reason = getattr(failure, "reason", str(failure))
            counts[reason] += 1
            if counts[reason] <= most_shown(reason):
                print_status(str(failure))
        for reason, count in counts.items():
            if (more := count - most_shown(reason)) > 0:
                print_status(f"and {more:,} more: {reason}")
            if reason.startswith(NO_LABEL):
                print_status("records without a label were left out; `precedent judge` gives verdicts on them")
        stopped = sum(getattr(failure, "stops", False) for failure in failures)
        rest = f"in {plural(stopped, 'file')} reading stopped there, as listed" if stopped else "all others were"
        print_status(f"{plural(len(failures), 'record')} could not be judged or learned; {rest}")
        raise typer.Exit(1)


def print_status(line: str) -> None:
    """Print one line on standard error, with any characters."""
    from agent.core.records import clean_text
    from agent.core.terminal import escape_controls

    # where standard error cannot be written to there is nobody to tell
    with suppress(OSError):
        print(escape_controls(clean_text(line)), file=sys.stderr, flush=True)


def with_hint(error: Exception) -> str:
    """The message of an expected error, and the command that helps, if it names one."""
    expected = translate(error)
    assert expected is not None
    return f"{expected}: {expected.hint}" if expected.hint else str(expected)


def read_brief(text: str | None) -> str | None:
    """The text of a brief, read from the file where it is ``@FILE``.

    Raises
    ------
    UsageError
        The file cannot be read.
    """
    if text is None or not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the brief {text[1:]} cannot be read: {error}") from error
