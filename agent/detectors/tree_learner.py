"""Fits trees to the cases of a table or of sessions, and scores each case by trees that have not seen it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from agent.detectors.tree_ensemble import TreeEnsemble, clipped_logit, log_odds_of_trees
from retrieval.arrays import Bools, Floats, Ints

# anomalous (or normal) cases that trees, boosting and larger boosting need
_MIN_CASES, _MIN_BOOSTED, _MANY = 3, 20, 100
_TREES, _FOLDS, _SEED = 200, 5, 20_26
# the most cases with out-of-fold scores; kinds of anomaly up to which all cases have them
_MAX_SCORED, _WHOLE_KIND = 8_000, 200
_MIN_KINDS = 4


@dataclass(frozen=True)
class OutOfFoldScores:
    """Scores of a sample of the cases, each by models that have not seen it.

    Parameters
    ----------
    indices : shape (n,)
        Indices of the cases in what was fitted on.
    fields, outlier_score : shape (n,)
        Log-odds of the trees and of the outlier score. `fields` is NaN for a case that every tree has seen.
    unseen_kind : shape (n,) or None
        Log-odds of trees that have not seen the case's kind of anomaly; None where there are few kinds.
    kinds : shape (n,)
        Number of each case's kind; 0 for normal cases.
    """

    indices: Ints
    fields: Floats
    outlier_score: Floats
    unseen_kind: Floats | None
    kinds: Ints


@dataclass(frozen=True)
class TreeLearner:
    """Fits trees to a matrix of cases, shape (n, columns), their labels and how often each occurred, shapes (n,)."""

    x: Floats
    y: Bools
    times: Ints

    def learn(self, kinds: Ints, outlier_score: Floats) -> tuple[tuple[TreeEnsemble, ...], OutOfFoldScores]:
        """The trees, and out-of-fold scores of a sample of the cases, with all cases of rare kinds.

        Parameters
        ----------
        kinds : shape (n,)
            Number of each case's kind.
        outlier_score : shape (n,)
            Log-odds of each case by the detector of outlier_score.
        """
        rng = np.random.default_rng(_SEED)
        sizes = np.bincount(kinds)
        sampled = np.zeros(len(self.y), dtype=bool)
        sampled[rng.permutation(len(self.y))[:_MAX_SCORED]] = True
        sampled |= (sizes[kinds] <= _WHOLE_KIND) & self.y
        indices = np.flatnonzero(sampled)
        if self._rare(self.y) < _MIN_CASES:
            return (), OutOfFoldScores(indices, outlier_score[indices], outlier_score[indices], None, kinds[indices])
        forest, boosting = self._forest(self.y, oob=True), self._boosting(self.y)
        everything = np.arange(len(self.y))
        estimators = [self._fitted(model, everything) for model in (forest, boosting) if model is not None]
        # a case that occurred so often that every tree has seen it has no out-of-bag share: NaN
        scores = clipped_logit(estimators[0].oob_decision_function_[:, 1])[indices]
        if boosting is not None:
            fold = _spread(kinds, rng)
            scores = (scores + self._held_out(indices, fold, with_forest=False)) / 2
        unseen_kind = None
        if kinds.max() >= _MIN_KINDS:
            # normal cases are spread over the folds, anomalous ones by their kind
            fold = np.where(self.y, kinds % _FOLDS, _spread(kinds, rng))
            unseen_kind = self._held_out(indices, fold, with_forest=True)
        trees = tuple(map(TreeEnsemble.of, estimators))
        return trees, OutOfFoldScores(indices, scores, outlier_score[indices], unseen_kind, kinds[indices])

    def _held_out(self, indices: Ints, fold: Ints, *, with_forest: bool) -> Floats:
        """Log-odds of k cases, shape (k,), at ``indices``, each by trees fitted on the other folds of them."""
        out = np.zeros(len(self.y))
        for number in np.unique(fold[indices]):
            rest, held_out = indices[fold[indices] != number], indices[fold[indices] == number]
            if self._rare(self.y[rest]) == 0:
                continue
            parts = [self._forest(self.y[rest]) if with_forest else None, self._boosting(self.y[rest])]
            if fitted := [TreeEnsemble.of(self._fitted(part, rest)) for part in parts if part is not None]:
                out[held_out] = log_odds_of_trees(fitted, self.x[held_out])
        return np.asarray(out[indices])

    def _fitted(self, part: Any, indices: Ints) -> Any:
        with warnings.catch_warnings(), _threads().limit(limits=1, user_api="openmp"):
            # some cases are in every bag, see `learn`
            warnings.filterwarnings("ignore", message="Some inputs do not have OOB scores")
            x = self.x[indices]
            # boosting has no bins for a column without values; of one value, no tree asks for it
            part.fit(np.where(np.isnan(x).all(axis=0), 0.0, x), self.y[indices], sample_weight=self.times[indices])
        return part

    @staticmethod
    def _rare(y: Bools) -> int:
        return int(min(y.sum(), (~y).sum()))

    def _forest(self, y: Bools, *, oob: bool = False) -> Any:
        from sklearn.ensemble import RandomForestClassifier

        leaf = 5 if self._rare(y) >= 50 else 2
        trees = _TREES if oob else _TREES // 2
        return RandomForestClassifier(trees, min_samples_leaf=leaf, oob_score=oob, random_state=0, n_jobs=-1)

    def _boosting(self, y: Bools) -> Any:
        """None with so few cases of a label that boosting would overfit."""
        from sklearn.ensemble import HistGradientBoostingClassifier

        rare = self._rare(y)
        if rare < _MIN_BOOSTED:
            return None
        size = (
            {"learning_rate": 0.03, "max_iter": 250, "max_leaf_nodes": 15}
            if rare >= _MANY
            else {"learning_rate": 0.05, "max_iter": 100, "max_leaf_nodes": 8}
        )
        return HistGradientBoostingClassifier(
            **size, min_samples_leaf=10, l2_regularization=1.0, max_features=0.4, early_stopping=False, random_state=0
        )


def _spread(kinds: Ints, rng: np.random.Generator) -> Ints:
    """Fold of each case; every kind is spread over all folds (StratifiedKFold refuses kinds with few cases)."""
    order = rng.permutation(len(kinds))
    fold = np.zeros(len(kinds), dtype=np.int64)
    for kind in np.unique(kinds):
        of_kind = order[kinds[order] == kind]
        fold[of_kind] = np.arange(len(of_kind)) % _FOLDS
    return fold


@cache
def _threads() -> Any:
    """Limits boosting to one thread: its threads wait by spinning, so two are far slower beside other work."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
