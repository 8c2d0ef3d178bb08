"""The model of fields: numbers, categories and events.

With cases of both labels, the mean log-odds of a random forest (Breiman 2001) and of gradient boosting on histograms
(Friedman 2001); with hardly an anomalous case, an outlier score (`agent.detectors.conformal`,
`agent.detectors.sequence`). Fusion learns from out-of-fold log-odds of each case, and from those of trees that have not
seen its *kind* of anomaly, because the next anomaly may be of a new kind.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from agent.core.numerics import trend
from agent.detectors.conformal import ConformalNeighbours
from agent.detectors.field_expectations import TREND
from agent.detectors.sequence import SequenceModel
from agent.detectors.tabular_encoder import TabularEncoder
from agent.detectors.tree_ensemble import LOG_ODDS_LIMIT, TreeEnsemble, clipped_logit, log_odds_of_trees
from retrieval.arrays import Bools, Floats, Ints
from retrieval.encoding.field_columns import FieldColumns, Row
from retrieval.encoding.session_block import SessionBlock

# anomalous (or normal) cases that trees, boosting and larger boosting need
_MIN_CASES, _MIN_BOOSTED, _MANY = 3, 20, 100
_TREES, _FOLDS, _SEED = 200, 5, 20_26
# the most cases that are fitted to; those with out-of-fold scores; kinds of anomaly up to which all cases have them
_MAX_CASES, _MAX_SCORED, _WHOLE_KIND = 30_000, 8_000, 200
_MIN_KINDS = 4
# cases from which on a number may be seen to rise or fall from one to the next
_FEWEST_OF_TREND = 20
# numbers of a counter for which rows are scored where it has gone on
_COUNTED = 3


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
class TabularModel:
    """The fitted model.

    Parameters
    ----------
    columns : TabularEncoder
    detector : ConformalNeighbours or SequenceModel
        Gives the outlier score.
    trees : tuple of TreeEnsemble
        Forest and boosting; empty with too few anomalous cases.
    low, high : shape (numbers,)
        Range of each number among the cases; all numbers where they rise or fall from case to case.
    counted : shape (values, numbers)
        Where they do, numbers from the least to the greatest, over which scores beyond are averaged; NaN for others.
    """

    columns: TabularEncoder
    detector: ConformalNeighbours | SequenceModel
    trees: tuple[TreeEnsemble, ...]
    low: Floats
    high: Floats
    counted: Floats

    @property
    def supervised(self) -> bool:
        """Whether there are trees."""
        return bool(self.trees)

    @classmethod
    def fit(
        cls,
        rows: Sequence[Row],
        sessions: Sequence[Sequence[str]],
        anomalous: Sequence[bool],
        kinds: Sequence[str | None],
        times: Sequence[int],
    ) -> tuple[TabularModel | None, OutOfFoldScores | None]:
        """Fit to n cases.

        Parameters
        ----------
        rows : n mappings
            Features.
        sessions : n sequences
            Events; empty for a row of a table.
        anomalous : n booleans
        kinds : n strings or None
            Values of the labels.
        times : n integers
            How often each case occurred.

        Returns
        -------
        TabularModel or None
            None without two normal cases or a column.
        OutOfFoldScores or None
        """
        indices = _chosen(np.asarray(anomalous, dtype=bool))
        rows, sessions = [rows[i] for i in indices], [sessions[i] for i in indices]
        y, counts = np.asarray(anomalous, dtype=bool)[indices], np.asarray(times, dtype=np.int64)[indices]
        if (~y).sum() < 2:
            return None, None
        columns, table = TabularEncoder.fit(rows), FieldColumns.of(rows)
        encoded = columns.numbers(table), *columns.categories(table)
        matrix = columns.joined(*encoded)
        seen = encoded[0]
        # how far a counter goes on after the cases says nothing
        filled = [column[~np.isnan(column)] for column in seen.T]
        goes_on = np.array([len(known) >= _FEWEST_OF_TREND and abs(trend(known)) >= TREND for known in filled], bool)
        ordered = sum(map(bool, sessions)) * 2 > len(sessions)
        if not ordered and not matrix.shape[1]:
            return None, None
        detector: ConformalNeighbours | SequenceModel
        if ordered:
            detector, numbers, outlier_score = SequenceModel.fit(sessions, counts, y)
            matrix = np.hstack([matrix, numbers])
        else:
            detector, normal_outlier_scores = ConformalNeighbours.fit(
                columns, table.take(np.flatnonzero(~y)), counts[~y], ~goes_on
            )
            outlier_score = detector.log_odds(*encoded)
            outlier_score[~y] = normal_outlier_scores
        trees, scores = _Learner(matrix, y, counts).learn(_numbered(y, [kinds[i] for i in indices]), outlier_score)
        missing = np.isnan(seen)
        low, high = np.where(missing, np.inf, seen).min(axis=0), np.where(missing, -np.inf, seen).max(axis=0)
        counted = np.full((_COUNTED, len(low)), np.nan)
        counted[:, goes_on] = np.linspace(low[goes_on], high[goes_on], _COUNTED)
        low[goes_on], high[goes_on] = -np.inf, np.inf
        return cls(columns, detector, trees, low, high, counted), replace(scores, indices=indices[scores.indices])

    def signals(self, rows: Sequence[Row], sessions: Sequence[Sequence[str]]) -> list[tuple[float | None, float]]:
        """For each of n records, the log-odds of the trees (None without any) and of the outlier score."""
        trees, outlier_score = self.scores(FieldColumns.of(rows), SessionBlock.of(sessions))
        odds = outlier_score.tolist()
        return list(zip([None] * len(odds) if trees is None else trees.tolist(), odds, strict=True))

    def scores(self, rows: FieldColumns, sessions: SessionBlock | None = None) -> tuple[Floats | None, Floats]:
        """As `signals`, of the columns of n records, and their events if they have any: shapes (n,)."""
        seen, numbers = self.columns.numbers(rows), np.zeros((len(rows), 0))
        categories = self.columns.categories(rows)
        if isinstance(self.detector, SequenceModel):
            numbers = self.detector.numbers(SessionBlock.of([()] * len(rows)) if sessions is None else sessions)
            outlier_score = self.detector.outlier_score(numbers)
        else:
            outlier_score = self.detector.log_odds(seen, *categories)
        if not self.trees:
            return None, outlier_score

        def log_odds(seen: Floats, indices: Ints | slice = slice(None)) -> Floats:
            matrix = self.columns.joined(seen, *(part[indices] for part in categories))
            return log_odds_of_trees(self.trees, np.hstack([matrix, numbers[indices]]))

        of_trees = log_odds(seen)
        with np.errstate(invalid="ignore"):
            counted_on = (seen < self.counted[0]) | (seen > self.counted[-1])
        if len(indices := np.flatnonzero(counted_on.any(axis=1))):
            # where a counter stands tells when a row was made, not what it is
            moved = (np.where(counted_on[indices], values, seen[indices]) for values in self.counted)
            of_trees[indices] = np.mean([log_odds(each, indices) for each in moved], axis=0)
        return np.maximum(of_trees, self._beyond(seen)), outlier_score

    def _beyond(self, seen: Floats) -> Floats:
        """Least log-odds of rows by their numbers: trees do not extrapolate to numbers far outside of all cases."""
        if not seen.shape[1]:
            return np.full(len(seen), -LOG_ODDS_LIMIT)
        span = np.where(self.high > self.low, self.high - self.low, np.maximum(np.abs(self.high), 1.0))
        with np.errstate(invalid="ignore"):
            beyond = np.nan_to_num(np.maximum(seen - self.high, self.low - seen) / span, nan=0.0).max(axis=1)
        return np.asarray(np.clip(np.log(np.maximum(beyond, 1e-9) / 10), -LOG_ODDS_LIMIT, LOG_ODDS_LIMIT))

    def facts_of_steps(self, session: Sequence[str]) -> list[str]:
        """The most surprising step of a session, if its model is one of steps and the step is surprising."""
        return self.detector.facts(session) if isinstance(self.detector, SequenceModel) else []

    def dumps(self) -> dict[str, Any]:
        """The model as plain values and arrays, see `loads`."""
        return {
            "columns": self.columns.to_json(),
            "sequences": isinstance(self.detector, SequenceModel),
            "detector": self.detector.state(),
            "trees": [trees.state() for trees in self.trees],
            "span": [self.low, self.high],
            "counted": self.counted,
        }

    @classmethod
    def loads(cls, state: dict[str, Any]) -> TabularModel:
        """The model that `dumps` gave ``state`` of."""
        columns = TabularEncoder.from_json(state["columns"])
        detector = (
            SequenceModel.from_state(state["detector"])
            if state["sequences"]
            else ConformalNeighbours.from_state(columns, state["detector"])
        )
        trees = tuple(map(TreeEnsemble.from_state, state["trees"]))
        low, high = state["span"]
        # models of before it was stored
        counted = state.get("counted", np.full((1, len(low)), np.nan))
        return cls(columns, detector, trees, low, high, counted)


@dataclass(frozen=True)
class _Learner:
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


def _chosen(anomalous: Bools) -> Ints:
    """Indices of the cases that are fitted to: all, or a seeded sample with both labels."""
    if len(anomalous) <= _MAX_CASES:
        return np.arange(len(anomalous))
    order = np.random.default_rng(_SEED).permutation(len(anomalous))
    rare = order[anomalous[order]][: _MAX_CASES // 2]
    return np.sort(np.concatenate([rare, order[~anomalous[order]][: _MAX_CASES - len(rare)]]))


def _numbered(y: Bools, kinds: Sequence[str | None]) -> Ints:
    """Number of each case's kind of anomaly, from 1, the most frequent first; 0 for normal cases."""
    names = Counter(kind or "" for kind, bad in zip(kinds, y, strict=True) if bad)
    numbers = {kind: i for i, (kind, _) in enumerate(sorted(names.items(), key=lambda item: (-item[1], item[0])), 1)}
    return np.array([numbers[kind or ""] if bad else 0 for kind, bad in zip(kinds, y, strict=True)], dtype=np.int64)


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
