"""A fitted forest, or fitted gradient boosting, as it is stored and as it scores rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.detectors.tree_model import INPUT, OUTPUT, Tree, trees_to_onnx
from retrieval.arrays import Floats

LOG_ODDS_LIMIT = 6.0


@dataclass(frozen=True)
class TreeEnsemble:
    """Trees that give the probability of an anomaly.

    Parameters
    ----------
    onnx : bytes
        The model that adds up the values of their leaves, see `agent.detectors.tree_model`.
    votes : int
        Trees of a forest, which average probabilities and compare in single precision; 0: the sum of their values is
        the log-odds, as of boosting.
    """

    onnx: bytes
    votes: int

    @classmethod
    def of(cls, estimator: Any) -> TreeEnsemble:
        """The trees of a fitted `RandomForestClassifier` or `HistGradientBoostingClassifier` of two labels."""
        if hasattr(estimator, "estimators_"):
            trees = [_tree_of_forest(part.tree_) for part in estimator.estimators_]
            return cls(trees_to_onnx(trees, estimator.n_features_in_), len(trees))
        base = _leaf(float(np.ravel(estimator._baseline_prediction)[0]))
        trees = [base, *(_tree_of_boosting(parts[0].nodes) for parts in estimator._predictors)]
        return cls(trees_to_onnx(trees, estimator.n_features_in_), 0)

    @cached_property
    def _session(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        # its threads wait by spinning; blocks of rows are scored in threads of ours
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        return onnxruntime.InferenceSession(self.onnx, options, providers=["CPUExecutionProvider"])

    def probabilities(self, x: Floats) -> Floats:
        """The probability of each of n rows, shape (n, columns) to shape (n,), as scikit-learn's `predict_proba`."""
        numbers = x.astype(np.float32).astype(np.float64) if self.votes else np.ascontiguousarray(x)
        sums = np.asarray(self._session.run([OUTPUT], {INPUT: numbers})[0], np.float64)[:, 0]
        if self.votes:
            return sums / self.votes
        # as `scipy.special.expit`, whose import takes a quarter of a second
        with np.errstate(over="ignore"):
            return np.asarray(1 / (1 + np.exp(-sums)))

    def state(self) -> dict[str, Any]:
        """The trees as plain values and arrays, see `from_state`."""
        return {"onnx": np.frombuffer(self.onnx, np.uint8), "votes": self.votes}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> TreeEnsemble:
        """The trees that `state` gave ``state`` of; what ONNX Runtime cannot read raises its error here."""
        trees = cls(state["onnx"].tobytes(), state["votes"])
        _ = trees._session
        return trees


def log_odds_of_trees(trees: Sequence[TreeEnsemble], x: Floats) -> Floats:
    """The mean log-odds that the ensembles give n rows, shape (n, columns) to shape (n,)."""
    return np.asarray(np.mean([clipped_logit(part.probabilities(x)) for part in trees], axis=0))


def clipped_logit(p: Floats) -> Floats:
    """The log-odds of probabilities, shape (n,), within `LOG_ODDS_LIMIT`."""
    p = np.clip(p, 1e-4, 1 - 1e-4)
    return np.asarray(np.clip(np.log(p / (1 - p)), -LOG_ODDS_LIMIT, LOG_ODDS_LIMIT))


def _tree_of_forest(tree: Any) -> Tree:
    return Tree(
        tree.feature,
        tree.threshold,
        tree.children_left,
        tree.children_right,
        tree.missing_go_to_left.astype(bool),
        tree.value[:, 0, 1],
    )


def _tree_of_boosting(nodes: NDArray[Any]) -> Tree:
    is_leaf = nodes["is_leaf"].astype(bool)
    left, right = (np.where(is_leaf, -1, nodes[side].astype(np.int64)) for side in ("left", "right"))
    column, missing_left = nodes["feature_idx"].astype(np.int64), nodes["missing_go_to_left"].astype(bool)
    return Tree(column, nodes["num_threshold"], left, right, missing_left, nodes["value"])


def _leaf(value: float) -> Tree:
    """A tree that gives all rows the same value."""
    zero, end = np.zeros(1, np.int64), np.full(1, -1)
    return Tree(zero, np.zeros(1), end, end, np.zeros(1, bool), np.array([value]))
