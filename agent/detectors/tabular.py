"""The model of fields: numbers, categories and events.

With cases of both labels, the mean log-odds of a random forest (Breiman 2001) and of gradient boosting on histograms
(Friedman 2001); with hardly an anomalous case, an outlier score (`agent.detectors.conformal`,
`agent.detectors.sequence`). Fusion learns from out-of-fold log-odds of each case, and from those of trees that have not
seen its *kind* of anomaly, because the next anomaly may be of a new kind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from agent.core.numerics import trend
from agent.detectors.conformal import ConformalNeighbours
from agent.detectors.field_expectations import TREND
from agent.detectors.sequence import SequenceModel
from agent.detectors.tabular_encoder import TabularEncoder
from agent.detectors.tree_ensemble import LOG_ODDS_LIMIT, TreeEnsemble, log_odds_of_trees
from agent.detectors.tree_learner import OutOfFoldScores, TreeLearner
from retrieval.arrays import Bools, Floats, Ints
from retrieval.encoding.field_columns import FieldColumns, Row
from retrieval.encoding.session_block import SessionBlock

# the most cases that are fitted to
_MAX_CASES, _SEED = 30_000, 20_26
# cases from which on a number may be seen to rise or fall from one to the next
_FEWEST_OF_TREND = 20
# numbers of a counter for which rows are scored where it has gone on; how much worse (AUC) trees may be without it
_COUNTED, _AS_WELL = 3, 0.02


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
    ignored : shape (numbers,)
        Which of those the trees do not need.
    """

    columns: TabularEncoder
    detector: ConformalNeighbours | SequenceModel
    trees: tuple[TreeEnsemble, ...]
    low: Floats
    high: Floats
    counted: Floats
    ignored: Bools

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
        seen, numbers = encoded[0], np.zeros((len(rows), 0))
        # how far a counter goes on after the cases says nothing
        filled = [column[~np.isnan(column)] for column in seen.T]
        goes_on = np.array([len(known) >= _FEWEST_OF_TREND and abs(trend(known)) >= TREND for known in filled], bool)
        ordered = sum(map(bool, sessions)) * 2 > len(sessions)
        if not ordered and not any(part.shape[1] for part in encoded):
            return None, None
        detector: ConformalNeighbours | SequenceModel
        if ordered:
            detector, numbers, outlier_score = SequenceModel.fit(sessions, counts, y)
        else:
            detector, normal_outlier_scores = ConformalNeighbours.fit(
                columns, table.take(np.flatnonzero(~y)), counts[~y], ~goes_on
            )
            outlier_score = detector.log_odds(*encoded)
            outlier_score[~y] = normal_outlier_scores
        numbered = _numbered(y, [kinds[i] for i in indices])

        def learn(seen: Floats) -> tuple[tuple[TreeEnsemble, ...], OutOfFoldScores]:
            matrix = np.hstack([columns.joined(seen, *encoded[1:]), numbers])
            return TreeLearner(matrix, y, counts).learn(numbered, outlier_score)

        trees, scores = learn(seen)
        ignored = np.zeros(len(goes_on), bool)
        if trees and goes_on.any():
            without = learn(np.where(goes_on, np.nan, seen))
            if _auc(without[1], y) >= _auc(scores, y) - _AS_WELL:
                (trees, scores), ignored = without, goes_on
        missing = np.isnan(seen)
        low, high = np.where(missing, np.inf, seen).min(axis=0), np.where(missing, -np.inf, seen).max(axis=0)
        counted = np.full((_COUNTED, len(low)), np.nan)
        counted[:, goes_on] = np.linspace(low[goes_on], high[goes_on], _COUNTED)
        low[goes_on], high[goes_on] = -np.inf, np.inf
        return cls(columns, detector, trees, low, high, counted, ignored), replace(
            scores, indices=indices[scores.indices]
        )

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

        seen = np.where(self.ignored, np.nan, seen)
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
            "ignored": self.ignored,
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
        return cls(columns, detector, trees, low, high, counted, state.get("ignored", np.zeros(len(low), bool)))


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


def _auc(scores: OutOfFoldScores, y: Bools) -> float:
    from sklearn.metrics import roc_auc_score

    seen = ~np.isnan(scores.fields)
    return float(roc_auc_score(y[scores.indices][seen], scores.fields[seen]))
