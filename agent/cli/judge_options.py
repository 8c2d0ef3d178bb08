"""Options of `precedent judge` alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Explain = Literal["none", "facts", "llm"]
To = Literal["table", "jsonl", "csv", "parquet"]
Detail = Literal["full", "compact"]
FilesArgument = Annotated[
    list[str], typer.Argument(metavar="FILE…", help="Files, folders or patterns; - is standard input.")
]
LabelOption = Annotated[
    str | None,
    typer.Option("--label", help="Column to leave out of the records; none leaves out none. [the one learned from]"),
]
OutputOption = Annotated[Path | None, typer.Option("--output", "-o", help="Write there instead of to the screen.")]
ToOption = Annotated[
    To | None,
    typer.Option(
        "--to", help="Format of the verdicts; for many records a table is a summary. [as --output ends; table]"
    ),
]
DetailOption = Annotated[
    Detail | None,
    typer.Option("--detail", help="The whole verdict of each record, or a short line. [compact from 10,000 lines on]"),
]
OnlyOption = Annotated[
    str | None, typer.Option("--only", help="Labels whose records are written, such as anomalous,unsure. [all]")
]
ExplainOption = Annotated[
    Explain | None,
    typer.Option(
        "--explain",
        help="none; facts; or llm: up to three sentences by the model as well (slow). [facts; none for many rows]",
    ),
]
CallsOption = Annotated[
    int | None,
    typer.Option("--llm-calls", min=0, help="Most calls of the language model; the most uncertain records come first."),
]
TimeOption = Annotated[
    float | None, typer.Option("--time-limit", min=0, help="Seconds after which the language model is not queried.")
]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Continue the output of a run that was stopped.")]
OnOption = Annotated[
    str | None,
    typer.Option(
        "--on",
        metavar="ray|ray://HOST:PORT",
        help="Judge in bulk on a Ray cluster: that of RAY_ADDRESS or one on this machine, or the one at an address.",
    ),
]
CsvRawOption = Annotated[
    bool, typer.Option("--csv-raw", help="Leave cells of CSV that begin with = + - @ as they are.")
]
ReportOption = Annotated[Path | None, typer.Option("--report", help="Write the summary there as one HTML page.")]

AgainstOption = Annotated[
    list[str] | None,
    typer.Option("--against", help="Without a source: older files, against which events are ranked; repeat it."),
]
ViaServerOption = Annotated[
    str,
    typer.Option(
        "--via-server",
        help="Have few records judged by a server that runs on the same data: auto (where one runs on this machine, "
        "with the same settings), never, or its address. Verdicts are the same, but for elapsed_ms.",
    ),
]
