"""`precedent windows`: lines of logs as sessions."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from agent.cli.options import (
    FormatOption,
    MultilineOption,
    NormalOption,
    TextOption,
    exit_if_failed,
    print_status,
    read_options,
    refuse_to_overwrite,
)


def windows(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Files of lines; - is standard input.")],
    size: Annotated[int, typer.Option("--size", help="Lines of a window.")] = 20,
    step: Annotated[
        int | None, typer.Option("--step", help="Lines from one window's first to the next one's. [the size]")
    ] = None,
    label: Annotated[
        str | None, typer.Option("--label", help="Column of the label: a window with an anomalous line is anomalous.")
    ] = None,
    normal: NormalOption = None,
    text: TextOption = None,
    format: FormatOption = None,
    multiline: MultilineOption = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write. [standard output]")] = None,
) -> None:
    """Write windows of consecutive lines as sessions, in JSON lines that learn, judge and evaluate read."""
    from agent.core.settings import settings
    from agent.core.terminal import open_output, plural
    from agent.data.line_windows import check_size, line_windows
    from agent.data.readers import RowError

    options = read_options(None, format, text, label, normal, multiline)
    refuse_to_overwrite(output, files)
    step = size if step is None else step
    check_size(size, step)
    failures, written = [], 0
    with nullcontext(sys.stdout) if output is None else open_output(output) as out:
        for file in files:
            for window in line_windows(options.read(file, settings().max_record_chars), size, step):
                if isinstance(window, RowError):
                    failures.append(window)
                    continue
                record, written = window.record, written + 1
                row = {"id": f"{record.file}:{record.line}", "events": record.events}
                row |= {"label": window.label} if window.label else {}
                print(json.dumps(row, ensure_ascii=False), file=out)
    print_status(f"{plural(written, 'window')} of {size} lines")
    exit_if_failed(failures)
