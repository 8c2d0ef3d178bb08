"""`precedent judge FILE --series` without a source: the windows of the file's series, ranked."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from agent.cli.options import exit_if_failed, print_status
from agent.core.errors import UsageError
from agent.core.terminal import escape_json

if TYPE_CHECKING:
    from agent.data.read_options import ReadOptions

_NOTES = 20


def rank_windows(
    paths: Sequence[str], options: ReadOptions, max_chars: int, *, to: str, output: Path | None, report: Path | None
) -> None:
    """Show the most unusual windows of series without labels, and how to go on."""
    from agent.bulk.unlabelled.series_ranking import NOTE, rank_series, write_series_page, write_windows
    from agent.core import terminal

    if to not in ("table", "jsonl"):
        raise UsageError(f"--to {to} writes verdicts, which need a source: without one, windows go to a table or jsonl")
    with terminal.progress() as progress:
        ranking = rank_series(paths, options, max_chars, progress)
    for note in ranking.notes[:_NOTES]:
        print_status(note)
    with nullcontext(sys.stdout) if output is None else terminal.open_output(output) as stream:
        if to == "table":
            write_windows(ranking, stream)
        else:
            for window in ranking.windows:
                line = json.dumps(window.model_dump(mode="json"), ensure_ascii=False)
                print(escape_json(line, stream), file=stream)
    if to == "jsonl" or output is not None:
        print_status(NOTE)
    if report is not None:
        write_series_page(ranking, report)
        print_status(f"the report is in {report}")
    print_status(
        "next: a part that is known to be normal makes a source: `precedent learn FILE --series --source NAME "
        "--all-normal`; then `precedent judge FILE --source NAME` gives verdicts"
    )
    exit_if_failed(ranking.unreadable)
