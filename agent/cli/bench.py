"""`precedent bench`: run the repository's benchmarks, each a module with a command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import typer

bench_app = typer.Typer(help="Measure verdicts, in a clone of the repository.", rich_markup_mode=None)
_REPOSITORY = Path(__file__).resolve().parents[2]


@bench_app.command(
    "quality", context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
)
def quality(context: typer.Context) -> None:
    """Verdicts on public data, beside each detector alone and plain baselines; --help lists the tasks."""
    _run("benchmarks.quality", context.args)


@bench_app.command(
    "systems", context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
)
def systems(context: typer.Context) -> None:
    """The field's systems beside Precedent on the same split, as one table; --help lists the options."""
    _run("benchmarks.systems", context.args)


def _run(benchmark: str, arguments: list[str]) -> None:
    if not (_REPOSITORY / "benchmarks").is_dir():
        print("the benchmarks are not in the package: clone the repository and run this command there", file=sys.stderr)
        raise typer.Exit(3)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(_REPOSITORY), os.environ.get("PYTHONPATH")])),
    }
    raise typer.Exit(subprocess.call([sys.executable, "-m", benchmark, *arguments], env=environment))
