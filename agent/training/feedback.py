"""Corrections of verdicts: each becomes a case at once, and enough of them cause a new fit of the source."""

from __future__ import annotations

from agent.core.records import Case, Label, Precedent, Record, Verdict
from agent.pipeline.context import AppContext
from agent.pipeline.history import load_verdict
from agent.training.learn import Progress, as_case, refit_while_due
from retrieval.casebook import SourceSnapshot

_FEWEST, _SHARE = 5, 0.02
# cosine from which on two vectors are the same, but for rounding
_SAME = 1 - 1e-6


class CorrectedCase(Case):
    """The case that a correction made; ``contradicts``: cases that no comparison tells from it, of the other label."""

    contradicts: tuple[Precedent, ...] = ()


def correct(context: AppContext, verdict_id: str, label: Label) -> CorrectedCase:
    """Make the verdict's record a case labelled ``label``, replacing any label that its content had.

    The case is embedded when the source is next searched, so that storing it needs no model.

    Raises
    ------
    UnknownVerdict
        There is no such verdict.
    """
    verdict = load_verdict(context, verdict_id)
    record: Record = verdict.record
    case_id = context.casebook.relabel(verdict.source, as_case(record, label), given_by=f"feedback on {verdict_id}")
    context.history.corrected(verdict_id, label)
    contradicted = contradicted_cases(verdict, label)
    return CorrectedCase(record=record, label=label, given_by="feedback", case_id=case_id, contradicts=contradicted)


def contradicted_cases(verdict: Verdict, label: Label) -> tuple[Precedent, ...]:
    """The precedents that no comparison tells from the verdict's record and that have another label than ``label``.

    A case with the very content of the record is not among them: the correction replaces its label.
    """
    return tuple(
        precedent
        for precedent in verdict.precedents
        if precedent.similarity >= _SAME and precedent.label != label and precedent.text != verdict.record.text
    )


def refit_due(snapshot: SourceSnapshot) -> bool:
    """Whether a source has cases that were never fitted, or enough changes since its last fit.

    Enough are 2 % of its cases, and at least 5. Each correction is one version of the casebook.
    """
    cases = sum(snapshot.counts.values())
    if snapshot.source_model is None:
        return cases > 0
    return bool(snapshot.version - snapshot.source_model["fitted_on"] >= max(_FEWEST, _SHARE * cases))


def refit_if_due(context: AppContext, verdict_id: str, progress: Progress | None = None) -> int:
    """Fit the source of a corrected verdict again if that is due.

    Returns
    -------
    int
        Changes of the casebook since the fit before, 0 if the source was not fitted.
    """
    snapshot = context.source(load_verdict(context, verdict_id).source)
    changes = snapshot.version - (snapshot.source_model["fitted_on"] if snapshot.source_model else 0)
    return changes if refit_while_due(context, snapshot.name, refit_due, progress) else 0
