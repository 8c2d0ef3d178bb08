"""Champion and challenger: a new fit replaces the present one only if it is not worse on what neither has seen.

The cases that came since the present fit, the champion, are split by time. A challenger is fitted to all older cases
and the first half of the new ones; both judge the second half, with the same precedents. If the challenger is not worse
beyond chance, the source is fitted to all cases and that fit replaces the champion, which `sources rollback` restores.
All of it happens in a copy of the source; the last step is one transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel

from agent.core.errors import Conflict
from agent.core.logs import log_event, timed_event
from agent.core.progress import Progress
from agent.core.records import Record, Verdict
from agent.pipeline.context import AppContext
from agent.pipeline.pipeline import build
from agent.pipeline.service import judge_many
from agent.training.comparison import (
    FitFigures,
    PairedTest,
    client_of,
    decided_worse,
    figures,
    log_losses,
    outlying_clients,
    paired_test,
)
from agent.training.leave_one_out import case_record
from agent.training.refit import refit
from agent.training.trial_context import TrialContext, trial_copy
from retrieval.encoding.representation import Representation
from retrieval.store.copying import copy_later_cases, given_since, relabelled_since
from retrieval.store.fits import Fit, Fits

# new cases of different content that a comparison needs
FEWEST_CASES = 20
Decision = Literal["replaced", "kept"]


class FittedMeanwhile(Conflict):
    """The champion was replaced while its challenger was being fitted."""


class Challenge(BaseModel):
    """What became of a new fit, and why.

    Attributes
    ----------
    new_cases : int
        Different contents among the cases that came since the present fit.
    compared_on : int
        Those of them that both fits judged and neither was fitted to.
    tests : dict of str to PairedTest
        On all of these, and without the labels of each outlying client.
    """

    source: str
    decision: Decision
    reason: str
    new_cases: int = 0
    compared_on: int = 0
    champion: FitFigures | None = None
    challenger: FitFigures | None = None
    tests: dict[str, PairedTest] = {}
    outlying_clients: dict[str, tuple[int, int]] = {}


@dataclass(frozen=True)
class _HeldOut:
    """The newer half of the new cases: what both fits judge."""

    since: datetime
    records: list[Record]
    anomalous: list[bool]
    keys: list[str]
    clients: list[str]


def challenge(
    context: AppContext,
    source: str,
    *,
    detectors: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Challenge:
    """Fit a source again; the new fit replaces the present one if it is not worse on recent cases.

    With fewer than 20 new cases there is nothing to compare on, and it replaces the present fit.

    Parameters
    ----------
    detectors, progress
        See `agent.training.learn.learn`.

    Raises
    ------
    UnknownSource
    Conflict
        The source has no cases.
    FittedMeanwhile
        Another process has fitted it meanwhile: nothing was replaced.
    """
    row = context.source(source)
    if not any(row.counts.values()):
        raise Conflict(f"{row.name} has no cases to be fitted to")
    with context.fitting(row.name), timed_event("challenge", source=row.name):
        champion = Fits(context.casebook.engine).current(row.name)
        if champion is None:
            refit(context, row.name, detectors=detectors, progress=progress)
            return Challenge(source=row.name, decision="replaced", reason="it is the first fit of the source")
        new_cases, held_out = _held_out(context, row.name, champion)
        until = held_out.since if held_out else None
        with trial_copy(context, row.name, until) as trial:
            version = trial.source(row.name).version
            result = Challenge(source=row.name, decision="replaced", reason=_why_not_compared(champion, new_cases))
            if held_out is not None:
                result = _compared(trial, row.name, held_out, detectors, progress)
            result = result.model_copy(update={"new_cases": new_cases})
            if result.decision == "kept":
                # the same cases cause no further comparison
                Fits(context.casebook.engine).note(row.name, champion, challenged_on=version)
            else:
                _replace(context, trial, champion, version, held_out, detectors, progress)
        log_event("challenge", source=row.name, decision=result.decision, compared_on=result.compared_on)
    return result


def _held_out(context: AppContext, source: str, champion: Fit) -> tuple[int, _HeldOut | None]:
    """How many contents came since the champion was fitted, and the newer half of them if that is enough."""
    noted = champion.source_model.get("fitted_until")
    if noted is None:
        return 0, None
    fitted_until, engine = datetime.fromisoformat(noted), context.casebook.engine
    given = given_since(engine, source, fitted_until)
    new = len({case.content_hash for case, _ in given})
    if new < FEWEST_CASES:
        return new, None
    since = given[len(given) // 2 - 1][1]
    # the champion was fitted to these with another label
    known = relabelled_since(engine, source, fitted_until)
    cases = [case for case, given_at in given if given_at > since and case.content_hash not in known]
    if len({case.content_hash for case in cases}) < FEWEST_CASES // 2:
        return new, None
    representation = context.source(source).representation or Representation()
    return new, _HeldOut(
        since,
        [case_record(case) for case in cases],
        [case.label == "anomalous" for case in cases],
        [representation.key(case, case.content_hash) for case in cases],
        [client_of(case.given_by) for case in cases],
    )


def _why_not_compared(champion: Fit, new_cases: int) -> str:
    if champion.source_model.get("fitted_until") is None:
        return "the present fit does not say which cases it was made from, so it was not compared with the new one"
    return (
        f"{new_cases} new cases are too few to compare fits on ({FEWEST_CASES} are needed that had no other label "
        "before): by default the new fit, which knows them, replaces the present one"
    )


def _compared(
    trial: TrialContext, source: str, held_out: _HeldOut, detectors: Sequence[str] | None, progress: Progress | None
) -> Challenge:
    """The challenger beside the champion on the cases that neither was fitted to."""
    before = _judge(trial, source, held_out, progress)
    refit(trial, source, detectors=detectors, progress=progress)
    after = _judge(trial, source, held_out, progress)
    judged = [i for i, pair in enumerate(zip(before, after, strict=True)) if all(isinstance(v, Verdict) for v in pair)]
    champion = [v for i in judged if isinstance(v := before[i], Verdict)]
    challenger = [v for i in judged if isinstance(v := after[i], Verdict)]
    anomalous, keys = [held_out.anomalous[i] for i in judged], [held_out.keys[i] for i in judged]
    clients = np.array([held_out.clients[i] for i in judged])
    if not judged:
        raise Conflict(f"none of the new cases of {source} could be judged: its fit was not replaced")
    gains = log_losses(champion, anomalous) - log_losses(challenger, anomalous)
    contradicts = np.array([(v.leans == "anomalous") != y for v, y in zip(champion, anomalous, strict=True)])
    outlying = outlying_clients(clients.tolist(), contradicts)
    tests = {"all": paired_test(gains, keys)}
    for client in outlying:
        others = np.flatnonzero(clients != client)
        tests[f"without {client}"] = paired_test(gains[others], [keys[i] for i in others])
    decision, reason = _decide(tests, decided_worse(champion, challenger, anomalous))
    return Challenge(
        source=source,
        decision=decision,
        reason=reason,
        compared_on=len(judged),
        champion=figures(champion, anomalous),
        challenger=figures(challenger, anomalous),
        tests=tests,
        outlying_clients=outlying,
    )


def _decide(tests: dict[str, PairedTest], more_wrong: bool) -> tuple[Decision, str]:
    worse = [name for name, test in tests.items() if test.outcome == "worse"]
    if worse:
        labels = "" if "all" in worse else f" {worse[0]}, whose labels contradict far more verdicts than all others do"
        return "kept", f"the new fit has a higher log-loss{labels}, beyond chance"
    if more_wrong:
        return "kept", "the new fit decides more of these records wrongly, beyond chance"
    outcome = tests["all"].outcome
    if outcome == "better":
        return "replaced", "the new fit has a lower log-loss, beyond chance"
    if outcome == "too few":
        return (
            "replaced",
            "the new cases have too few templates for a comparison: by default the new fit is taken",
        )
    return "replaced", "the fits do not differ beyond chance: by default the new one, which knows more cases, is taken"


def _judge(trial: TrialContext, source: str, held_out: _HeldOut, progress: Progress | None) -> list[Any]:
    answers = []
    chain = build(trial)
    for number, answer in enumerate(judge_many(trial, chain, held_out.records, source, "none", keep=False), start=1):
        answers.append(answer)
        if progress:
            progress("comparing", number, len(held_out.records))
    return answers


def _replace(
    context: AppContext,
    trial: TrialContext,
    champion: Fit,
    version: int,
    held_out: _HeldOut | None,
    detectors: Sequence[str] | None,
    progress: Progress | None,
) -> None:
    """Fit the copy to all cases, and let that fit replace the champion."""
    (source,) = trial.casebook.names()
    if held_out is not None:
        copy_later_cases(context.casebook.engine, trial.casebook.engine, source, held_out.since)
    refit(trial, source, detectors=detectors, progress=progress)
    fit = Fits(trial.casebook.engine).current(source)
    assert fit is not None
    casebook = context.casebook
    with casebook.index_lock:
        orphans = Fits(casebook.engine).publish(source, fit, champion, version, casebook.cases)
    if orphans is None:
        raise FittedMeanwhile(f"{source} was fitted by another process meanwhile: its fit was not replaced")
    casebook.discard(source, orphans)
