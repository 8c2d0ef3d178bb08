"""The command line: thin. Each command reads its options, calls one function of the room, and shows what it gives."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from agent.cli.bench import bench_app
from agent.cli.feedback import correct, review
from agent.cli.judge import judge
from agent.cli.ollama import ollama_app
from agent.cli.options import (
    FormatOption,
    ModelOption,
    NormalOption,
    SourceOption,
    TextOption,
    choose,
    context_of,
    exit_over,
    intake_of,
    say,
)
from agent.cli.process import fast_exit
from agent.core.errors import EXPECTED, Stopped, UsageError, translate

app = typer.Typer(
    name="precedent",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
sources_app = typer.Typer(
    help="List the sources, or show, brief, rebuild or remove one.", invoke_without_command=True, rich_markup_mode=None
)
app.add_typer(sources_app, name="sources")
app.add_typer(ollama_app, name="ollama")
app.add_typer(bench_app, name="bench")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"precedent {version('precedent-agent')}")
        raise typer.Exit


@app.callback()
def precedent(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which version this is.")
    ] = False,
) -> None:
    """Judges records by precedent: normal or anomalous, how sure, and why, on your own machine."""


def main() -> None:
    """The entry point of a process that is one command, and ends with it."""
    with fast_exit():
        command()


def command() -> None:
    """Run one command: an expected error becomes one line and its exit code (`SystemExit`)."""
    try:
        app()
    except EXPECTED as error:
        expected = translate(error)
        assert expected is not None
        line = f"{expected}: {expected.hint}" if expected.hint else str(expected)
        say(line if isinstance(expected, Stopped) else f"error: {line}")
        sys.exit(expected.exit_code)
    except BrokenPipeError:
        # the reader of our output has gone
        sys.exit(1)
    except SystemExit as end:
        # what typer makes of Ctrl-C
        if end.code == Stopped.exit_code:
            say("stopped; everything done so far is kept, and the same command again goes on with it")
        raise


@app.command()
def learn(
    files: Annotated[list[str], typer.Argument(help="Files of labelled records; - is standard input.")],
    source: SourceOption,
    label: Annotated[str, typer.Option("--label", help="Column that holds the label: a name, or a number from 0.")],
    normal: NormalOption = None,
    text: TextOption = None,
    format: FormatOption = None,
    brief: Annotated[
        str | None, typer.Option("--brief", help="What the source is, in plain words; @FILE reads it from a file.")
    ] = None,
    budget: Annotated[
        int | None, typer.Option("--budget", min=0, help="Most calls of the language model while learning. [200]")
    ] = None,
    optimise: Annotated[
        str | None,
        typer.Option("--optimise", help="What the threshold is chosen for: f1, accuracy, cost:FP,FN. [as before; f1]"),
    ] = None,
    model: ModelOption = None,
) -> None:
    """Learn labelled records as the cases of a source. The same record again adds nothing."""
    from agent.cli import render
    from agent.core import terminal
    from agent.training.learn import learn as learn_cases

    context = context_of(model)
    intake = intake_of(None, format, text, label, normal)
    with terminal.progress() as progress:
        done = learn_cases(
            context, files, source, intake, brief=_brief(brief), budget=budget, objective=optimise, progress=progress
        )
    render.learned(done)
    context.close()
    exit_over(done.unreadable)


app.command()(judge)


@app.command()
def evaluate(
    file: Annotated[str, typer.Argument(help="File of labelled records; - is standard input.")],
    source: SourceOption,
    label: Annotated[str, typer.Option("--label", help="Column that holds the label.")],
    normal: NormalOption = None,
    text: TextOption = None,
    format: FormatOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")] = False,
    model: ModelOption = None,
) -> None:
    """Judge labelled records without learning them, and say how good the verdicts are."""
    from agent.cli import render
    from agent.core import terminal
    from agent.training.evaluation import evaluate_file

    context = context_of(model)
    intake = intake_of(context.source(source), format, text, label, normal)
    with terminal.progress() as progress:
        figures, failures = evaluate_file(context, file, source, intake, progress)
    render.figures(figures, as_json)
    context.close()
    exit_over(failures)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option("--host", help="Address to bind to. [127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option("--port", help="Port to bind to. [8000]")] = None,
    model: ModelOption = None,
    workers: Annotated[
        int, typer.Option("--workers", min=1, help="Processes that serve; each has its own models in memory.")
    ] = 1,
) -> None:
    """Serve REST, the chat playground and the API's documentation."""
    import tempfile

    import uvicorn

    from agent.core.settings import settings

    choose(model)
    chosen = settings()
    address, at = host or chosen.host, chosen.port if port is None else port
    os.environ["PRECEDENT_HOST"], os.environ["PRECEDENT_PORT"] = address, str(at)
    settings.cache_clear()
    say(f"chat: http://{address}:{at}/chain/playground/   API: http://{address}:{at}/docs   (Ctrl-C stops)")
    with tempfile.TemporaryDirectory(prefix="precedent-metrics-") as counts:
        if workers > 1:
            # where prometheus_client adds up what the processes count
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = counts
            # uvicorn's processes end by a signal, and their locks with them
            os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker:UserWarning")
        uvicorn.run(
            "server:create_app",
            factory=True,
            host=address,
            port=at,
            workers=workers,
            # the application configures logging, and logs requests itself
            log_config=None,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=10,
        )


@app.command()
def chat(
    source: Annotated[str | None, typer.Option("--source", "-s", help="The source to begin with.")] = None,
    model: ModelOption = None,
) -> None:
    """Talk with the agent: paste a record, ask why, correct it."""
    from agent.chat.commands import build_chat
    from agent.cli import render
    from agent.pipeline.pipeline import build

    context = context_of(model)
    if source:
        context.source(source)
    render.converse(build_chat(context, build(context)), source)
    context.close()


app.command()(review)
app.command()(correct)


@app.command()
def explain(
    verdict_id: Annotated[str, typer.Argument(metavar="ID", help="The verdict's id.")], model: ModelOption = None
) -> None:
    """Say why a verdict was given: its facts at once, then up to three sentences by the model, as they come."""
    from agent.cli import render
    from agent.pipeline.history import load_verdict
    from agent.pipeline.llm_explanation import stream_explanation

    context = context_of(model)
    told = stream_explanation(context, load_verdict(context, verdict_id))
    render.as_it_comes([next(told)])
    say("(the language model is asked for more words; Ctrl-C stops it)")
    render.as_it_comes(told)
    context.close()


@app.command()
def doctor(
    fetch: Annotated[bool, typer.Option("--fetch", help="Get the models that are missing.")] = False,
) -> None:
    """Say what is there, what is missing, and how to get it."""
    from agent.cli import render
    from agent.cli.doctor import examine

    findings = examine(context_of(None), fetch=fetch)
    render.findings(findings)
    raise typer.Exit(0 if all(one.fine or not one.needed for one in findings) else 3)


@app.command()
def demo() -> None:
    """Learn the demo source (a recorded PostgreSQL log), judge its unseen half, and say how good the verdicts were."""
    from agent.cli.demo import run

    run(context_of(None))


@sources_app.callback()
def sources(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        list_sources()


@sources_app.command("list")
def list_sources() -> None:
    """All sources with their numbers of cases."""
    from agent.cli import render

    context = context_of(None)
    render.sources([row for name in context.casebook.names() if (row := context.casebook.source(name))])


@sources_app.command("show")
def show_source(
    name: Annotated[str, typer.Argument(help="The source.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """A source: its brief, its cases, what its judge has learned, and whether its recent records still fit it."""
    from agent.cli import render
    from agent.training.drift import measure_drift

    context = context_of(None)
    render.source(context.source(name), measure_drift(context, name), as_json)


@sources_app.command("brief")
def brief_source(
    name: Annotated[str, typer.Argument(help="The source.")],
    text: Annotated[str | None, typer.Argument(help="The new brief; @FILE reads it from a file. [show it]")] = None,
) -> None:
    """Show or set the brief, of a new source too; setting it fits the judge anew."""
    from agent.core import terminal
    from agent.training.learn import check_name, refit

    context = context_of(None)
    if text is None:
        typer.echo(context.source(name).brief)
        return
    context.casebook.create(check_name(name))
    context.casebook.set(name, brief=_brief(text), brief_by="person")
    if any(context.source(name).counts.values()):
        with terminal.progress() as progress:
            refit(context, name, progress=progress)
    context.close()


@sources_app.command("rebuild")
def rebuild_source(name: Annotated[str, typer.Argument(help="The source.")]) -> None:
    """Make the vectors and the judge anew from the cases."""
    from agent.core import terminal
    from agent.training.learn import refit

    context = context_of(None)
    context.source(name)
    with terminal.progress() as progress:
        context.casebook.rebuild(name, progress)
        refit(context, name, progress=progress)
    context.close()


@sources_app.command("remove")
def remove_source(
    name: Annotated[str, typer.Argument(help="The source.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Forget a source with all its cases and verdicts."""

    context = context_of(None)
    row = context.source(name)
    if not yes:
        typer.confirm(f"forget {name} with its {sum(row.counts.values())} cases and all its verdicts?", abort=True)
    context.casebook.remove(name)
    context.close()


def _brief(said: str | None) -> str | None:
    if said is None or not said.startswith("@"):
        return said
    try:
        return Path(said[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the brief {said[1:]} cannot be read: {error}") from error
