"""What to do about a source: fit it again, label some records, tune a model on it, or nothing; with the evidence."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import numpy as np
from pydantic import BaseModel

from agent.core.records import Verdict
from agent.core.terminal import plural
from agent.detectors.contrib.catalog import hint_of, is_installed
from agent.pipeline.context import AppContext
from agent.training.active_learning import Candidate, select_for_review
from agent.training.comparison import FEEDBACK, client_of, outlying_clients
from agent.training.drift import ENOUGH, WINDOW, measure_drift
from agent.training.drift_findings import Drift
from agent.training.drift_tests import CHANCE, exceeds
from agent.training.feedback import refit_due
from agent.training.refit import changes_since_fit
from retrieval.casebook import SourceSnapshot
from retrieval.store.copying import given_since

Action = Literal["refit", "label", "tune", "nothing"]
_LABELS = 20
# corrections from which on their share says something; cases in all and of each label that tuning needs
_FEWEST_CORRECTIONS, _CASES_TO_TUNE, _OF_EACH_LABEL = 5, 500, 50
_UNSURE_TO_TUNE, _UNSURE_TO_NOTE = 0.1, 0.2
# corrections that are looked at, the newest
_MOST_CORRECTIONS = 1_000


class Proposal(BaseModel):
    """One thing to do, why, and the command that does it.

    ``candidates`` are the records whose labels tell most, of the action ``label``.
    """

    action: Action
    reasons: list[str]
    command: str | None = None
    candidates: list[Candidate] = []


class Proposals(BaseModel):
    """What to do about a source, the most important first.

    Attributes
    ----------
    action : str
        The first proposal's.
    can_tell : bool
        Whether enough records were judged to tell whether they drift.
    new_cases : int or None
        Cases that came since the fit; None if the fit does not say which cases it was made from.
    changes : int
        Changes of the casebook since the fit.
    notes : list[str]
        What else a person should know.
    """

    source: str
    action: Action
    can_tell: bool
    proposals: list[Proposal]
    new_cases: int | None
    changes: int
    drift: Drift
    notes: list[str] = []


def propose(
    context: AppContext,
    source: str,
    last: int = WINDOW,
    since: datetime | None = None,
    *,
    labels: int = _LABELS,
) -> Proposals:
    """Propose what to do about a source.

    Parameters
    ----------
    last, since
        See `agent.training.drift.measure_drift`.
    labels : int
        How many records to label are looked for at most.

    Raises
    ------
    UnknownSource
    """
    row = context.source(source)
    drift = measure_drift(context, row.name, last, since)
    can_tell = drift.records >= ENOUGH
    until = (row.source_model or {}).get("fitted_until")
    new = None if until is None else given_since(context.casebook.engine, row.name, datetime.fromisoformat(until))
    changes = changes_since_fit(row) if row.source_model else row.version
    found = [
        _refit(row, drift, changes, context.settings.risk),
        _label(context, row, drift, labels),
        _tune(row, drift),
    ]
    proposals = [proposal for proposal in found if proposal is not None]
    if not proposals:
        proposals = [Proposal(action="nothing", reasons=[_why_nothing(row, drift, changes)])]
    return Proposals(
        source=row.name,
        action=proposals[0].action,
        can_tell=can_tell,
        proposals=proposals,
        new_cases=None if new is None else len(new),
        changes=changes,
        drift=drift,
        notes=_notes(context, row, drift, [(case.given_by, case.label) for case, _ in new or ()]),
    )


def _refit(row: SourceSnapshot, drift: Drift, changes: int, risk: float) -> Proposal | None:
    """Whether there are enough changes of the cases, or corrections that contradict the verdicts."""
    reasons, cases = [], sum(row.counts.values())
    if row.source_model is None:
        if not cases:
            return None
        reasons.append(f"it has {plural(cases, 'case')} and was never fitted")
    elif refit_due(row):
        reasons.append(f"{plural(changes, 'change')} of its {plural(cases, 'case')} since the last fit")
    elif (
        drift.corrected >= _FEWEST_CORRECTIONS and exceeds(drift.contradicted, drift.corrected, risk) < CHANCE
    ) or any(test.of == "corrections" for test in drift.alarms):
        reasons.append(
            f"{drift.contradicted} of {plural(drift.corrected, 'corrected verdict')} were wrong though decided; "
            f"no more than {100 * risk:.0f} % should be"
        )
    return Proposal(action="refit", reasons=reasons, command=f"precedent sources refit {row.name}") if reasons else None


def _label(context: AppContext, row: SourceSnapshot, drift: Drift, labels: int) -> Proposal | None:
    """Whether the records drift, and the records whose labels tell most."""
    reasons = [finding for finding in drift.findings if not finding.startswith("people contradicted")]
    if not any(row.counts.values()) and drift.records:
        reasons.append("it has no cases: its verdicts rest on its brief alone")
    if not reasons:
        return None
    candidates = select_for_review(context, row.name, labels) if labels else []
    if labels and not candidates:
        reasons.append("none of the verdicts in the history is about a template without a case: judge newer records")
    return Proposal(
        action="label", reasons=reasons, command="precedent correct ID normal|anomalous", candidates=candidates
    )


def _tune(row: SourceSnapshot, drift: Drift) -> Proposal | None:
    """Whether there are many cases, and something that a classifier tuned on them could do better."""
    cases, rarest = sum(row.counts.values()), min(row.counts.values())
    tuned = "tuned" in (row.source_model or {}).get("contrib", ())
    if tuned or row.source_model is None or cases < _CASES_TO_TUNE or rarest < _OF_EACH_LABEL:
        return None
    unsure = round((drift.unsure_share or 0.0) * drift.records)
    if exceeds(unsure, drift.records, _UNSURE_TO_TUNE) >= CHANCE or drift.records < ENOUGH:
        return None
    reasons = [
        f"{cases:,} cases, {rarest:,} of the rarer label, may be enough for a tuned classifier, and {unsure:,} of "
        f"{plural(drift.records, 'record')} are unsure; it is used only with the weight that the cases give it"
    ]
    if not is_installed("tune"):
        reasons.append(f"it needs the extra [tune]: {hint_of('tune')}")
    return Proposal(action="tune", reasons=reasons, command=f"precedent tune classifier --source {row.name}")


def _why_nothing(row: SourceSnapshot, drift: Drift, changes: int) -> str:
    """What was looked at."""
    if not drift.records:
        return "nothing can be tested: no verdict is in the history (none was given yet, or old ones were removed)"
    shares = [f"{100 * (drift.unsure_share or 0.0):.0f} % unsure"]
    if drift.novel_share is not None:
        shares.append(f"{100 * drift.novel_share:.0f} % with templates that no case has")
    corrections = f"{drift.contradicted} of {plural(drift.corrected, 'correction')} contradict a decided verdict"
    seen = f"{plural(drift.records, 'record')}, {', '.join(shares)}; {corrections}"
    seen += f"; {plural(changes, 'change')} of the cases since the last fit"
    if drift.records < ENOUGH:
        return f"too few records to test for drift ({ENOUGH} are needed): {seen}"
    return f"no reason found: {seen}; {plural(len(drift.tests), 'test')} of drift, none beyond chance"


def _notes(context: AppContext, row: SourceSnapshot, drift: Drift, given: list[tuple[str, str]]) -> list[str]:
    """What a person should know that is no reason to do something at once."""
    notes = []
    model = row.source_model or {}
    if model.get("challenged_on"):
        notes.append(f"at casebook version {model['challenged_on']} a newer fit was worse than the present one")
    unsure = round((drift.unsure_share or 0.0) * drift.records)
    if drift.records >= ENOUGH and exceeds(unsure, drift.records, _UNSURE_TO_NOTE) < CHANCE:
        notes.append(
            f"{unsure:,} of {plural(drift.records, 'record')} are unsure, drift or not: labels help where "
            f"precedent review --source {row.name} lists them first"
        )
    clients, contradicts = list[str](), list[bool]()
    for given_by, label in [pair for pair in given if pair[0].startswith(FEEDBACK)][-_MOST_CORRECTIONS:]:
        body = context.history.get(given_by.removeprefix(FEEDBACK).partition(",")[0])
        if body is not None:
            clients.append(client_of(given_by))
            contradicts.append(Verdict.model_validate(body).leans != label)
    return notes + [
        f"corrections by {client} contradict {wrong} of {number} verdicts, far more than those by others: "
        "look at them before the next fit"
        for client, (wrong, number) in outlying_clients(clients, np.array(contradicts)).items()
    ]
