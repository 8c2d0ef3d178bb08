"""The options that several commands share, and what they mean."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from agent.data.read_options import ReadOptions
    from agent.pipeline.context import AppContext
    from retrieval.casebook import SourceRow

FormatName = Literal["auto", "log", "csv", "jsonl", "parquet"]
SourceOption = Annotated[str, typer.Option("--source", "-s", help="The source the records come from.")]
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
FormatOption = Annotated[FormatName | None, typer.Option("--format", help="What the file is. [found out]")]
ModelOption = Annotated[
    str | None, typer.Option("--model", help="auto, embedded:NAME, ollama:NAME, none, or a path to a .gguf.")
]


def choose(model: str | None) -> None:
    """Let this process use the model that an option names."""
    if model is not None:
        os.environ["PRECEDENT_MODEL"] = model


def context_of(model: str | None) -> AppContext:
    """The parts of this process, with the model that an option names; one that is named must be there."""
    from agent.pipeline.context import default_context

    choose(model)
    context = default_context()
    if model not in (None, "auto", "none"):
        # a model that was asked for by name is needed: judging without it would be another thing than asked for
        context.language_detector()
    return context


def intake_of(
    row: SourceRow | None,
    format: FormatName | None,
    text: list[str] | None,
    label: str | None,
    normal: list[str] | None,
) -> ReadOptions:
    """What the options say, and for the rest what the source was learned with."""
    from agent.data.read_options import ReadOptions

    said = {"format": format, "text": text, "label": label, "normal": normal}
    learned = (row.reading if row else None) or {}
    return ReadOptions.model_validate({**learned, **{name: value for name, value in said.items() if value}})


def exit_over(failures: list[Any]) -> None:
    """Exit 1 if there are failures, listing them."""
    if failures:
        for failure in failures:
            say(str(failure))
        say(f"{len(failures)} records could not be judged or learned; all others were")
        raise typer.Exit(1)


def say(line: str) -> None:
    """One line on standard error, whatever characters it has."""
    from agent.core.records import clean_text

    print(clean_text(line), file=sys.stderr, flush=True)
