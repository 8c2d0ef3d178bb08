"""Every outlier model by name: it ranks, is stored without pickle, and scores a record the same in any company."""

from __future__ import annotations

import io
import random
from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from agent.core.records import Record
from agent.detectors.base import DetectorInput, TrainingCase
from agent.detectors.contrib.catalog import CATALOG, entry
from agent.detectors.contrib.resources import Resources
from agent.detectors.persistence import FittedDetectors
from agent.detectors.registry import InstalledDetector, fit_detectors
from retrieval.types import LABELS, RetrievalResult
from tests.conftest import missing

FIELDS = Resources(by_fields=True)
CLASSICAL = [name for name, entry in CATALOG.items() if entry.on_text]


def _row(x: float, y: float, colour: str) -> DetectorInput:
    fields = {"x": x, "y": y, "colour": colour}
    none = dict.fromkeys(LABELS, 0)
    text = " ".join(f"{name} is {value}" for name, value in fields.items())
    return DetectorInput(Record(text=text, fields=fields), text, text, fields, RetrievalResult((), none, none, None))


def _cases(seed: int, n: int, bad: int) -> list[TrainingCase]:
    """Normal rows have y near 2x; anomalous ones are outside the range of both numbers, and of another colour."""
    rng = random.Random(seed)
    cases = []
    for i in range(n):
        x, far = rng.uniform(1, 9), rng.choice([-1, 1]) * rng.uniform(100, 900)
        row = _row(far, -far, "green") if i < bad else _row(x, 2 * x + rng.gauss(0, 0.3), rng.choice(["red", "blue"]))
        cases.append(TrainingCase(row, i < bad))
    return cases


def _log_odds(detector: InstalledDetector, records: Sequence[DetectorInput]) -> list[float]:
    scored = [signal.log_odds for signal in detector.score(records)]
    assert None not in scored
    return [value for value in scored if value is not None]


@pytest.mark.extras
@pytest.mark.parametrize("name", CLASSICAL)
def test_it_ranks_is_stored_and_scores_each_record_alone(name: str) -> None:
    if CATALOG[name].missing:
        missing(CATALOG[name].extra or "", f"the extra [{CATALOG[name].extra}] is not installed")
    cases = _cases(1, 90, 12)
    folds = np.arange(90) % 5
    fitted, (unseen,) = fit_detectors({name: entry(name).detector(FIELDS)}, cases, [folds])[name]
    anomalous = np.array([case.anomalous for case in cases])
    assert roc_auc_score(anomalous, unseen) > 0.85
    new = _cases(2, 40, 10)
    together = _log_odds(fitted, [case.input for case in new])
    assert roc_auc_score([case.anomalous for case in new], together) > 0.85
    alone = [_log_odds(fitted, [case.input])[0] for case in new[6:12]]
    assert alone == pytest.approx(together[6:12], abs=1e-9)
    packed = FittedDetectors(installed=(fitted,)).dumps()
    with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
        assert all(not arrays[key].dtype.hasobject for key in arrays.files)
    (again,) = FittedDetectors.loads(packed, FIELDS).installed
    assert _log_odds(again, [case.input for case in new]) == pytest.approx(together, abs=1e-9)
    refitted, _ = fit_detectors({name: entry(name).detector(FIELDS)}, cases, [folds])[name]
    assert _log_odds(refitted, [case.input for case in new]) == pytest.approx(together, abs=1e-6)


@pytest.mark.parametrize("name", ["kde", "knn", "rpca"])
def test_normal_cases_alone_are_enough_and_few_are_none(name: str) -> None:
    cases = _cases(3, 60, 0)
    fitted, (unseen,) = fit_detectors({name: entry(name).detector(FIELDS)}, cases, [np.arange(60) % 5])[name]
    # conformal: about one normal case in 25 is at even odds
    assert np.mean(unseen > 0) < 0.1
    assert _log_odds(fitted, [_row(700, -70, "green")])[0] > 0 > _log_odds(fitted, [_row(5, 10, "red")])[0]
    assert fit_detectors({name: entry(name).detector(FIELDS)}, cases[:9], [np.zeros(9)]) == {}
    only_bad = [TrainingCase(case.input, anomalous=True) for case in cases]
    assert fit_detectors({name: entry(name).detector(FIELDS)}, only_bad, [np.zeros(60)]) == {}


def test_rows_of_one_constant_column_and_missing_or_unknown_values() -> None:
    cases = [TrainingCase(_row(1.0, 1.0, "red"), anomalous=False) for _ in range(30)]
    for name in [name for name in CLASSICAL if not CATALOG[name].extra]:
        fitted, (unseen,) = fit_detectors({name: entry(name).detector(FIELDS)}, cases, [np.arange(30) % 5])[name]
        assert np.isfinite(unseen).all()
        assert np.isfinite(_log_odds(fitted, [_row(float("inf"), -1e300, "green")])).all(), name


def test_embeddings_of_texts_are_compared_in_sources_of_tables_too() -> None:
    embedded = list[str]()

    def embed(texts: Sequence[str]) -> list[np.ndarray]:
        embedded.extend(texts)
        return [np.array([1.0, 0.0] if "red" in text else [0.0, 1.0], dtype=np.float32) for text in texts]

    cases = [TrainingCase(_row(1.0, float(i), "red"), anomalous=False) for i in range(30)]
    detector = entry("knn_text").detector(Resources(by_fields=True, embed=embed))
    fitted, _ = fit_detectors({"knn_text": detector}, cases, [np.arange(30) % 5])["knn_text"]
    assert embedded[0] == "x is 1.0 y is 0.0 colour is red"
    red, blue = _log_odds(fitted, [_row(1.0, 99.0, "red"), _row(1.0, 3.0, "blue")])
    assert blue > 0 > red


@pytest.mark.parametrize("name", ["ocsvm", "gmm", "lof", "kmeans"])
def test_out_of_fold_scores_do_not_tell_apart_what_is_alike(name: str) -> None:
    """As many rows as make a mixture of all of them another kind of model than one of four fifths."""
    random = np.random.default_rng(5)
    cases = []
    for number, values in enumerate(random.normal(size=(190, 10))):
        fields = {f"x{i}": float(value) for i, value in enumerate(values)}
        row = _row(0, 0, "red")
        record = DetectorInput(Record(text="r", fields=fields), "r", "r", fields, row.found)
        cases.append(TrainingCase(record, number < 80))
    folds = np.arange(190) % 5
    (_, (unseen,)) = fit_detectors({name: entry(name).detector(FIELDS)}, cases, [folds])[name]
    assert 0.35 < roc_auc_score([case.anomalous for case in cases], unseen) < 0.65
