"""Drift: whether a source's recent records still resemble its cases, and whether its verdicts are still right.

Judged records have no labels, so drift is measured on the records: the share with templates that no case has, compared
with the share expected from the cases (unseen mass, Good 1953); the population stability index of each field over the
casebook's quantiles and categories; the shares of anomalous and unsure verdicts. Corrections tell how often verdicts
were wrong.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel

from agent.core.records import Verdict
from agent.pipeline.context import AppContext
from agent.pipeline.history import newest, recent
from retrieval.casebook import SourceSnapshot
from retrieval.encoding.field_encoder import MOST_CATEGORIES, features, value_if_absent

_WINDOW = 1_000
_ENOUGH = 50
_PSI_ALARM = 0.25
# by chance alone, the index times this is over 32 for one field in 20,000 (chi-squared, seven degrees of freedom)
_ENOUGH_VALUES = 128
_UNSURE_ALARM = 0.2
_KNOTS_A_BIN = 4
_SHOWN = 3
_NAME_CHARS = 60


class Drift(BaseModel):
    """Drift of a source over its newest 1,000 verdicts.

    Shares are between 0 and 1, or None if there is nothing to take a share of.

    Attributes
    ----------
    records : int
        Different records among the verdicts; of each, the newest verdict counts.
    novel_share, novel_expected : float or None
        Share of different contents whose template no case has, and the share expected if they resembled the cases.
        None if the source is represented by fields.
    field_psi : dict[str, float]
        Population stability index of each field, the largest first; 0 is no change.
    unsure_share, anomalous_share, anomalous_expected : float or None
    corrected : int
        Decided verdicts that a person corrected or confirmed.
    contradicted_share : float or None
        Share of those that the person contradicted.
    findings : list[str]
        What to act on, and how; empty below 50 records.
    """

    records: int
    novel_share: float | None = None
    novel_expected: float | None = None
    field_psi: dict[str, float] = {}
    unsure_share: float | None = None
    anomalous_share: float | None = None
    anomalous_expected: float | None = None
    corrected: int = 0
    contradicted_share: float | None = None
    findings: list[str] = []


def measure_drift(context: AppContext, source: str) -> Drift:
    """Measure the drift of a source.

    Raises
    ------
    UnknownSource
    """
    row = context.source(source)
    stored = recent(context, source, _WINDOW)
    templates = context.casebook.templates(source)
    verdicts = newest(stored)
    if not verdicts:
        return Drift(records=0)
    decided = [entry for entry in stored if entry.corrected_to and entry.verdict.label != "unsure"]
    contradicted = sum(entry.corrected_to != entry.verdict.label for entry in decided)
    cases = sum(row.counts.values())
    novel_share, novel_expected = _novel(row, verdicts, templates)
    drift = Drift(
        records=len(verdicts),
        novel_share=novel_share,
        novel_expected=novel_expected,
        field_psi=_field_psi(row, verdicts),
        unsure_share=_share(verdicts, "unsure"),
        anomalous_share=_share(verdicts, "anomalous"),
        anomalous_expected=row.counts["anomalous"] / cases if cases else None,
        corrected=len(decided),
        contradicted_share=contradicted / len(decided) if decided else None,
    )
    if len(verdicts) < _ENOUGH:
        return drift
    wrong = contradicted / max(1, sum(entry.verdict.label != "unsure" for entry in stored))
    return drift.model_copy(update={"findings": _findings(drift, wrong, context.settings.risk)})


def _share(verdicts: Sequence[Verdict], label: str) -> float:
    return sum(verdict.label == label for verdict in verdicts) / len(verdicts)


def _novel(
    row: SourceSnapshot, verdicts: Sequence[Verdict], templates: dict[str, int]
) -> tuple[float | None, float | None]:
    """Observed and expected (Good-Turing: cases whose template occurs once) share of contents with unseen templates."""
    if row.representation is None or row.representation.field_encoder is not None or not templates:
        return None, None
    keys = {
        verdict.record.content_hash: row.representation.key(verdict.record, verdict.record.content_hash)
        for verdict in verdicts
    }
    singletons = sum(count == 1 for count in templates.values())
    return (
        sum(key not in templates for key in keys.values()) / len(keys),
        singletons / sum(templates.values()),
    )


def _field_psi(row: SourceSnapshot, verdicts: Sequence[Verdict]) -> dict[str, float]:
    """Population stability index of each field with enough values, the largest first."""
    field_encoder = row.representation.field_encoder if row.representation else None
    if field_encoder is None:
        return {}
    rows = [features(verdict.record.fields, verdict.record.events) for verdict in verdicts]
    moved = {}
    for name in (*field_encoder.numbers, *field_encoder.categories):
        column = [row_features.get(name, value_if_absent(name)) for row_features in rows]
        values = [value for value in column if value is not None]
        if len(values) < _ENOUGH_VALUES:
            continue
        if name in field_encoder.numbers:
            numbers = [float(value) for value in values if not isinstance(value, str)]
            moved[name] = _number_psi(np.asarray(field_encoder.numbers[name]), np.asarray(numbers))
        elif len(known := field_encoder.categories[name]) < MOST_CATEGORIES:
            unseen = sum(str(value) not in known for value in values)
            moved[name] = psi([len(values) - unseen, unseen], [field_encoder.fitted_on, 0])
    return dict(sorted(moved.items(), key=lambda item: -item[1]))


def _number_psi(knots: NDArray[np.float64], values: NDArray[np.float64]) -> float:
    """Population stability index of ``values``, shape (n,), over bins that end at every fourth quantile knot.

    Equally many cases lie between any two knots. A value with several knots has a bin of its own, with the cases up to
    the next knot; a bin without cases may hold as many as lie between two knots.
    """
    tied = np.r_[False, knots[1:] == knots[:-1]]
    every = knots[_KNOTS_A_BIN:-1:_KNOTS_A_BIN]
    ends = np.unique(np.r_[every, np.nextafter(every[np.isin(every, knots[tied])], -np.inf)])
    cases = np.where(tied[:-1], knots[:-1], (knots[:-1] + knots[1:]) / 2)
    observed, expected = (
        np.bincount(np.searchsorted(ends, x, side="left"), minlength=len(ends) + 1) for x in (values, cases)
    )
    shares = np.where(expected == 0, np.minimum(observed / len(values), 1 / len(cases)), expected / len(cases))
    return psi(observed, shares * len(values))


def psi(observed: ArrayLike, expected: ArrayLike) -> float:
    """Population stability index of two histograms.

    Parameters
    ----------
    observed, expected : array_like of shape (n_bins,)
        Counts; half a record is added to each, so that no bin is empty.
    """
    p, q = ((np.asarray(counts) + 0.5) / (np.sum(counts) + 0.5 * np.size(counts)) for counts in (observed, expected))
    return float(np.sum((p - q) * np.log(p / q)))


def _findings(drift: Drift, wrong: float, risk: float) -> list[str]:
    """What to act on, and how; ``wrong`` is the share of decided verdicts known to be wrong."""
    lately = f"the last {drift.records:,} records"
    findings = []
    if _far_more(drift.novel_share, drift.novel_expected, by=0.1):
        findings.append(
            f"{_percent(drift.novel_share)} of what {lately} say has templates that the casebook has never seen "
            f"({_percent(drift.novel_expected)} if they were like the cases): learn them as a source of their own "
            f"if they come from another system, else label some"
        )
    if moved := [f"{name[:_NAME_CHARS]} ({psi:.2f})" for name, psi in drift.field_psi.items() if psi > _PSI_ALARM]:
        more = f" and {len(moved) - _SHOWN} more" if len(moved) > _SHOWN else ""
        findings.append(
            f"fields of {lately} moved away from the cases' (stability index over {_PSI_ALARM}): "
            f"{', '.join(moved[:_SHOWN])}{more}: learn newer cases and rebuild the source"
        )
    if drift.unsure_share is not None and drift.unsure_share > _UNSURE_ALARM:
        findings.append(f"{_percent(drift.unsure_share)} of {lately} are unsure: label some")
    if _far_more(drift.anomalous_share, drift.anomalous_expected, by=0.2):
        findings.append(
            f"{_percent(drift.anomalous_share)} of {lately} are anomalous, {_percent(drift.anomalous_expected)} of the "
            "cases are: correct those that are not"
        )
    if wrong > risk:
        findings.append(
            f"people contradicted {_percent(wrong)} of the decided verdicts on {lately}, and no more than "
            f"{_percent(risk)} should be wrong: rebuild the source"
        )
    return findings


def _far_more(share: float | None, expected: float | None, by: float) -> bool:
    return share is not None and expected is not None and share > max(2 * expected, expected + by)


def _percent(share: float | None) -> str:
    return f"{100 * (share or 0.0):.0f} %"
