"""Kinds of templates: siblings are together, folds hold out whole kinds, and each fold can be learned without."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.training.kinds import folds_of_anomalies, folds_of_kinds, kinds_of_templates, similarity_to_other_kinds


def directions(*angles: float) -> np.ndarray:
    return np.array([[np.cos(angle), np.sin(angle)] for angle in angles], dtype=np.float32)


def test_siblings_are_one_kind_and_others_are_not() -> None:
    kinds = kinds_of_templates(directions(0.0, 0.1, 1.5, 1.6, 3.0))
    assert kinds[0] == kinds[1]
    assert kinds[2] == kinds[3]
    assert len(set(kinds.tolist())) == 3


@pytest.mark.parametrize("n", [0, 1])
def test_without_others_each_is_a_kind(n: int) -> None:
    assert kinds_of_templates(directions(*range(n)) if n else np.zeros((0, 2), np.float32)).tolist() == list(range(n))


def test_the_nearest_of_another_kind_is_no_sibling() -> None:
    vectors = directions(0.0, 0.1, 1.0)
    similar = similarity_to_other_kinds(vectors, np.array([0, 0, 1]))
    assert similar == pytest.approx([np.cos(1.0), np.cos(0.9), np.cos(0.9)], abs=1e-6)
    assert similarity_to_other_kinds(vectors, np.zeros(3, dtype=np.int64)).tolist() == [-1.0] * 3


@given(st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=1, max_size=40), st.integers(2, 6))
def test_a_kind_is_in_one_fold_and_the_rest_has_both_labels(cases: list[tuple[int, bool]], most: int) -> None:
    kinds = np.array([kind for kind, _ in cases])
    anomalous = np.array([label for _, label in cases])
    folds = folds_of_kinds(kinds, anomalous, most)
    if folds is None:
        return
    assert all(len(set(folds[kinds == kind].tolist())) == 1 for kind in kinds)
    for fold in np.unique(folds):
        assert 0 < anomalous[folds != fold].sum() < (folds != fold).sum()


def test_one_kind_of_anomaly_cannot_be_held_out() -> None:
    assert folds_of_kinds(np.array([0, 0, 1, 2]), np.array([True, True, False, False]), 5) is None
    assert folds_of_kinds(np.array([0, 3, 1, 2]), np.array([True, True, False, False]), 5) is not None


def test_a_kind_of_anomaly_is_in_one_fold_where_there_are_enough_kinds() -> None:
    kinds = ["fine"] * 20 + ["a"] * 9 + ["b"] * 5 + ["c"] * 4
    anomalous = np.array([kind != "fine" for kind in kinds])
    folds = folds_of_anomalies(anomalous, kinds, 2, 1)
    of_kind = {kind: {int(f) for f, k in zip(folds, kinds, strict=True) if k == kind} for kind in "abc"}
    assert of_kind == {"a": {0}, "b": {1}, "c": {1}}
    assert np.bincount(folds[:20]).tolist() == [10, 10]
    two = folds_of_anomalies(anomalous[:34], kinds[:34], 2, 1)
    assert set(two[20:29].tolist()) == {0, 1}, "two kinds are too few to hold one out"
