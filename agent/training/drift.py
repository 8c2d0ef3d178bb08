"""Drift: whether a source's recent records are still like its cases, and whether its verdicts keep their promise.

Nobody labels what is judged, so this looks at the records themselves: how many have templates that no case has,
against how many of the cases would (the unseen mass, Good 1953); how far the fields have moved (population
stability index over the casebook's quantile knots and known categories); how many verdicts are anomalous or
unsure. Where people corrected verdicts, it counts how often they contradicted them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel

from agent.core.records import Verdict
from agent.pipeline.context import AppContext
from agent.pipeline.history import newest, recent
from retrieval.casebook import SourceRow
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
    """What the last 1,000 verdicts say about a source. Shares are 0 to 1; None: nothing to take a share of.

    ``records``: how many different records they are about, a record's newest verdict counting; ``novel_share``: of
    what these say, how much has templates that no case has, ``novel_expected``: how much would have if they were
    like the cases (both None in a space of fields); ``field_psi``: how far each field moved, 0 not at all;
    ``corrected``: decided verdicts that a person corrected or confirmed, ``contradicted_share``: how many of
    those they contradicted. ``findings``: what to act on, and how; none below 50 records.
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
    """The source's drift.

    Raises:
        UnknownSource: there is no such source.
    """
    row = context.source(source)
    given = recent(context, source, _WINDOW)
    templates = context.casebook.templates(source)
    verdicts = newest(given)
    if not verdicts:
        return Drift(records=0)
    decided = [one for one in given if one.corrected_to and one.verdict.label != "unsure"]
    contradicted = sum(one.corrected_to != one.verdict.label for one in decided)
    cases = sum(row.counts.values())
    novel_share, novel_expected = _novel(row, verdicts, templates)
    found = Drift(
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
        return found
    wrong = contradicted / max(1, sum(one.verdict.label != "unsure" for one in given))
    return found.model_copy(update={"findings": _findings(found, row, wrong, context.settings.risk)})


def _share(verdicts: Sequence[Verdict], label: str) -> float:
    return sum(verdict.label == label for verdict in verdicts) / len(verdicts)


def _novel(row: SourceRow, verdicts: Sequence[Verdict], templates: dict[str, int]) -> tuple[float | None, float | None]:
    """Share of different contents with an unseen template, and that expected: cases alone with theirs (Good-Turing)."""
    if row.space is None or row.space.field_encoder is not None:
        return None, None
    keys = {one.record.content_hash: row.space.key(one.record, one.record.content_hash) for one in verdicts}
    alone = sum(count == 1 for count in templates.values())
    return (
        sum(key not in templates for key in keys.values()) / len(keys),
        alone / sum(templates.values()),
    )


def _field_psi(row: SourceRow, verdicts: Sequence[Verdict]) -> dict[str, float]:
    """Every field's population stability index, the farthest moved first; fields with few values are left out."""
    field_encoder = row.space.field_encoder if row.space else None
    if field_encoder is None:
        return {}
    rows = [features(verdict.record.fields, verdict.record.events) for verdict in verdicts]
    moved = {}
    for name in (*field_encoder.numbers, *field_encoder.categories):
        there = [one.get(name, value_if_absent(name)) for one in rows]
        values = [value for value in there if value is not None]
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
    """Over bins that every fourth knot ends; between any two knots lie equally many cases.

    A value that has several knots has a bin of its own, with the cases from its last knot to the next; a bin that is
    left with none may hold as many as lie between two knots.
    """
    tied = np.r_[False, knots[1:] == knots[:-1]]
    every = knots[_KNOTS_A_BIN:-1:_KNOTS_A_BIN]
    ends = np.unique(np.r_[every, np.nextafter(every[np.isin(every, knots[tied])], -np.inf)])
    cases = np.where(tied[:-1], knots[:-1], (knots[:-1] + knots[1:]) / 2)
    there, expected = (
        np.bincount(np.searchsorted(ends, some, side="left"), minlength=len(ends) + 1) for some in (values, cases)
    )
    shares, one = expected / len(cases), 1 / len(cases)
    shares = np.where(expected == 0, np.minimum(there / len(values), one), shares)
    return psi(there, shares * len(values))


def psi(there: ArrayLike, cases: ArrayLike) -> float:
    """Population stability index of counts by bin; half a record is added to each, so that no bin is empty."""
    p, q = ((np.asarray(counts) + 0.5) / (np.sum(counts) + 0.5 * np.size(counts)) for counts in (there, cases))
    return float(np.sum((p - q) * np.log(p / q)))


def _findings(found: Drift, row: SourceRow, wrong: float, risk: float) -> list[str]:
    """What to act on, each with the command to run. ``wrong``: share of decided verdicts known to be wrong."""
    lately, label_some = f"the last {found.records:,} records", f"precedent review --source {row.name}"
    said = []
    if _far_more(found.novel_share, found.novel_expected, by=0.1):
        said.append(
            f"{_percent(found.novel_share)} of what {lately} say has templates that the casebook has never seen "
            f"({_percent(found.novel_expected)} if they were like the cases): learn them as a source of their own "
            f"if they come from another system, else label some: {label_some}"
        )
    if moved := [f"{name[:_NAME_CHARS]} ({psi:.2f})" for name, psi in found.field_psi.items() if psi > _PSI_ALARM]:
        more = f" and {len(moved) - _SHOWN} more" if len(moved) > _SHOWN else ""
        said.append(
            f"fields of {lately} moved away from the cases' (stability index over {_PSI_ALARM}): "
            f"{', '.join(moved[:_SHOWN])}{more}: learn newer cases, then: precedent sources rebuild {row.name}"
        )
    if found.unsure_share is not None and found.unsure_share > _UNSURE_ALARM:
        said.append(f"{_percent(found.unsure_share)} of {lately} are unsure: label some: {label_some}")
    if _far_more(found.anomalous_share, found.anomalous_expected, by=0.2):
        said.append(
            f"{_percent(found.anomalous_share)} of {lately} are anomalous, {_percent(found.anomalous_expected)} of the "
            "cases are: correct those that are not: precedent correct ID normal"
        )
    if wrong > risk:
        said.append(
            f"people contradicted {_percent(wrong)} of the decided verdicts on {lately}, and no more than "
            f"{_percent(risk)} should be wrong: fit the judge anew: precedent sources rebuild {row.name}"
        )
    return said


def _far_more(share: float | None, expected: float | None, by: float) -> bool:
    return share is not None and expected is not None and share > max(2 * expected, expected + by)


def _percent(share: float | None) -> str:
    return f"{100 * (share or 0.0):.0f} %"
