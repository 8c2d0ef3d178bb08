"""The threshold between normal and anomalous: chosen on the cases, for what was asked."""

from __future__ import annotations

import math

import numpy as np
import pytest

from agent.core.numerics import sigmoid
from agent.core.records import Provenance, Record, Verdict
from agent.scoring.calibration import Objective, fit
from agent.scoring.fusion import DEFAULT_CHEAP
from agent.training.evaluation import evaluate

OVERLAP = 1.2


def _cases(n: int, seed: int) -> tuple[list[dict[str, float | None]], list[bool]]:
    """One in ten anomalous, and hard to tell, so that thresholds differ by what they are for."""
    rng = np.random.default_rng(seed)
    anomalous = rng.random(n) < 0.1
    told = np.where(anomalous, OVERLAP, -OVERLAP) + 1.5 * rng.standard_normal(n)
    return [{"neighbours": float(one), "novelty": 0.0, "fields": None} for one in told], [bool(a) for a in anomalous]


def _figures(said: str) -> tuple[float, float, float]:
    """F1, accuracy and mean cost (1 a false alarm, 10 a missed anomaly) on fresh cases."""
    rows, labels = _cases(3000, 0)
    fitted = fit(DEFAULT_CHEAP, rows, labels, [1.0] * len(rows), 0.05, Objective.parse(said))
    fresh, truth = _cases(6000, 1)
    told = np.array([fitted.log_odds(row) >= fitted.threshold for row in fresh])
    real = np.array(truth)
    hits, alarms, missed = (told & real).sum(), (told & ~real).sum(), (~told & real).sum()
    return 2 * hits / (2 * hits + alarms + missed), (told == real).mean(), (alarms + 10 * missed) / len(real)


def test_each_objective_is_best_at_what_it_is_for() -> None:
    by = {said: _figures(said) for said in ("f1", "accuracy", "cost:1,10")}
    assert max(by, key=lambda said: by[said][0]) == "f1"
    assert max(by, key=lambda said: by[said][1]) == "accuracy"
    assert min(by, key=lambda said: by[said][2]) == "cost:1,10"


def test_costs_are_where_both_mistakes_cost_the_same() -> None:
    assert Objective.parse("cost:1,9").least_cost == pytest.approx(math.log(1 / 9))
    assert Objective.parse("accuracy").least_cost == 0


@pytest.mark.parametrize(
    "said", ["", "F1", "cost", "cost:1", "cost:0,1", "cost:-1,2", "cost:1,2,3", "recall", "cost:1,x"]
)
def test_what_is_no_objective_is_refused(said: str) -> None:
    with pytest.raises(ValueError, match=r"none of f1, accuracy, cost:FP,FN"):
        Objective.parse(said)


def test_an_unsure_verdict_leans_to_its_half_of_the_band() -> None:
    rows, labels = _cases(3000, 0)
    fitted = fit(DEFAULT_CHEAP, rows, labels, [1.0] * len(rows), 0.01, Objective.parse("cost:1,10"))
    assert fitted.threshold < -2
    below, above = (sigmoid(fitted.threshold + step) for step in (-0.05, 0.05))
    verdicts = [
        Verdict(
            id="v",
            source="s",
            label=fitted.label(probability),
            probability=probability,
            unsure_band=fitted.band,
            explanation="",
            signals=dict.fromkeys(("language", "neighbours", "novelty", "fields")),
            record=Record(text="x"),
            provenance=Provenance(model=None, model_sha256=None, prompt_sha256="", casebook_version=1),
            elapsed_ms=1.0,
        )
        for probability in (below, above)
    ]
    assert [verdict.label for verdict in verdicts] == ["unsure", "unsure"]
    assert [verdict.leans for verdict in verdicts] == ["normal", "anomalous"]
    figures = evaluate(verdicts, [False, True], 1.0)
    assert (figures.accuracy, figures.f1, figures.coverage) == (1.0, 1.0, 0.0)


def test_of_thresholds_with_as_good_an_f1_the_most_accurate_is_taken() -> None:
    # with the middle group told anomalous F1 is .860 with 130 mistakes, with it normal .857 with 100
    groups = [(4.0, True, 300), (0.0, True, 100), (0.0, False, 130), (-4.0, False, 600)]
    rows, labels = [], []
    for told, anomalous, n in groups:
        rows += [{"neighbours": told, "novelty": 0.0, "fields": None}] * n
        labels += [anomalous] * n
    fitted = fit(DEFAULT_CHEAP, rows, labels, [1.0] * len(rows), 0.05, Objective.parse("f1"))
    assert fitted.log_odds(rows[350]) < fitted.threshold < fitted.log_odds(rows[0])
