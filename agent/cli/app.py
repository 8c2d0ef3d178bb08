"""The `precedent` command: each subcommand reads its options, calls one function, and shows the result."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from agent.cli import backup as backups
from agent.cli import series_options as of_series
from agent.cli.bench import bench_app
from agent.cli.cases import cases_app
from agent.cli.chat import chat
from agent.cli.datasets import datasets_app
from agent.cli.detectors import detectors_app
from agent.cli.feedback import correct, review
from agent.cli.judge import judge
from agent.cli.keys import keys_app
from agent.cli.mcp import mcp
from agent.cli.ollama import ollama_app
from agent.cli.options import (
    AdaptOption,
    AloneOption,
    ColumnsOption,
    FormatOption,
    ModelOption,
    MultilineOption,
    NormalOption,
    RateOption,
    RedactOption,
    SourceOption,
    TextOption,
    VerdictArgument,
    adapt_to_files,
    decide_alone,
    exit_if_failed,
    kinds_to_redact,
    open_context,
    print_status,
    read_brief,
    read_options,
    refuse_to_overwrite,
    set_model,
    stopping,
    warn_of_remote_services,
    warn_without_evidence,
    with_hint,
)
from agent.cli.process import CLOSED_PIPE, discard_unwritable_output, fast_exit
from agent.cli.sources import sources_app
from agent.cli.tune import tune_app
from agent.cli.watch import watch
from agent.cli.windows import windows
from agent.core.errors import EXPECTED, Stopped, UsageError, translate
from agent.core.settings import CONFIG_VARIABLE, ignored_config
from agent.core.writing import cannot_be_written
from retrieval.disk import is_full

app = typer.Typer(
    name="precedent",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(sources_app, name="sources")
app.add_typer(cases_app, name="cases")
app.add_typer(detectors_app, name="detectors")
app.add_typer(tune_app, name="tune")
app.add_typer(ollama_app, name="ollama")
app.add_typer(bench_app, name="bench")
app.add_typer(datasets_app, name="datasets")
app.add_typer(keys_app, name="keys")


def _version(requested: bool) -> None:
    if requested:
        typer.echo(f"precedent {version('precedent-agent')}")
        raise typer.Exit


@app.callback()
def precedent(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="Configuration file; not by default the one of the working directory."),
    ] = None,
) -> None:
    """Judges records by precedent: normal or anomalous, how sure, and why, on your own machine."""
    if config is not None:
        os.environ[CONFIG_VARIABLE] = str(config)
    if ignored := ignored_config():
        print_status(ignored)


def main() -> None:
    """Entry point: run one command and end the process."""
    with fast_exit():
        command()


def command() -> None:
    """Run one command: an expected error becomes one line and its exit code (`SystemExit`)."""
    try:
        app()
    except EXPECTED as error:
        _end(error)
    except BrokenPipeError:
        # the reader of the output has closed it
        sys.exit(CLOSED_PIPE)
    except OSError as error:
        if not is_full(error):
            raise
        _end(cannot_be_written(Path(error.filename) if error.filename else None, error))
    except SystemExit as end:
        # Typer exits with 1 when the reader of the output has closed it, and leaves this in its place
        if type(sys.stdout).__name__ == "PacifyFlushWrapper":
            sys.exit(CLOSED_PIPE)
        # Typer exits with this code on Ctrl-C
        if end.code == Stopped.exit_code:
            print_status("stopped; what was written so far is kept")
        raise


def _end(error: Exception) -> NoReturn:
    """Say what is wrong and end with its exit code; output that cannot be written is given up."""
    expected = translate(error)
    assert expected is not None
    print_status(f"{'' if isinstance(expected, Stopped) else 'error: '}{with_hint(error)}")
    discard_unwritable_output()
    sys.exit(expected.exit_code)


@app.command()
def learn(
    files: Annotated[list[str], typer.Argument(help="Files of labelled records; - is standard input.")],
    source: SourceOption,
    label: Annotated[
        str | None, typer.Option("--label", help="Column that holds the label: a name, or a number from 0.")
    ] = None,
    all_normal: Annotated[
        bool, typer.Option("--all-normal", help="The files have no label, and all their records are normal.")
    ] = False,
    normal: NormalOption = None,
    multiline: MultilineOption = None,
    text: TextOption = None,
    format: FormatOption = None,
    brief: Annotated[
        str | None, typer.Option("--brief", help="Describe the source in plain words; @FILE reads it from a file.")
    ] = None,
    detector: Annotated[
        list[str] | None,
        typer.Option(
            "--detector", help="Add a detector (`precedent detectors list`); repeat it; none removes them. [as before]"
        ),
    ] = None,
    budget: Annotated[
        int | None, typer.Option("--budget", min=0, help="Most calls of the language model while learning. [200]")
    ] = None,
    optimise: Annotated[
        str | None,
        typer.Option("--optimise", help="What the threshold optimises: f1, accuracy, cost:FP,FN. [as before; f1]"),
    ] = None,
    redact: RedactOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show how the files are read, and write nothing.")] = False,
    series: of_series.SeriesOption = False,
    time: of_series.TimeColumnOption = None,
    value: of_series.ValuesOption = None,
    key: of_series.KeysOption = None,
    window: of_series.WindowOption = None,
    step: of_series.StepOption = None,
    ranges: of_series.RangesOption = None,
    model: ModelOption = None,
) -> None:
    """Learn labelled records as cases of a source. A record that is a case already adds nothing."""
    from agent.cli import render
    from agent.cli.reading import reading_report
    from agent.core import terminal
    from agent.training.learn import learn as learn_cases

    context = open_context(model)
    options = of_series.with_series(
        read_options(None, format, text, label, normal, multiline), context.casebook.source(source),
        series=series, time=time, values=value, keys=key, window=window, step=step, ranges=ranges,
    )  # fmt: skip
    with stopping(), terminal.progress() as progress:
        result = learn_cases(
            context, files, source, options, brief=read_brief(brief), budget=budget, objective=optimise,
            detectors=detector, dry_run=dry_run, all_normal=all_normal, redact=kinds_to_redact(redact),
            progress=progress,
        )  # fmt: skip
    if dry_run:
        assert result.report is not None
        reading_report(result.report)
    else:
        render.learned(result)
    context.close()
    exit_if_failed(result.unreadable)


app.command()(judge)
app.command()(watch)
app.command()(windows)


@app.command()
def evaluate(
    file: Annotated[str, typer.Argument(help="File of labelled records; - is standard input.")],
    source: SourceOption,
    label: Annotated[str | None, typer.Option("--label", help="Column that holds the label.")] = None,
    normal: NormalOption = None,
    multiline: MultilineOption = None,
    text: TextOption = None,
    format: FormatOption = None,
    columns: ColumnsOption = None,
    rate: RateOption = None,
    adapt: AdaptOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")] = False,
    report: Annotated[
        Path | None, typer.Option("--report", help="Write figures, calibration and errors there as one HTML page.")
    ] = None,
    detector: AloneOption = None,
    series: of_series.SeriesOption = False,
    ranges: of_series.RangesOption = None,
    model: ModelOption = None,
) -> None:
    """Judge labelled records without learning them, and measure the verdicts."""
    from agent.cli import render
    from agent.core import terminal
    from agent.training.evaluation import evaluate_file
    from agent.training.evaluation_report import EvaluationDetails, write_evaluation

    context = open_context(model)
    row = context.source(source)
    options = read_options(row, format, text, label, normal, multiline, columns)
    options = of_series.with_series(options, row, series=series, ranges=ranges)
    if ranges is None and (label is None or options.label is None):
        raise UsageError("evaluate compares verdicts with labels: name the column that holds them with --label")
    if ranges is not None:
        options = options.model_copy(update={"label": None})
    decide_alone(context, source, detector, adapt=adapt)
    warn_without_evidence(context, source)
    refuse_to_overwrite(report, [file])
    details = EvaluationDetails() if report else None
    if adapt:
        adapt_to_files(context, source, [file], options.read)
    with terminal.progress() as progress:
        figures, failures = evaluate_file(context, file, source, options, progress, print_status, rate, details)
    if details is not None and report is not None:
        write_evaluation(report, source, file, figures, render.MEANING, details)
        print_status(f"the report is in {report}")
    render.figures(figures, as_json)
    context.close()
    exit_if_failed(failures)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option("--host", help="Address to bind to. [127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option("--port", help="Port to bind to. [8000]")] = None,
    model: ModelOption = None,
    workers: Annotated[
        int, typer.Option("--workers", min=1, help="Processes that serve; each has its own models in memory.")
    ] = 1,
) -> None:
    """Serve the console, REST, the chat playground and the API's documentation."""
    import tempfile

    from agent.api.serving import run
    from agent.core.instance import announced
    from agent.core.settings import settings

    set_model(model)
    defaults = settings()
    warn_of_remote_services(defaults)
    host, port = host or defaults.host, defaults.port if port is None else port
    os.environ["PRECEDENT_HOST"], os.environ["PRECEDENT_PORT"] = host, str(port)
    settings.cache_clear()
    address = f"http://{host}:{port}"
    print_status(f"console: {address}/   chat: {address}/chain/playground/   API: {address}/docs   (Ctrl-C stops)")
    with tempfile.TemporaryDirectory(prefix="precedent-metrics-") as folder:
        if workers > 1:
            # prometheus_client adds up the counts of the processes here
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
            # uvicorn ends its processes by a signal, which leaves their semaphores to the resource tracker
            os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker:UserWarning")
        with suppress(KeyboardInterrupt), announced(defaults, host, port):
            run(host=host, port=port, workers=workers, shutdown_timeout=defaults.shutdown_timeout)


for subcommand in (chat, mcp, review, correct, backups.backup, backups.restore):
    app.command()(subcommand)


@app.command()
def explain(reference: VerdictArgument, model: ModelOption = None) -> None:
    """Explain a verdict: its facts at once, then up to three sentences by the model, as they are written."""
    from agent.cli import render
    from agent.core import terminal
    from agent.pipeline.llm_explanation import stream_explanation
    from agent.pipeline.verdict_reference import explained, find_verdict
    from llm.errors import ModelFailure

    context = open_context(model)
    verdict = find_verdict(context, reference)
    if verdict.id != reference:
        typer.echo(terminal.escape_controls(f"{verdict.id}: {terminal.truncate(verdict.record.text, 200)}"))
    pieces = stream_explanation(context, explained(context, verdict))
    render.stream_text([next(pieces)])
    if label := context.history.corrected_to(verdict.id):
        typer.echo(f"A person has corrected this verdict to {label} since; this is why it was given.")
    # without a model the next line says why there are no sentences
    with suppress(ModelFailure):
        context.language_detector()
        print_status("(waiting for the language model; Ctrl-C stops it)")
    render.stream_text(pieces)
    context.close()


@app.command()
def doctor(
    fetch: Annotated[bool, typer.Option("--fetch", help="Download missing models.")] = False,
) -> None:
    """Check what is installed, what is missing, and how to get it."""
    from agent.cli import render
    from agent.cli.doctor import examine

    findings = examine(open_context(None), fetch=fetch)
    render.findings(findings)
    raise typer.Exit(0 if all(finding.ok or not finding.required for finding in findings) else 3)


@app.command()
def demo() -> None:
    """Learn half of a recorded PostgreSQL log, judge the other half, and measure the verdicts."""
    from agent.cli.demo import run

    run(open_context(None))
