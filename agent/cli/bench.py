"""`precedent bench`: run the repository's benchmarks, each a module with a command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import typer

bench_app = typer.Typer(help="Measure verdicts, in a clone of the repository.", rich_markup_mode=None)
_REPOSITORY = Path(__file__).resolve().parents[2]


# of each command: the module, its first arguments, and the help
_DEMONSTRATIONS = "benchmarks.demonstrations"
_BENCHMARKS = {
    "quality": (
        ["benchmarks.quality"],
        "Verdicts on public data, beside each detector alone and plain baselines; --help lists the tasks.",
    ),
    "systems": (
        ["benchmarks.systems"],
        "The field's systems beside Precedent on the same split, as one table; --help lists the options.",
    ),
    "transfer": (
        [_DEMONSTRATIONS, "transfer"],
        "Learn one source and judge another, without and with adaptation and labels of it.",
    ),
    "online": ([_DEMONSTRATIONS, "online"], "Verdicts while the features of a record arrive one by one."),
    "forgetting": (
        [_DEMONSTRATIONS, "forgetting"],
        "What is left of one source after another was learned: a tuned transformer, and a casebook.",
    ),
    "debiasing": ([_DEMONSTRATIONS, "debiasing"], "What records without content get, and a language model's bias."),
    "interpretability": (
        [_DEMONSTRATIONS, "interpretability"],
        "Whether verdicts rest on what their explanations name.",
    ),
    "labels": ([_DEMONSTRATIONS, "labels"], "Quality by the number of labels, beside plain classifiers."),
    "demonstrations": (
        [_DEMONSTRATIONS, "demonstrations"],
        "All demonstrations; --write makes docs/demonstrations.md.",
    ),
}


def _add(name: str, module: Sequence[str], text: str) -> None:
    def command(context: typer.Context) -> None:
        _run(module, context.args)

    settings = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
    bench_app.command(name, help=text, context_settings=settings)(command)


for _name, (_module, _text) in _BENCHMARKS.items():
    _add(_name, _module, _text)


def _run(module: Sequence[str], arguments: Sequence[str]) -> None:
    if not (_REPOSITORY / "benchmarks").is_dir():
        print("the benchmarks are not in the package: clone the repository and run this command there", file=sys.stderr)
        raise typer.Exit(3)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(_REPOSITORY), os.environ.get("PYTHONPATH")])),
    }
    raise typer.Exit(subprocess.call([sys.executable, "-m", *module, *arguments], env=environment))
