"""What `precedent sources propose` and `precedent sources refit` print."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from agent.core.terminal import console, escape_json, plural, print_line, truncate

if TYPE_CHECKING:
    from agent.training.challenge import Challenge
    from agent.training.proposal import Proposals

_TEXT_CHARS = 160
_FIGURES = {
    "log_loss": "log-loss",
    "roc_auc": "AUC",
    "f1": "F1",
    "error_among_decided": "error among decided",
    "coverage": "coverage",
}


def proposals(found: Proposals, result: Challenge | None, as_json: bool, *, applied: bool) -> None:
    """Print what is proposed for a source, and what became of it if it was ``applied``."""
    if as_json:
        applied_json = result.model_dump(mode="json") if result else None
        shown = {**found.model_dump(mode="json"), "applied": applied_json}
        print(escape_json(json.dumps(shown, ensure_ascii=False), sys.stdout))
        return
    for proposal in found.proposals:
        print_line(f"{proposal.action}:", "" if proposal.action == "nothing" else "bold")
        for reason in proposal.reasons:
            print_line(f"  {reason}")
        for candidate in proposal.candidates:
            alike = f", and {candidate.alike - 1:,} more like it" if candidate.alike > 1 else ""
            text = truncate(candidate.record.text, _TEXT_CHARS)
            print_line(f"  {candidate.id}  {candidate.label} {candidate.probability:.2f}  {text}{alike}")
        if proposal.command:
            print_line(f"  command: {proposal.command}")
    for note in found.notes:
        print_line(f"note: {note}", "yellow")
    evidence = [test for test in found.drift.tests if test.alarm or not test.of.startswith("field ")]
    for test in evidence:
        verdict = "drift" if test.alarm else "within chance, or small"
        print_line(
            f"  {test.of}: {test.recent:.3g}, reference {test.reference:.3g}, p {test.p_value:.2g} ({verdict})", "dim"
        )
    if result is not None:
        challenge(result, as_json=False)
    elif applied and found.action != "nothing":
        print_line("nothing was applied: what is proposed is done by a person, with the commands above")


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
