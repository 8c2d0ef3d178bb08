"""Which clause of a long text is the most anomalous, and how much it counts."""

from __future__ import annotations

import random

import numpy as np
import pytest

from agent.detectors.clauses import ClauseModel, Suspicion
from agent.detectors.neighbours import bounded
from agent.detectors.persistence import FittedDetectors
from retrieval.text.masking import mask
from tests.machine_hall import BAD, FAULT, GOOD, THINGS


def texts(patterns: list[str]) -> list[str]:
    return [mask(pattern.format(thing, n=7)) for pattern in patterns for thing in THINGS]


@pytest.fixture(scope="module")
def model() -> ClauseModel:
    normal, anomalous = texts(GOOD), texts(BAD)
    fitted = ClauseModel.fit([*normal, *anomalous], np.array([False] * len(normal) + [True] * len(anomalous)))
    assert fitted is not None
    return fitted


def padded(fault: str, count: int) -> str:
    rng = random.Random(count)
    lines = [rng.choice(texts(GOOD)) for _ in range(count)]
    return " ".join([*lines[: count // 2], fault, *lines[count // 2 :]])


@pytest.mark.parametrize("count", [2, 4, 30, 200])
def test_a_fault_is_found_in_any_amount_of_normal_text(model: ClauseModel, count: int) -> None:
    found = model.suspicions(padded(FAULT, count))[0]
    assert min(found.log_odds, found.bound) > 0, found
    assert "motor failed" in found.clause


def test_normal_text_is_not_suspicious(model: ClauseModel) -> None:
    assert model.suspicions(padded("", 200)) == []
    assert all(found.log_odds < 0 for found in model.suspicions(padded("chimney reports a steady load", 20)))
    assert model.suspicions("") == []


def test_an_entry_is_compared_as_a_record_with_all_that_belongs_to_it(model: ClauseModel) -> None:
    found = model.suspicions("<time> belt reports a steady load <time> in hall two: chimney is on fire <time> and more")
    assert "<time> in hall two: chimney is on fire" in found[0].records


def test_many_new_clauses_make_one_of_them_less_sure(model: ClauseModel) -> None:
    words = [f"{a}{b}{c}o" for a in "bdgk" for b in "aeiu" for c in "lmnr"]
    random.Random(1).shuffle(words)
    new = "; ".join(" ".join(words[i : i + 3]) for i in range(0, 63, 3))
    few, many = model.suspicions(padded(FAULT, 3))[0], model.suspicions(f"{padded(FAULT, 3)}; {new}")[0]
    assert many.bound < few.bound
    assert many.log_odds == pytest.approx(few.log_odds)


def test_only_the_number_of_clauses_never_makes_a_fault_normal() -> None:
    assert Suspicion(3.0, -4.0, "x", ()).combined(1.0, 3.0) == pytest.approx(-0.5)
    assert Suspicion(3.0, 2.0, "x", ()).combined(2.0, 3.0) == pytest.approx(2.0)
    assert Suspicion(9.0, -9.0, "x", ()).combined(-5.0, 3.0) > -3.0
    assert Suspicion(-2.0, -4.0, "x", ()).combined(-2.0, 1.0) < 0
    assert Suspicion(-3.0, -4.0, "x", ()).combined(2.0, 1.0) > -1.0, "as a record it would be anomalous"


def test_normal_cases_alone_tell_what_is_new() -> None:
    normal = texts(GOOD)
    fitted = ClauseModel.fit(normal, np.zeros(len(normal), np.bool_))
    assert fitted is not None
    found = fitted.suspicions(padded("xylophone quartz jumbled", 20))
    assert found[0].log_odds > 2
    assert "xylophone" in found[0].clause
    assert fitted.suspicions(padded("belt reports a steady load", 20)) == []
    loaded = FittedDetectors.loads(FittedDetectors(clauses=fitted).dumps()).clauses
    assert loaded is not None
    assert loaded.suspicions(padded("xylophone quartz jumbled", 20)) == found


def test_it_needs_cases() -> None:
    normal = texts(GOOD)
    assert ClauseModel.fit([], np.zeros(0, np.bool_)) is None
    assert ClauseModel.fit(normal, np.ones(len(normal), np.bool_)) is None
    same = ClauseModel.fit(normal * 2, np.arange(2 * len(normal)) >= len(normal))
    assert same is None, "anomalous cases without any word of their own"


def test_the_text_of_a_case_is_suspicious_whatever_its_words() -> None:
    # every word and every run of four words is known to be normal
    normal = [*texts(GOOD), "the pump was stopped by the crew at noon", "by the crew at noon the hall was cleaned"]
    fault = "the pump was stopped by the crew at noon the hall was cleaned"
    labels = np.array([False] * len(normal) + [True] * (1 + len(texts(BAD))))
    fitted = ClauseModel.fit([*normal, *texts(BAD), fault], labels)
    assert fitted is not None
    assert fitted.suspicions(padded(fault, 20))[0].clause == fault
    assert fault in fitted.suspicions(padded(fault, 20))[0].records


def test_a_model_of_an_earlier_version_is_loaded(model: ClauseModel) -> None:
    state = {name: value for name, value in model.dumps().items() if name != "entries"}
    assert ClauseModel.loads(state).suspicions(padded(FAULT, 9))[0].log_odds > 0


def test_long_texts_have_more_places(model: ClauseModel) -> None:
    clauses = [f"{a}{b}lo {b}{a}no seal ruptured" for a in "bdgkpt" for b in "aeiou"]
    assert len(model.suspicions(padded("; ".join(clauses), 20))) > 12


def test_it_is_stored_and_loaded(model: ClauseModel) -> None:
    loaded = FittedDetectors.loads(FittedDetectors(clauses=model).dumps()).clauses
    assert loaded is not None
    text = padded(FAULT, 9)
    assert loaded.suspicions(text) == model.suspicions(text)
    assert FittedDetectors.loads(FittedDetectors().dumps()).clauses is None


def test_far_from_every_case_nothing_is_sure() -> None:
    assert bounded(9.0, 0.6, reach=0.5) == 9.0
    assert bounded(9.0, 0.67, reach=0.5) < 4.1
    assert bounded(-9.0, 0.67, reach=0.5) > -4.1
    assert bounded(9.0, 0.67, reach=0.5) > bounded(1.0, 0.67, reach=0.5), "they still rank"
    assert bounded(9.0, 0.1, reach=0.0) == 0.0
