"""A person's correction of a verdict: it becomes a case at once and changes the next verdict."""

from __future__ import annotations

from agent.errors import UnknownVerdict, mapped
from agent.learning import as_case
from agent.parts import Parts
from agent.records import Case, Label, Record, Verdict


def recall(parts: Parts, verdict_id: str) -> Verdict:
    """The verdict of that id.

    Raises:
        UnknownVerdict: there is none in the history.
    """
    with mapped():
        body = parts.history.get(verdict_id)
    if body is None:
        raise UnknownVerdict(verdict_id)
    return Verdict.model_validate(body)


def correct(parts: Parts, verdict_id: str, label: Label) -> Case:
    """Make the verdict's record a case labelled ``label``, replacing any label that its content had.

    Raises:
        UnknownVerdict: there is no such verdict.
    """
    verdict = recall(parts, verdict_id)
    record: Record = verdict.record
    with mapped():
        case_id = parts.casebook.relabel(verdict.source, as_case(record, label), given_by=f"feedback on {verdict_id}")
        parts.casebook.sync(verdict.source)
        parts.history.corrected(verdict_id, label)
    return Case(record=record, label=label, given_by="feedback", case_id=case_id)
