"""A verdict in one line, with the limit where the probability alone would mislead."""

from __future__ import annotations

from typing import Any

import pytest

from agent.core.locale import translator
from agent.core.records import Precedent, Provenance, Record, Verdict
from agent.explain.headline import headline

NORMAL_CASE = Precedent(case_id="c3", label="normal", similarity=0.8, text="backup of volume 3 finished")
FAULT_CASE = Precedent(case_id="c9", label="anomalous", similarity=0.8, text="volume 7 is full")


def verdict(text: str = "volume 3 is full, writes are refused", **values: Any) -> Verdict:
    parts: dict[str, Any] = {
        "id": "v0",
        "source": "disks",
        "label": "anomalous",
        "probability": 0.9,
        "unsure_band": (0.3, 0.7),
        "explanation": "",
        "precedents": (FAULT_CASE, NORMAL_CASE),
        "signals": dict.fromkeys(("language", "neighbours", "novelty", "fields")),
        "record": Record(text=text),
        "provenance": Provenance(model=None, model_sha256=None, prompt_sha256="", casebook_version=1),
        "elapsed_ms": 1.0,
    }
    return Verdict(**{**parts, **values})


def test_label_nearest_case_and_what_is_new() -> None:
    assert headline(verdict()) == (
        "Anomalous, 90 %. Most like c9 *volume 7 is full* (anomalous). New here: *full, writes are refused*."
    )


def test_of_cases_equally_near_the_one_with_the_verdicts_label() -> None:
    assert "Most like c3" in headline(verdict(label="normal", probability=0.04))
    assert headline(verdict(label="normal", probability=0.04)).startswith("Normal, 96 %.")


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (
            {"probability": 0.28, "unsure_band": (0.2, 0.27)},
            "Anomalous: 28 % anomalous is above this source's limit of 23 %.",
        ),
        (
            {"label": "normal", "probability": 0.6, "unsure_band": (0.7, 0.8)},
            "Normal: 60 % anomalous is below this source's limit of 75 %.",
        ),
        ({"label": "unsure", "probability": 0.5}, "Unsure, 50 % anomalous."),
        ({"probability": 0.9999}, "Anomalous, >99 %."),
        ({"label": "normal", "probability": 0.0}, "Normal, >99 %."),
        ({"probability": 0.28, "unsure_band": (0.0, 0.0)}, "Anomalous: 28 % anomalous is above"),
    ],
)
def test_the_limit_is_named_where_the_probability_is_on_the_other_side(values: dict[str, Any], text: str) -> None:
    assert headline(verdict(**values)).startswith(text)


def test_far_from_every_case_without_cases_and_marks_in_texts() -> None:
    far = FAULT_CASE.model_copy(update={"similarity": 0.2, "text": "*volume*\nis full"})
    assert "Unlike every case; the nearest is c9 *·volume· is full* (anomalous)." in headline(
        verdict(precedents=(far,))
    )
    assert headline(verdict(precedents=())) == "Anomalous, 90 %."


def test_the_change_that_would_make_a_row_normal() -> None:
    explanation = "anomalous (probability of an anomaly 0.90): would be normal if retries were 1 (it is 9); far away."
    row = Record(text="retries is 9", fields={"retries": 9.0})
    assert headline(verdict(record=row, explanation=explanation)).endswith(
        "Would be normal if retries were 1 (it is 9)."
    )


@pytest.mark.parametrize(
    ("language", "text"), [("ko", "이상, 90 %. 가장 비슷한 사례: c9"), ("zh", "异常, 90 %. 最相似的案例:c9")]
)
def test_in_other_languages(language: str, text: str) -> None:
    assert headline(verdict(), translator(language)).startswith(text)
