"""Trees that are stored as ONNX give the probabilities of the scikit-learn models that they were made of."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import skops.io
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier

from agent.detectors.persistence import FittedDetectors
from agent.detectors.tabular import TabularModel
from agent.detectors.tree_ensemble import TreeEnsemble
from retrieval.arrays import Floats
from retrieval.encoding.field_columns import FieldColumns, Row


def cases(count: int, *, missing: float, seed: int = 1) -> tuple[Floats, NDArray[np.bool_]]:
    """Rows of numbers of several magnitudes, some equal, whose label three of them decide; a share is missing."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 12)) * 10.0 ** np.arange(-3, 9)
    x[:, 5] = rng.integers(0, 4, count)
    x[:, 6] = np.round(x[:, 6])
    y = (x[:, 2] > 0.5 * 10.0**-1) ^ (x[:, 5] == 2) | (rng.random(count) < 0.1)
    x[rng.random(x.shape) < missing] = np.nan
    return x, y


def forest(**options: Any) -> RandomForestClassifier:
    return RandomForestClassifier(**{"n_estimators": 40, "min_samples_leaf": 2, "random_state": 0, **options})


def boosting(**options: Any) -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(**{"max_iter": 40, "max_leaf_nodes": 8, "random_state": 0, **options})


@pytest.mark.parametrize("missing", [0.0, 0.2], ids=["filled", "missing"])
@pytest.mark.parametrize(
    "estimator",
    [
        forest(),
        forest(max_depth=1),
        forest(n_estimators=1),
        boosting(),
        boosting(max_features=0.4),
        boosting(max_iter=1),
    ],
    ids=["forest", "stumps", "one tree", "boosting", "other columns", "one round"],
)
def test_probabilities_are_those_of_scikit_learn(estimator: Any, missing: float) -> None:
    x, y = cases(600, missing=missing)
    estimator.fit(x, y)
    fresh, _ = cases(3_000, missing=missing, seed=2)
    fresh[:50], fresh[50:60], fresh[60:70] = x[:50], 1e30, -1e30
    if missing:
        fresh[70] = np.nan
    else:
        # a value that no case lacks
        fresh[70:90, :6] = np.nan
        fresh = fresh[:70] if isinstance(estimator, RandomForestClassifier) else fresh
    kept = TreeEnsemble.from_state(TreeEnsemble.of(estimator).state())
    np.testing.assert_allclose(kept.probabilities(fresh), estimator.predict_proba(fresh)[:, 1], rtol=0, atol=1e-12)


def test_values_on_a_threshold_go_where_they_go_in_scikit_learn() -> None:
    x, y = cases(400, missing=0.0)
    for estimator in (forest().fit(x, y), boosting().fit(x, y)):
        trees = [part.tree_ for part in estimator.estimators_] if hasattr(estimator, "estimators_") else []
        found = [(tree.feature[i], tree.threshold[i]) for tree in trees for i in np.flatnonzero(tree.feature >= 0)]
        nodes = [] if trees else [part[0].nodes for part in estimator._predictors]
        found += [
            (node["feature_idx"], node["num_threshold"]) for part in nodes for node in part if not node["is_leaf"]
        ]
        rows = np.repeat(x[:1], 4 * len(found), axis=0)
        for i, (column, threshold) in enumerate(found):
            # of a forest the second rounds to single precision
            near = float(np.float32(threshold)), np.nextafter(threshold, np.inf), np.nextafter(threshold, -np.inf)
            rows[4 * i : 4 * i + 4, column] = threshold, *near
        share = TreeEnsemble.of(estimator).probabilities(rows)
        np.testing.assert_allclose(share, estimator.predict_proba(rows)[:, 1], rtol=0, atol=1e-12)


def test_trees_without_a_split() -> None:
    x, y = np.zeros((40, 2)), np.arange(40) % 4 == 0
    for estimator in (forest().fit(x, y), boosting().fit(x, y)):
        np.testing.assert_allclose(
            TreeEnsemble.of(estimator).probabilities(x), estimator.predict_proba(x)[:, 1], rtol=0, atol=1e-12
        )


def test_a_model_that_skops_stored_is_read() -> None:
    rng = np.random.default_rng(3)
    rows: list[Row] = [{"size": float(rng.normal(3.0 * (i % 4 == 0))), "zone": str(i % 3)} for i in range(200)]
    labels = [i % 4 == 0 for i in range(200)]
    model, _ = TabularModel.fit(rows, [()] * 200, labels, [None] * 200, [1] * 200)
    assert model is not None
    x = model.columns.matrix(FieldColumns.of(rows))
    estimators = [forest().fit(x, labels), boosting().fit(x, labels)]
    packed, state = io.BytesIO(), {**model.dumps(), "trees": estimators}
    np.savez(packed, fields=np.frombuffer(skops.io.dumps(state), np.uint8))
    read = FittedDetectors.loads(packed.getvalue()).fields
    assert read is not None
    for trees, estimator in zip(read.trees, estimators, strict=True):
        np.testing.assert_allclose(trees.probabilities(x), estimator.predict_proba(x)[:, 1], rtol=0, atol=1e-12)
    stored = FittedDetectors(fields=read).dumps()
    assert "fields" not in np.load(io.BytesIO(stored)).files
    kept = FittedDetectors.loads(stored).fields
    assert kept is not None
    assert kept.signals(rows, [()] * 200) == read.signals(rows, [()] * 200)
