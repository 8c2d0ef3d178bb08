"""A sentence of a model is shown only if it does not contradict the verdict that it is about."""

from __future__ import annotations

import pytest

from agent.core.records import Precedent, Provenance, Record, Verdict, VerdictLabel
from agent.explain.meaning import contradiction

FACTS = (
    "decided by the precedents' labels (weighed +4.0, in all +3.0)",
    "runtime is 345, above all (61 to 80.5)",
    "nearest anomalous case: c45 (similarity 0.83) “killed by signal 9, lower bound”",
    "nearest normal case: c7 (similarity 0.41) “worker started”",
    "it is farther from every case than 90 % of the cases are from each other",
)


def verdict(label: VerdictLabel) -> Verdict:
    return Verdict(
        id="v1",
        source="shop",
        label=label,
        probability={"anomalous": 0.95, "normal": 0.03, "unsure": 0.5}[label],
        unsure_band=(0.3, 0.7),
        explanation="",
        precedents=(
            Precedent(case_id="c45", label="anomalous", similarity=0.83, text="killed by signal 9, lower bound"),
            Precedent(case_id="c7", label="normal", similarity=0.41, text="worker started"),
        ),
        signals={"language": None, "neighbours": 4.0, "novelty": 1.0, "fields": None},
        record=Record(text="worker 3 was killed by signal 9"),
        provenance=Provenance(model=None, model_sha256=None, prompt_sha256="0", casebook_version=1),
        elapsed_ms=1.0,
    )


@pytest.mark.parametrize(
    ("label", "sentence"),
    [
        ("anomalous", "The record is anomalous because it is most like c45."),
        ("anomalous", "It is anomalous, and not normal."),
        ("anomalous", "It does not resemble the nearest normal case c7."),
        ("anomalous", "The runtime of 345 is above its normal range."),
        ("anomalous", "The record is unlike normal records."),
        ("anomalous", "It would be normal if the runtime were 80."),
        ("anomalous", "It is closer to anomalous cases than to normal ones."),
        ("anomalous", "It is farther from every case than 90 % of them."),
        ("anomalous", "Case c45 is anomalous and c7 is normal."),
        ("anomalous", "The nearest case is labelled anomalous."),
        ("anomalous", "It says “killed by signal 9”."),
        ("anomalous", "The worker was killed."),
        ("normal", "The record is normal."),
        ("normal", "There is no anomaly in it."),
        ("normal", "The probability of an anomaly is 0.03."),
        ("normal", "It isn't anomalous."),
        ("unsure", "The verdict is unsure."),
        ("unsure", "It is called neither normal nor anomalous."),
        ("unsure", "It leans towards anomalous."),
    ],
)
def test_what_the_verdict_says_may_be_said(label: VerdictLabel, sentence: str) -> None:
    assert contradiction(sentence, verdict(label), FACTS) is None


@pytest.mark.parametrize(
    ("label", "sentence", "what"),
    [
        ("anomalous", "The record is normal.", "the label"),
        ("anomalous", "This is a normal event.", "the label"),
        ("anomalous", "The verdict is not anomalous.", "the label"),
        ("anomalous", "There is no anomaly here.", "the label"),
        ("anomalous", "The worker was killed, so it is harmless.", "the label"),
        ("anomalous", "It is uncertain.", "the label"),
        ("normal", "The record is anomalous.", "the label"),
        ("normal", "It looks suspicious.", "the label"),
        ("normal", "The record isn't normal.", "the label"),
        ("unsure", "The record is anomalous.", "the label"),
        ("unsure", "It is normal.", "the label"),
        ("anomalous", "Case c45 is normal.", "the label of a case"),
        ("anomalous", "The anomalous case c7 is near.", "the label of a case"),
        ("anomalous", "The nearest case is labelled normal.", "the label of a case"),
        ("anomalous", "It is closer to normal cases.", "a direction"),
        ("anomalous", "It is farther from anomalous cases than from others.", "a direction"),
        ("anomalous", "The runtime of 345 is below all others.", "a direction"),
        ("anomalous", "It is closer to every case than 90 % of them.", "a direction"),
        ("anomalous", "It says “killed by signal 11”.", "a quotation"),
        ("anomalous", 'It says "disk full".', "a quotation"),
    ],
)
def test_what_contradicts_the_verdict_is_named(label: VerdictLabel, sentence: str, what: str) -> None:
    assert contradiction(sentence, verdict(label), FACTS) == what
