"""Drift: whether a source's recent records still resemble its cases, and whether its verdicts are still right.

Judged records have no labels, so drift is tested on the records (`agent.training.drift_tests`): the share of templates
that no case has, with the share expected from the cases (unseen mass, Good 1953); the distance to the nearest case;
each field's distribution; and the shares of unsure and anomalous verdicts and their probabilities, against earlier
verdicts of the same fit. Corrections tell how often verdicts were wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime

import numpy as np

from agent.core.records import Verdict
from agent.pipeline.context import AppContext
from agent.pipeline.history import PastVerdict, find_verdicts, newest
from agent.training.drift_findings import Drift, findings
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
    keys = _template_keys(row, verdicts)
    novel_share, novel_expected = _novel(verdicts, keys, templates)
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
        *_test_templates(context, row, verdicts, keys, templates, drift),
        *_test_fields(context, row, verdicts, drift),
        *_test_distances(row, verdicts, templates),
        *_test_verdicts(now, earlier),
        _test_corrections(drift, risk),
    ]
    drift.findings = findings(drift, risk)
    return drift


def _windows(
    context: AppContext, row: SourceSnapshot, last: int, since: datetime | None
) -> tuple[list[PastVerdict], list[PastVerdict]]:
    """The recent verdicts and those before them, newest first."""
    stored = find_verdicts(context, source=row.name, limit=(1 + _EARLIER) * last)
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


def _template_keys(row: SourceSnapshot, verdicts: Sequence[Verdict]) -> list[str]:
    """The template of each record; empty if the source is represented by fields, or not at all."""
    representation = row.representation
    if representation is None or representation.field_encoder is not None:
        return []
    return [representation.key(verdict.record, verdict.record.content_hash) for verdict in verdicts]


def _test_templates(
    context: AppContext,
    row: SourceSnapshot,
    verdicts: Sequence[Verdict],
    keys: Sequence[str],
    templates: Mapping[str, int],
    drift: Drift,
) -> list[DriftTest]:
    """Whether more records have unseen templates than chance gives, counted by records and by different contents.

    Which of them were drawn alike depends on how cases and records came; so both must be beyond chance.
    """
    if drift.novel_share is None:
        return []
    contents = {v.record.content_hash: key for v, key in zip(verdicts, keys, strict=True)}
    p_value = max(
        unseen_templates(templates, Counter(contents.values())),
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
    # distances to the same cases depend on each other, which the formula does not know
    alarm = p_value < CHANCE / 10 and distance > LEAST_DISTANCE
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
    verdicts: Sequence[Verdict], keys: Sequence[str], templates: Mapping[str, int]
) -> tuple[float | None, float | None]:
    """Observed and expected (Good-Turing: cases whose template occurs once) share of contents with unseen templates."""
    if not keys or not templates:
        return None, None
    contents = {verdict.record.content_hash: key for verdict, key in zip(verdicts, keys, strict=True)}
    singletons = sum(count == 1 for count in templates.values())
    return (
        sum(key not in templates for key in contents.values()) / len(contents),
        singletons / sum(templates.values()),
    )
