"""The scikit-learn classifier: scikit-learn's own checks, texts, frames, and where it keeps its cases."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from agent import PrecedentClassifier
from agent.core.settings import settings
from tests.shop import LOG

EXPECTED_TO_FAIL: dict[str, str] = {}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's data directory, in which nothing may appear."""
    monkeypatch.setenv("PRECEDENT_HOME", str(tmp_path / "users"))
    monkeypatch.setenv("PRECEDENT_OFFLINE", "1")
    settings.cache_clear()
    return tmp_path / "users"


@parametrize_with_checks([PrecedentClassifier()], expected_failed_checks=lambda _: EXPECTED_TO_FAIL)
def test_scikit_learns_checks(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.fixture(scope="module")
def lines() -> tuple[list[str], list[str]]:
    pairs = [line.split(" ", 1) for line in LOG.splitlines()]
    return [text for _, text in pairs], ["fault" if label == "FAULT" else "fine" for label, _ in pairs]


def test_texts(lines: tuple[list[str], list[str]], home: Path) -> None:
    texts, labels = lines
    classifier = PrecedentClassifier(normal="fine").fit(texts, labels)
    new = ["GET /basket/9 200 in 3 ms", "disk failure on sd9: input/output error, 2 sectors lost"]
    assert classifier.predict(new).tolist() == ["fine", "fault"]
    assert classifier.classes_.tolist() == ["fault", "fine"]
    assert (classifier.predict_proba(new).argmax(axis=1) == [1, 0]).all()
    assert (classifier.decision_function(new) > 0).tolist() == [True, False]
    verdicts = classifier.judge(np.array(new, dtype=object))
    assert [verdict.label for verdict in verdicts] == ["normal", "anomalous"]
    assert verdicts[0].precedents
    assert not home.exists()


def test_a_copy_judges_alike(lines: tuple[list[str], list[str]]) -> None:
    texts, labels = lines
    classifier = PrecedentClassifier(normal="fine").fit(pd.Series(texts), labels)
    expected = classifier.predict_proba(texts[:8])
    # by its state, as a pickle has it, which scikit-learn's checks try
    np.testing.assert_allclose(copy.deepcopy(classifier).predict_proba(texts[:8]), expected, atol=1e-6)


def test_a_frame_with_categories_and_missing_cells() -> None:
    rng = np.random.default_rng(3)
    fault = np.arange(90) % 6 == 0
    frame = pd.DataFrame({"speed": np.where(fault, 90, 40) + rng.normal(0, 3, 90), "line": rng.choice(["n", "s"], 90)})
    frame.loc[::10, "line"] = None
    classifier = PrecedentClassifier().fit(frame, fault)
    assert classifier.feature_names_in_.tolist() == ["speed", "line"]
    assert (classifier.predict(frame) == fault).mean() > 0.95
    with pytest.raises(ValueError, match="feature names"):
        classifier.predict(frame.rename(columns={"speed": "pace"}))


def test_cross_validation() -> None:
    rng = np.random.default_rng(3)
    rows = np.vstack([rng.normal(0, 1, (40, 3)), rng.normal(4, 1, (20, 3))])
    scores = cross_val_score(PrecedentClassifier(), rows, np.repeat([0, 1], [40, 20]), cv=2, scoring="roc_auc")
    assert scores.min() > 0.95


def test_what_is_wrong_is_named() -> None:
    with pytest.raises(NotFittedError):
        PrecedentClassifier().predict(["a"])
    with pytest.raises(ValueError, match="not one of the classes"):
        PrecedentClassifier(normal="good").fit([[1.0], [2.0]], ["a", "b"])
    with pytest.raises(ValueError, match="Only binary"):
        PrecedentClassifier().fit([[1.0], [2.0], [3.0]], ["a", "b", "c"])
    with pytest.raises(ValueError, match="inconsistent"):
        PrecedentClassifier().fit(["one", "two"], ["a", "b", "a"])
    rows, classes = [[1.0, 2.0], [9.0, 8.0]] * 4, [0, 1] * 4
    with pytest.raises(ValueError, match="model='bogus'"):
        PrecedentClassifier(model="bogus").fit(rows, classes)
    with pytest.raises(TypeError, match="brief must be a str, not int"):
        PrecedentClassifier(brief=5).fit(rows, classes)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="y has missing values"):
        PrecedentClassifier().fit(rows, ["a", None] * 4)
    with pytest.raises(ValueError, match="row 2 of X"):
        PrecedentClassifier().fit(rows, classes).predict([[1.0, 2.0], [np.nan, np.nan]])


def test_lone_surrogates_are_replaced(lines: tuple[list[str], list[str]]) -> None:
    classifier = PrecedentClassifier(normal="fine").fit(*lines)
    assert classifier.predict(["GET /basket/9 200 in 3 ms \ud800"]).shape == (1,)
