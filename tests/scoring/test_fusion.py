"""Signals to a probability and a label."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.numerics import expit
from agent.core.prompts import PromptVariant
from agent.core.records import SIGNALS
from agent.scoring.calibration import fit
from agent.scoring.fusion import DEFAULT_WITH_LLM, DEFAULT_WITHOUT_LLM, KNOWN, Fusion, SourceModel, fuse

LOG_ODDS = st.floats(-8, 8)
TAUGHT = SourceModel(DEFAULT_WITH_LLM, DEFAULT_WITHOUT_LLM)


def _cases(n: int, noise: float, seed: int = 0) -> tuple[list[dict[str, float | None]], list[bool]]:
    """Cases whose `neighbours` tells the label and whose `novelty` tells nothing."""
    rng = np.random.default_rng(seed)
    anomalous = rng.random(n) < 0.3
    told = np.where(anomalous, 1.5, -1.5) + noise * rng.standard_normal(n)
    rows = [{"neighbours": float(t), "novelty": float(rng.standard_normal()), "fields": None} for t in told]
    return rows, [bool(a) for a in anomalous]


@given(LOG_ODDS, LOG_ODDS, st.floats(0.1, 4))
def test_more_evidence_for_an_anomaly_never_lowers_the_probability(base: float, other: float, more: float) -> None:
    rows, labels = _cases(60, 1.0)
    learned = fit(DEFAULT_WITH_LLM, [{**row, "language": other} for row in rows], labels, [1.0] * 60, 0.05)
    for name in ("language", "neighbours", "novelty", "fields"):
        signals: dict[str, float | None] = {"language": base, "neighbours": base, "novelty": base, "fields": base}
        raised = {**signals, name: base + more}
        assert learned.log_odds(raised) >= learned.log_odds(signals)


def test_without_labels_the_defaults_stand() -> None:
    assert fit(DEFAULT_WITHOUT_LLM, [], [], [], 0.05) == DEFAULT_WITHOUT_LLM
    one_label = fit(DEFAULT_WITHOUT_LLM, [{"neighbours": 1.0}] * 30, [True] * 30, [1.0] * 30, 0.05)
    assert one_label == DEFAULT_WITHOUT_LLM


def test_a_useless_witness_loses_its_weight_and_a_telling_one_keeps_it() -> None:
    rows, labels = _cases(400, 0.8)
    learned = fit(DEFAULT_WITHOUT_LLM, rows, labels, [1.0] * 400, 0.05)
    assert learned.weights["novelty"] < 0.2
    assert learned.weights["neighbours"] > 1.0


def test_few_cases_move_the_weights_less_than_many() -> None:
    few_rows, few = _cases(12, 0.5)
    many_rows, many = _cases(600, 0.5)
    prior = DEFAULT_WITHOUT_LLM.weights["neighbours"]
    moved_by_few = abs(fit(DEFAULT_WITHOUT_LLM, few_rows, few, [1.0] * 12, 0.05).weights["neighbours"] - prior)
    moved_by_many = abs(fit(DEFAULT_WITHOUT_LLM, many_rows, many, [1.0] * 600, 0.05).weights["neighbours"] - prior)
    assert moved_by_few < moved_by_many


def test_probabilities_are_calibrated_on_unseen_cases() -> None:
    rows, labels = _cases(800, 1.5)
    learned = fit(DEFAULT_WITHOUT_LLM, rows, labels, [1.0] * 800, 0.05)
    fresh_rows, fresh = _cases(4000, 1.5, seed=1)
    p = np.array([expit(learned.log_odds(row)) for row in fresh_rows])
    for low in (0.0, 0.25, 0.5, 0.75):
        inside = (p >= low) & (p < low + 0.25)
        assert abs(p[inside].mean() - np.array(fresh)[inside].mean()) < 0.06


@pytest.mark.parametrize("noise", [1.0, 2.0, 3.0])
def test_the_error_among_decided_records_stays_under_the_risk(noise: float) -> None:
    rows, labels = _cases(600, noise)
    learned = fit(DEFAULT_WITHOUT_LLM, rows, labels, [1.0] * 600, 0.05)
    fresh_rows, fresh = _cases(4000, noise, seed=1)
    told = [learned.label(expit(learned.log_odds(row))) for row in fresh_rows]
    decided = [(label == "anomalous") != true for label, true in zip(told, fresh, strict=True) if label != "unsure"]
    assert len(decided) > 100
    # the widest band is a bound of its own: very noisy cases cannot keep the promise
    assert np.mean(decided) <= (0.065 if learned.half_width < 2.2 else 0.2)


def test_noisier_cases_give_a_wider_unsure_band() -> None:
    widths = []
    for noise in (0.3, 1.5, 3.0):
        rows, labels = _cases(600, noise)
        widths.append(fit(DEFAULT_WITHOUT_LLM, rows, labels, [1.0] * 600, 0.05).half_width)
    assert widths == sorted(widths)
    assert widths[0] < widths[2]


def test_the_label_is_unsure_just_inside_the_band() -> None:
    fusion = Fusion({}, 0.0, half_width=1.0)
    low, high = fusion.band
    assert [fusion.label(p) for p in (low, (low + high) / 2, high)] == ["normal", "unsure", "anomalous"]


def test_a_known_template_is_decided_by_its_counts_alone() -> None:
    signals: dict[str, float | None] = {"language": None, "neighbours": 4.0, "novelty": -4.0, "fields": None}
    probability, fusion = fuse(TAUGHT, signals, known=True)
    assert fusion == KNOWN
    assert probability == pytest.approx(expit(4.0))


def test_with_nothing_heard_it_stands_at_the_threshold_unsure() -> None:
    for judge in (TAUGHT, SourceModel()):
        probability, fusion = fuse(judge, dict.fromkeys(SIGNALS), known=False)
        assert (probability, fusion.label(probability)) == (expit(fusion.threshold), "unsure")


def test_a_judge_survives_json() -> None:
    judge = SourceModel(
        nn_distance_quantiles=(0.1, 0.2),
        templates=7,
        prompt=PromptVariant("watch", 0.5, 4, True),
        model="m",
        language_auc=0.9,
        fitted_on=3,
    )
    assert SourceModel.from_json(judge.to_json()) == judge


@pytest.mark.parametrize(("stored", "read"), [(True, (4, True)), (False, (0, False))])
def test_the_prompt_of_an_earlier_version_is_read(stored: bool, read: tuple[int, bool]) -> None:
    data = {**SourceModel().to_json(), "prompt": {"wording": "watch", "reference": 0.5, "examples": stored}}
    prompt = SourceModel.from_json(data).prompt
    assert (prompt.wording, prompt.reference, prompt.examples, prompt.balanced) == ("watch", 0.5, *read)


def test_the_language_model_is_heard_only_where_its_word_could_change_the_label() -> None:
    judge = replace(TAUGHT, language_range=(-3.0, 3.0))
    assert judge.language_may_decide({"neighbours": 0.5, "novelty": 0.0})
    assert not judge.language_may_decide({"neighbours": 20.0, "novelty": 5.0})
    assert not judge.language_may_decide({"neighbours": -20.0, "novelty": -5.0})
    # the unsure are asked about, even where the label stays: it makes their order better
    wide = replace(
        TAUGHT,
        without_llm=replace(DEFAULT_WITHOUT_LLM, half_width=2.2),
        with_llm=replace(DEFAULT_WITH_LLM, half_width=9.0),
    )
    assert wide.language_may_decide({"neighbours": 1.0, "novelty": 0.0})
    deaf = replace(wide, with_llm=replace(DEFAULT_WITH_LLM, weights={**DEFAULT_WITH_LLM.weights, "language": 0.0}))
    assert not deaf.language_may_decide({"neighbours": 1.0, "novelty": 0.0})
    # without labels nothing is known of the model's range, so that it is asked about all but the clearest
    assert SourceModel().language_may_decide({"neighbours": 5.0, "novelty": 2.0})
    assert SourceModel().language_may_decide({"neighbours": None, "novelty": None})


@given(LOG_ODDS, st.floats(-4, 4), st.floats(-4, 4))
def test_a_model_that_was_not_heard_would_not_have_changed_the_label(near: float, novel: float, word: float) -> None:
    judge = replace(TAUGHT, language_range=(-4.0, 4.0))
    signals: dict[str, float | None] = {"neighbours": near, "novelty": novel}
    if not judge.language_may_decide(signals):
        labels = set()
        for heard in (None, word):
            probability, fusion = fuse(judge, {**signals, "language": heard}, known=False)
            labels.add(fusion.label(probability))
        assert len(labels) == 1


def test_costs_do_not_outvote_a_label_that_was_given_to_the_very_content() -> None:
    for threshold in (-4.6, 4.6):
        judge = replace(TAUGHT, without_llm=replace(DEFAULT_WITHOUT_LLM, threshold=threshold))
        for told, label in ((-2.6, "normal"), (2.6, "anomalous")):
            probability, fusion = fuse(judge, {"neighbours": told}, known=True)
            assert fusion.label(probability) == label


def test_cases_that_were_never_fitted_still_speak() -> None:
    assert "neighbours" in SourceModel.unfitted({"normal": 3, "anomalous": 2}).without_llm.weights
    assert SourceModel.unfitted({"normal": 3, "anomalous": 0}) == SourceModel()
