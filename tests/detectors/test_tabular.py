"""What trees, outlier_score, next events and texts learn from cases, on records that they have not seen."""

from __future__ import annotations

import random

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from agent.detectors.persistence import FittedDetectors
from agent.detectors.sequence import SequenceModel
from agent.detectors.tabular import TabularModel
from agent.detectors.text_classifier import TextClassifier, Texts
from retrieval.encoding.session_block import SessionBlock

Row = dict[str, float | str | None]


def _rows(n: int, seed: int, share: float = 0.2) -> tuple[list[Row], list[bool]]:
    """Anomalous where the ratio of two numbers is high; a number that is missing, and a category, say nothing."""
    rng = random.Random(seed)
    rows: list[Row] = []
    labels = []
    for _ in range(n):
        bad = rng.random() < share
        size = 10 ** rng.uniform(1, 5)
        row: Row = {"size": size, "seconds": size / (rng.uniform(1, 3) if bad else rng.uniform(5, 20))}
        row |= {"spare": None if rng.random() < 0.3 else rng.random(), "zone": rng.choice(["a", "b", "c"])}
        rows.append(row)
        labels.append(bad)
    return rows, labels


def _session(rng: random.Random, kind: str = "") -> list[str]:
    body = [step for _ in range(rng.randint(1, 4)) for step in ("open", "read block 7", "close")]
    if kind == "order":
        # the same events as often, in another order
        body[0], body[1] = body[1], body[0]
    if kind == "count":
        body += ["read block 9"] * 12
    return ["login", *body, *(["wipe"] if kind == "unseen" else []), "logout"]


def _fit(rows: list[Row], labels: list[bool], kinds: list[str | None] | None = None) -> TabularModel:
    n = len(rows)
    model, _ = TabularModel.fit(rows, [()] * n, labels, kinds or [None] * n, [1] * n)
    assert model is not None
    return model


def _auc(model: TabularModel, rows: list[Row], labels: list[bool], which: int) -> float:
    return float(roc_auc_score(labels, [one[which] for one in model.signals(rows, [()] * len(rows))]))


def test_trees_tell_unseen_rows_and_survive_the_store() -> None:
    model = _fit(*_rows(500, 1))
    fresh, truth = _rows(400, 2)
    assert _auc(model, fresh, truth, 0) > 0.97
    kept = FittedDetectors.loads(FittedDetectors(fields=model).dumps()).fields
    assert kept is not None
    assert kept.signals(fresh, [()] * 400) == model.signals(fresh, [()] * 400)


def test_one_row_is_told_as_among_many() -> None:
    model = _fit(*_rows(300, 1))
    fresh, _ = _rows(50, 2)
    many = model.signals(fresh, [()] * 50)
    for row, (trees, odd) in zip(fresh, many, strict=True):
        alone = model.signals([row], [()])[0]
        assert alone == pytest.approx((trees, odd), abs=1e-9)


def test_with_normal_rows_alone_what_is_odd_stands_out() -> None:
    normal, labels = _rows(400, 1, share=0.0)
    model = _fit(normal, labels)
    assert not model.supervised
    fresh, truth = _rows(300, 2)
    assert _auc(model, fresh, truth, 1) > 0.8
    odd = [one[1] for one, bad in zip(model.signals(fresh, [()] * 300), truth, strict=True) if not bad]
    # about two normal rows in a hundred are as odd as even odds
    assert np.mean(np.array(odd) > 0) < 0.06


def test_a_number_far_outside_of_all_cases_is_never_confidently_normal() -> None:
    rows, labels = _rows(400, 1)
    model = _fit(rows, labels)
    (normal,) = [row for row, bad in zip(rows, labels, strict=True) if not bad][:1]
    trees, odd = model.signals([{**normal, "size": 1e12, "seconds": 1e11}], [()])[0]
    assert trees is not None
    assert trees > 2
    assert odd > 2


@pytest.mark.parametrize("step", [7.0, -7.0])
def test_how_far_a_counter_has_gone_on_is_no_anomaly(step: float) -> None:
    rows, labels = _rows(400, 1)
    model = _fit([{**row, "counter": step * i} for i, row in enumerate(rows)], labels)
    (normal,) = [row for row, bad in zip(rows, labels, strict=True) if not bad][:1]
    (trees, _), (beyond, _) = model.signals([{**normal, "counter": step * i} for i in (399, 1e6)], [(), ()])
    assert trees is not None
    assert beyond is not None
    assert max(trees, beyond) < 0


@pytest.mark.parametrize("step", [7.0, -7.0])
def test_where_a_counter_stands_makes_no_later_row_anomalous(step: float) -> None:
    rows, labels = _rows(400, 1)
    order = np.argsort(labels, kind="stable").tolist()
    model = _fit([{**rows[i], "counter": step * place} for place, i in enumerate(order)], [labels[i] for i in order])
    fresh, truth = _rows(300, 2)
    later: list[Row] = [{**row, "counter": step * (1_000 + i)} for i, row in enumerate(fresh)]
    trees = np.array([signals[0] for signals in model.signals(later, [()] * 300)], float)
    assert np.mean(trees[~np.array(truth)] > 0) < 0.1
    assert _auc(model, later, truth, 0) > 0.9


@pytest.mark.parametrize("step", [7.0, -7.0])
def test_nor_with_normal_rows_alone(step: float) -> None:
    rows, labels = _rows(400, 1, share=0.0)
    model = _fit([{**row, "counter": step * i} for i, row in enumerate(rows)], labels)
    fresh, _ = _rows(50, 3, share=0.0)
    first, later = ([{**row, "counter": step * (i + start)} for i, row in enumerate(fresh)] for start in (0, 1_000))
    assert model.signals(later, [()] * 50) == model.signals(first, [()] * 50)


def test_rows_that_differ_in_an_id_alone_make_no_other_row_odd() -> None:
    rows, labels = _rows(300, 1)
    twice: list[Row] = [{**row, "id": f"x{copy}{i}"} for copy in "ab" for i, row in enumerate(rows)]
    model, fresh = _fit(twice, labels * 2), _rows(200, 2, share=0.0)[0]
    odd = [signals[1] for signals in model.signals([{**row, "id": f"y{i}"} for i, row in enumerate(fresh)], [()] * 200)]
    assert np.mean(np.array(odd, float) > 0) < 0.15


def test_rows_that_say_nothing_and_numbers_beyond_all_measure_are_no_error() -> None:
    names: list[Row] = [{"name": f"only {i}"} for i in range(40)]
    assert TabularModel.fit(names, [()] * 40, [i % 4 == 0 for i in range(40)], [None] * 40, [1] * 40) == (None, None)
    rows, labels = _rows(100, 1)
    rows[3] = {**rows[3], "size": 1e300, "seconds": -1e300}
    trees, odd = _fit(rows, labels).signals([{"size": -1e305, "seconds": 1e305}], [()])[0]
    assert trees is not None
    assert np.isfinite([trees, odd]).all()


def test_a_column_with_a_value_in_one_row_is_no_error() -> None:
    rows = [{"x": float(i % 17), "e": 1.0 if i == 5 else None} for i in range(200)]
    bad = [i % 4 == 0 for i in range(200)]
    model, _ = TabularModel.fit(rows, [()] * 200, bad, [None] * 200, [1] * 200)
    assert model is not None


def test_a_kind_that_no_case_has_is_told_worse_than_a_known_one_and_fusion_is_told_so() -> None:
    rng = random.Random(3)
    rows: list[Row] = [{f"n{i}": rng.gauss(0, 1) for i in range(6)} for _ in range(900)]
    kinds: list[str | None] = [None] * 900
    for i in range(0, 900, 3):
        rows[i][f"n{i % 6}"] = 6.0
        kinds[i] = f"kind {i % 6}"
        # five kinds at least
        rows[i][f"n{(i // 3) % 6}"] = 6.0
        kinds[i] = f"kind {(i // 3) % 6}"
    labels = [kind is not None for kind in kinds]
    _, told = TabularModel.fit(rows, [()] * 900, labels, kinds, [1] * 900)
    assert told is not None
    assert told.unseen_kind is not None
    anomalous = told.kinds > 0
    assert told.fields[anomalous].mean() > told.unseen_kind[anomalous].mean() + 1
    # outlier_score does not need to have seen the kind
    assert roc_auc_score(anomalous, told.outlier_score) > 0.95


@pytest.mark.parametrize("kind", ["order", "count", "unseen"])
def test_sessions_that_are_unlike_the_normal_ones_stand_out(kind: str) -> None:
    rng = random.Random(4)
    normal = [_session(rng) for _ in range(300)]
    times, labels = np.ones(300, dtype=np.int64), np.zeros(300, dtype=bool)
    model, _, _ = SequenceModel.fit(normal, times, labels)
    odd = model.log_odds(SessionBlock.of([_session(rng, kind) for _ in range(50)]))
    fine = model.log_odds(SessionBlock.of([_session(rng) for _ in range(200)]))
    assert (odd > 0).mean() > 0.95
    assert (fine > 0).mean() < 0.06
    one = SessionBlock.of([normal[0]])
    assert SequenceModel.from_state(model.state()).log_odds(one) == model.log_odds(one)


def test_the_step_that_surprises_is_named() -> None:
    rng = random.Random(5)
    model, _, _ = SequenceModel.fit(
        [_session(rng) for _ in range(100)], np.ones(100, dtype=np.int64), np.zeros(100, dtype=bool)
    )
    (said,) = model.facts(["login", "open", "close", "logout"])
    assert said == "after “open” came “close”, which never follows it in normal cases"


@pytest.mark.parametrize("n", [0, 1, 2, 3, 5])
def test_few_cases_give_a_model_or_none_and_never_fail(n: int) -> None:
    rng = random.Random(6)
    for anomalous in (0, n):
        sessions = [_session(rng) for _ in range(n + anomalous)]
        labels = [False] * n + [True] * anomalous
        rows: list[Row] = [{} for _ in sessions]
        model, _ = TabularModel.fit(rows, sessions, labels, [None] * len(rows), [1] * len(rows))
        assert (model is None) == (n < 2)
        if model:
            told = model.signals([{}], [["never", "seen"]])
            assert all(one is None or np.isfinite(one) for one in told[0])


def test_texts_are_told_by_spelling_and_manner_where_vectors_say_nothing() -> None:
    rng = random.Random(7)
    vectors = np.random.default_rng(7).standard_normal((240, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    anomalous = np.arange(240) % 4 == 0
    said = [
        f"WIN {rng.randint(1000, 9999)} NOW call {rng.randint(10**6, 10**7)}"
        if bad
        else f"see you at {rng.randint(1, 9)} then"
        for bad in anomalous
    ]
    texts = Texts.of(vectors, ["call <n>" if bad else "see you at <n>" for bad in anomalous], said)
    model, (log_odds,) = TextClassifier.fit(texts, anomalous, 4, None, by_template=False)
    assert model is not None
    assert roc_auc_score(anomalous, log_odds) > 0.99
    kept = FittedDetectors.loads(FittedDetectors(texts=model).dumps()).texts
    assert kept is not None
    assert kept.log_odds(texts, np.zeros(240)) == pytest.approx(model.log_odds(texts, np.zeros(240)))


def test_texts_need_three_cases_of_each_label() -> None:
    texts = Texts.of(np.eye(6, dtype=np.float32), ["a"] * 6, ["a"] * 6)
    model, _ = TextClassifier.fit(texts, np.arange(6) < 2, 4, None, by_template=False)
    assert model is None


def test_out_of_fold_by_kind_no_sibling_helps() -> None:
    """Each of eight kinds has its own word and one label; what tells is the kind, so unseen kinds are chance."""
    kinds = np.repeat(np.arange(8), 10)
    anomalous = kinds % 2 == 0
    rng = np.random.default_rng(3)
    vectors = np.eye(8, dtype=np.float32)[kinds] + rng.normal(0, 0.05, (80, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    masked = [f"{'abcdefgh'[kind] * 6} {'xyz'[i % 3] * 3}" for i, kind in enumerate(kinds)]
    texts = Texts.of(vectors, masked, masked)
    model, (known, unseen) = TextClassifier.fit(texts, anomalous, 4, kinds // 2, by_template=True)
    assert model is not None
    assert roc_auc_score(anomalous, known) > 0.99
    assert roc_auc_score(anomalous, unseen) < 0.7
