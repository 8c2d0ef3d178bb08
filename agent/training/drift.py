"""Drift: whether a source's recent records still resemble its cases, and whether its verdicts are still right.

Judged records have no labels, so drift is tested on the records (`agent.training.drift_tests`): the share of templates
that no case has, with the share expected from the cases (unseen mass, Good 1953); the distance to the nearest case;
each field's distribution; and the shares of unsure and anomalous verdicts and their probabilities, against earlier
verdicts of the same fit. Corrections tell how often verdicts were wrong.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from datetime import datetime

import numpy as np
from pydantic import BaseModel

from agent.core.records import Verdict
from agent.pipeline.context import AppContext
from agent.pipeline.history import RecentVerdict, find_verdicts, newest, recent
from agent.training.drift_tests import (
    CHANCE,
    LEAST_DISTANCE,
    LEAST_SHARE,
    DriftTest,
    different_column,
    different_numbers,
    exceeds,
    farther,
    holm,
    more,
    unseen_templates,
    with_share,
)
from agent.training.stability_index import field_psi
from retrieval.casebook import SourceSnapshot
from retrieval.encoding.field_encoder import features, value_if_absent
from retrieval.encoding.representation import Representation
from retrieval.store.copying import occurrences_by_key, sample_of_cases

WINDOW = 1_000
ENOUGH = 50
# earlier verdicts for each recent one; cases and columns that are compared
_EARLIER, _MOST_CASES, _MOST_COLUMNS = 2, 5_000, 256
_UNSURE_ALARM = 0.2
_SHOWN = 3
_NAME_CHARS = 60


class Drift(BaseModel):
    """Drift of a source over its newest 1,000 verdicts.

    Shares are between 0 and 1, or None if there is nothing to take a share of.

    Attributes
    ----------
    records : int
        Different records among the verdicts; of each, the newest verdict counts.
    earlier : int
        Records of the verdicts that the verdicts on them are compared with: the 2,000 before them by the same fit, or
        the older half where there are none.
    novel_share, novel_expected : float or None
        Share of different contents whose template no case has, and the share expected if they resembled the cases.
        None if the source is represented by fields.
    field_psi : dict[str, float]
        Population stability index of each field, the largest first; 0 is no change.
    unsure_share, anomalous_share, anomalous_expected : float or None
    decided, corrected, contradicted : int
        Decided verdicts of the present fit, those that a person corrected or confirmed, and those contradicted.
    contradicted_share : float or None
        Share of corrected ones that the person contradicted.
    tests : list of DriftTest
        None below 50 records.
    findings : list[str]
        What to act on, and how; empty below 50 records.
    """

    records: int
    earlier: int = 0
    novel_share: float | None = None
    novel_expected: float | None = None
    field_psi: dict[str, float] = {}
    unsure_share: float | None = None
    anomalous_share: float | None = None
    anomalous_expected: float | None = None
    decided: int = 0
    corrected: int = 0
    contradicted: int = 0
    contradicted_share: float | None = None
    tests: list[DriftTest] = []
    findings: list[str] = []

    @property
    def alarms(self) -> list[DriftTest]:
        """The tests that found drift."""
        return [test for test in self.tests if test.alarm]

    @property
    def score(self) -> float | None:
        """Minus the decimal logarithm of the smallest p-value of an alarm, at most 16; 0 without, None if untested."""
        if not self.tests:
            return None
        return max((min(16.0, -math.log10(max(test.p_value, 1e-300))) for test in self.alarms), default=0.0)


def measure_drift(context: AppContext, source: str, last: int = WINDOW, since: datetime | None = None) -> Drift:
    """Measure the drift of a source.

    Parameters
    ----------
    last, since
        Which verdicts are recent: so many of the newest, and only those given since then.

    Raises
    ------
    UnknownSource
    """
    row = context.source(source)
    stored, before = _windows(context, row, last, since)
    templates = context.casebook.templates(source)
    verdicts = newest(stored)
    if not verdicts:
        return Drift(records=0)
    of_fit = [entry for entry in stored if _is_of_fit(entry.verdict, row) and entry.verdict.label != "unsure"]
    corrected = [entry for entry in of_fit if entry.corrected_to]
    contradicted = sum(entry.corrected_to != entry.verdict.label for entry in corrected)
    cases = sum(row.counts.values())
    novel_share, novel_expected = _novel(row, verdicts, templates)
    now, earlier = _verdicts_to_compare(row, verdicts, newest(before))
    drift = Drift(
        records=len(verdicts),
        earlier=len(earlier),
        novel_share=novel_share,
        novel_expected=novel_expected,
        field_psi=field_psi(row, verdicts),
        unsure_share=_share(verdicts, "unsure"),
        anomalous_share=_share(verdicts, "anomalous"),
        anomalous_expected=row.counts["anomalous"] / cases if cases else None,
        decided=len(of_fit),
        corrected=len(corrected),
        contradicted=contradicted,
        contradicted_share=contradicted / len(corrected) if corrected else None,
    )
    if len(verdicts) < ENOUGH:
        return drift
    risk = context.settings.risk
    drift.tests = [
        *_test_templates(context, row, verdicts, drift),
        *_test_fields(context, row, verdicts, drift),
        *_test_distances(row, verdicts, templates),
        *_test_verdicts(now, earlier),
        _test_corrections(drift, risk),
    ]
    drift.findings = _findings(drift, risk)
    return drift


def _windows(
    context: AppContext, row: SourceSnapshot, last: int, since: datetime | None
) -> tuple[list[RecentVerdict], list[RecentVerdict]]:
    """The recent verdicts and those before them, newest first."""
    stored = recent(context, row.name, (1 + _EARLIER) * last)
    size = last
    if since is not None:
        size = len(find_verdicts(context, source=row.name, since=since, limit=last))
    return stored[:size], stored[size:]


def _is_of_fit(verdict: Verdict, row: SourceSnapshot) -> bool:
    """Whether the source has had one and the same fit since the verdict was given."""
    model = row.source_model or {}
    versions = (int(model.get(name, 0)) for name in ("fitted_on", "restored_on"))
    return verdict.provenance.casebook_version >= max(versions)


def _verdicts_to_compare(
    row: SourceSnapshot, verdicts: Sequence[Verdict], before: Sequence[Verdict]
) -> tuple[list[Verdict], list[Verdict]]:
    """Recent and earlier verdicts of the present fit; halves of the recent ones where there are no earlier ones."""
    now, earlier = ([v for v in of if _is_of_fit(v, row)] for of in (verdicts, before))
    if len(earlier) < ENOUGH:
        half = len(now) // 2
        now, earlier = now[:half], now[half:]
    return (now, earlier) if min(len(now), len(earlier)) >= ENOUGH else ([], [])


def _test_templates(
    context: AppContext, row: SourceSnapshot, verdicts: Sequence[Verdict], drift: Drift
) -> list[DriftTest]:
    """Whether more records have unseen templates than chance gives, counted by records and by different contents.

    Which of them were drawn alike depends on how cases and records came; so both must be beyond chance.
    """
    if drift.novel_share is None or row.representation is None:
        return []
    keys = [row.representation.key(v.record, v.record.content_hash) for v in verdicts]
    contents = {v.record.content_hash: key for v, key in zip(verdicts, keys, strict=True)}
    p_value = max(
        unseen_templates(context.casebook.templates(row.name), Counter(contents.values())),
        unseen_templates(occurrences_by_key(context.casebook.engine, row.name), Counter(keys)),
    )
    expected = drift.novel_expected or 0.0
    alarm = p_value < CHANCE and drift.novel_share > expected + LEAST_SHARE
    return [DriftTest(of="templates", recent=drift.novel_share, reference=expected, p_value=p_value, alarm=alarm)]


def _test_fields(
    context: AppContext, row: SourceSnapshot, verdicts: Sequence[Verdict], drift: Drift
) -> list[DriftTest]:
    """Each field's recent values against those of the cases, and of as many anomalous cases as there are now.

    People label rare records more often than others. So a field has moved only if it has by both.
    """
    if row.representation is None or row.representation.field_encoder is None:
        return []
    cases = sample_of_cases(context.casebook.engine, row.name, _MOST_CASES)
    reference = [features(case.fields, case.events) for case in cases]
    values = [features(verdict.record.fields, verdict.record.events) for verdict in verdicts]
    filled = Counter(name for of in (reference, values) for row_values in of for name in row_values)
    names = sorted(filled, key=lambda name: (-filled[name], name))[:_MOST_COLUMNS]
    alike = with_share(np.array([case.label == "anomalous" for case in cases]), drift.anomalous_share or 0.0)
    found = []
    for name in names:
        old, new = ([of_row.get(name, value_if_absent(name)) for of_row in of] for of in (reference, values))
        pairs = [different_column(new, old), different_column(new, [old[i] for i in alike])]
        found.append((min(distance for distance, _ in pairs), max(p_value for _, p_value in pairs)))
    corrected = holm([p_value for _, p_value in found])
    return [
        DriftTest(
            of=f"field {name}",
            recent=distance,
            reference=0.0,
            p_value=p_value,
            alarm=p_value < CHANCE and distance > LEAST_DISTANCE,
        )
        for name, (distance, _), p_value in zip(names, found, corrected, strict=True)
    ]


def _test_distances(row: SourceSnapshot, verdicts: Sequence[Verdict], templates: dict[str, int]) -> list[DriftTest]:
    """Whether rows are farther from every case than the cases are from each other."""
    model, representation = row.source_model or {}, row.representation or Representation()
    if representation.field_encoder is None or not model.get("nn_distance_quantiles"):
        return []
    new = [v for v in verdicts if v.precedents and representation.key(v.record, v.record.content_hash) not in templates]
    if len(new) < ENOUGH:
        return []
    nearest = np.array([1 - max(precedent.similarity for precedent in verdict.precedents) for verdict in new])
    distance, p_value = farther(nearest, model["nn_distance_quantiles"], model["templates"])
    alarm = p_value < CHANCE and distance > LEAST_DISTANCE
    return [DriftTest(of="distance", recent=distance, reference=0.0, p_value=p_value, alarm=alarm)]


def _test_verdicts(now: Sequence[Verdict], earlier: Sequence[Verdict]) -> list[DriftTest]:
    """Recent verdicts against earlier ones of the same fit."""
    if not now:
        return []
    tests = []
    for label, either in (("unsure", False), ("anomalous", True)):
        counts = [sum(verdict.label == label for verdict in of) for of in (now, earlier)]
        share, before = counts[0] / len(now), counts[1] / len(earlier)
        p_value = more(counts[0], len(now), counts[1], len(earlier), either=either)
        alarm = p_value < CHANCE and abs(share - before) > LEAST_SHARE
        tests.append(DriftTest(of=label, recent=share, reference=before, p_value=p_value, alarm=alarm))
    distance, p_value = different_numbers(*(np.array([verdict.probability for verdict in of]) for of in (now, earlier)))
    alarm = p_value < CHANCE and distance > LEAST_DISTANCE
    return [*tests, DriftTest(of="probability", recent=distance, reference=0.0, p_value=p_value, alarm=alarm)]


def _test_corrections(drift: Drift, risk: float) -> DriftTest:
    """Whether more decided verdicts are known to be wrong than the promised risk allows."""
    wrong = drift.contradicted / drift.decided if drift.decided else 0.0
    p_value = exceeds(drift.contradicted, drift.decided, risk)
    return DriftTest(of="corrections", recent=wrong, reference=risk, p_value=p_value, alarm=p_value < CHANCE)


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


def _findings(drift: Drift, risk: float) -> list[str]:
    """What to act on, and how."""
    lately = f"the last {drift.records:,} records"
    alarms = {test.of: test for test in drift.alarms}
    findings = []
    if "templates" in alarms:
        findings.append(
            f"{_percent(drift.novel_share)} of what {lately} say has templates that the casebook has never seen "
            f"({_percent(drift.novel_expected)} if they were like the cases): learn them as a source of their own "
            f"if they come from another system, else label some"
        )
    fields = [test for test in drift.alarms if test.of.startswith("field ")]
    if fields:
        fields.sort(key=lambda test: (test.p_value, -test.recent))
        moved = [f"{test.of.removeprefix('field ')[:_NAME_CHARS]} ({test.recent:.2f})" for test in fields]
        rest = f" and {len(moved) - _SHOWN} more" if len(moved) > _SHOWN else ""
        findings.append(
            f"fields of {lately} are distributed otherwise than the cases' (0 is alike, 1 wholly different): "
            f"{', '.join(moved[:_SHOWN])}{rest}: learn newer cases and rebuild the source"
        )
    if "distance" in alarms and not fields:
        findings.append(f"{lately} are farther from every case than the cases are from each other: label some")
    if (test := alarms.get("unsure")) is not None:
        change = f"{_percent(test.recent)} of the newest records are unsure, {_percent(test.reference)} were before"
        findings.append(f"{change}: label some")
    elif exceeds(round((drift.unsure_share or 0.0) * drift.records), drift.records, _UNSURE_ALARM) < CHANCE:
        findings.append(f"{_percent(drift.unsure_share)} of {lately} are unsure: label some")
    findings += _findings_on_verdicts(drift, alarms, lately)
    if (test := alarms.get("corrections")) is not None:
        findings.append(
            f"people contradicted {_percent(test.recent)} of the decided verdicts on {lately}, and no more than "
            f"{_percent(risk)} should be wrong: rebuild the source"
        )
    return findings


def _findings_on_verdicts(drift: Drift, alarms: dict[str, DriftTest], lately: str) -> list[str]:
    """How the verdicts changed."""
    if (test := alarms.get("anomalous")) is not None:
        change = f"{_percent(test.recent)} of the newest records are anomalous, {_percent(test.reference)} were before"
        return [f"{change}: correct those that are not"]
    if _far_more(drift.anomalous_share, drift.anomalous_expected, by=0.2):
        return [
            f"{_percent(drift.anomalous_share)} of {lately} are anomalous, {_percent(drift.anomalous_expected)} of the "
            "cases are: correct those that are not"
        ]
    if "probability" in alarms and not {"unsure", "templates", "distance"} & set(alarms):
        return ["the probabilities of the newest records are distributed otherwise than before: label some"]
    return []


def _far_more(share: float | None, expected: float | None, by: float) -> bool:
    return share is not None and expected is not None and share > max(2 * expected, expected + by)


def _percent(share: float | None) -> str:
    return f"{100 * (share or 0.0):.0f} %"
