"""What `precedent sources refit` prints."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from agent.core.terminal import console, escape_json, plural, print_line

if TYPE_CHECKING:
    from agent.training.challenge import Challenge

_FIGURES = {
    "log_loss": "log-loss",
    "roc_auc": "AUC",
    "f1": "F1",
    "error_among_decided": "error among decided",
    "coverage": "coverage",
}


def challenge(result: Challenge, as_json: bool) -> None:
    """Print what became of a new fit, with the figures of both."""
    if as_json:
        print(escape_json(result.model_dump_json(), sys.stdout))
        return
    if result.champion is not None and result.challenger is not None:
        _figures(result)
    for name, test in result.tests.items():
        chance = "too few for a test" if test.p_value is None else f"p {test.p_value:.2g}"
        of = "" if name == "all" else f" {name}"
        saved = f"the new fit saves {test.gain:+.3f} of log-loss" if test.gain else "the fits have the same log-loss"
        print_line(f"on {plural(test.templates, 'template')}{of}: {saved} ({chance})")
    for client, (wrong, given) in result.outlying_clients.items():
        print_line(
            f"labels given by {client} contradict {wrong} of {given} verdicts, far more than all others do: "
            f"look at them (precedent cases list --source {result.source})",
            "yellow",
        )
    done = "the present fit stays" if result.decision == "kept" else "fitted again"
    print_line(f"{result.source}: {done}; {result.reason}")
    if result.decision == "replaced":
        print_line(f"(the fit before is kept: precedent sources rollback {result.source})", "dim")
    else:
        print_line(f"(fit it all the same: precedent sources rebuild {result.source})", "dim")


def _figures(result: Challenge) -> None:
    from rich.table import Table

    table = Table(f"on {plural(result.compared_on, 'new case')}", "present fit", "new fit")
    for name, title in _FIGURES.items():
        values = (getattr(figures, name) for figures in (result.champion, result.challenger))
        table.add_row(title, *("not defined" if value is None else f"{value:.3f}" for value in values))
    console().print(table)
