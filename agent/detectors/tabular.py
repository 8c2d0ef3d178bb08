"""`fields`: what numbers, categories and events say.

With labels of both kinds, random forest (Breiman 2001) and gradient boosting (Friedman 2001) on histograms, their
log-odds averaged; with hardly an anomalous case, how odd the record is among normal ones (`agent.detectors.conformal`,
`agent.detectors.sequence`). What fusion learns from is told of each case by trees that have not seen it, and once more
by trees that have not seen its *kind* of anomaly: what comes next may be of no known kind.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.core.records import Signal
from agent.detectors.base import DetectorInput
from agent.detectors.conformal import ConformalNeighbours
from agent.detectors.sequence import SequenceModel
from agent.detectors.tabular_encoder import Row, TabularEncoder
from retrieval.encoding.field_encoder import FieldEncoder, value_if_absent

_LIMIT = 6.0
_ENOUGH, _BOOSTED, _MANY = 3, 20, 100
_TREES, _FOLDS, _SEED = 200, 5, 20_26
# cases that learning takes at most, and of them those that are told of by trees that have not seen them
_MOST, _TOLD, _WHOLE_KIND = 30_000, 8_000, 200
_KINDS = 4
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class OutOfFoldScores:
    """Scores of a sample of the cases, each by models that have not seen it.

    Parameters
    ----------
    which : shape (n,)
        Indices of the cases in what was fitted on.
    fields, oddness : shape (n,)
        Log-odds of the trees and of the outlier score. `fields` is NaN for a case that every tree has seen.
    unseen_kind : shape (n,) or None
        Log-odds of trees that have not seen the case's kind of anomaly; None where there are few kinds.
    kinds : shape (n,)
        Number of each case's kind; 0 for normal cases.
    """

    which: Ints
    fields: Floats
    oddness: Floats
    unseen_kind: Floats | None
    kinds: Ints


@dataclass(frozen=True)
class TabularModel:
    """The fitted trees, none where there are too few anomalous cases, and the detector of odd records."""

    columns: TabularEncoder
    detector: ConformalNeighbours | SequenceModel
    trees: tuple[Any, ...]
    low: Floats
    high: Floats

    @property
    def supervised(self) -> bool:
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
        """The model, and what it tells of its cases as if they were new; none without two normal cases or a column.

        ``rows``: features of n cases; ``sessions``: their events, empty for a row of a table; ``kinds``: the values
        of their labels; ``times``: how often each stands.
        """
        which = _chosen(np.asarray(anomalous, dtype=bool))
        rows, sessions = [rows[i] for i in which], [sessions[i] for i in which]
        y, often = np.asarray(anomalous, dtype=bool)[which], np.asarray(times, dtype=np.int64)[which]
        if (~y).sum() < 2:
            return None, None
        columns = TabularEncoder.fit(rows)
        matrix = columns.matrix(rows)
        ordered = sum(map(bool, sessions)) * 2 > len(sessions)
        if not ordered and not matrix.shape[1]:
            return None, None
        detector: ConformalNeighbours | SequenceModel
        if ordered:
            detector, numbers, oddness = SequenceModel.fit(sessions, often, y)
            matrix = np.hstack([matrix, numbers])
        else:
            detector, own = ConformalNeighbours.fit(
                columns, [row for row, bad in zip(rows, y, strict=True) if not bad], often[~y]
            )
            oddness = detector.log_odds(rows, ())
            oddness[~y] = own
        trees, told = _Learner(matrix, y, often).learn(_numbered(y, [kinds[i] for i in which]), oddness)
        seen = columns.numbers(rows)
        gone = np.isnan(seen)
        low, high = np.where(gone, np.inf, seen).min(axis=0), np.where(gone, -np.inf, seen).max(axis=0)
        told = OutOfFoldScores(which[told.which], told.fields, told.oddness, told.unseen_kind, told.kinds)
        return cls(columns, detector, trees, low, high), told

    def signals(self, rows: Sequence[Row], sessions: Sequence[Sequence[str]]) -> list[tuple[float | None, float]]:
        """For each of n records the log-odds of the trees (None without any), and of its oddness."""
        numbers = np.zeros((len(rows), 0))
        if isinstance(self.detector, SequenceModel):
            numbers = self.detector.numbers(sessions)
            oddness = self.detector.oddness(numbers)
        else:
            oddness = self.detector.log_odds(rows, sessions)
        if not self.trees:
            return [(None, float(odd)) for odd in oddness]
        matrix = np.hstack([self.columns.matrix(rows), numbers])
        told = np.maximum(_log_odds(self.trees, matrix), self._beyond(rows))
        return [(float(tree), float(odd)) for tree, odd in zip(told, oddness, strict=True)]

    def _beyond(self, rows: Sequence[Row]) -> Floats:
        """What the log-odds are at least, for a number far outside of all cases: there trees only guess on."""
        seen = self.columns.numbers(rows)
        if not seen.shape[1]:
            return np.full(len(rows), -_LIMIT)
        span = np.where(self.high > self.low, self.high - self.low, np.maximum(np.abs(self.high), 1.0))
        with np.errstate(invalid="ignore"):
            beyond = np.nan_to_num(np.maximum(seen - self.high, self.low - seen) / span, nan=0.0).max(axis=1)
        return np.asarray(np.clip(np.log(np.maximum(beyond, 1e-9) / 10), -_LIMIT, _LIMIT))

    def dumps(self) -> dict[str, Any]:
        """What `loads` makes it of again; for skops, without pickle."""
        return {
            "columns": self.columns.to_json(),
            "sequences": isinstance(self.detector, SequenceModel),
            "detector": self.detector.state(),
            "trees": list(self.trees),
            "span": [self.low, self.high],
        }

    @classmethod
    def loads(cls, state: dict[str, Any]) -> TabularModel:
        columns = TabularEncoder.from_json(state["columns"])
        detector = (
            SequenceModel.from_state(state["detector"])
            if state["sequences"]
            else ConformalNeighbours.from_state(columns, state["detector"])
        )
        return cls(columns, detector, tuple(state["trees"]), *state["span"])


@dataclass(frozen=True)
class _Learner:
    """Trees from a matrix of cases, shape (n, columns), their labels, and how often each stands."""

    x: Floats
    y: Bools
    times: Ints

    def learn(self, kinds: Ints, oddness: Floats) -> tuple[tuple[Any, ...], OutOfFoldScores]:
        """All trees, and what is told of a sample of the cases; see `OutOfFoldScores`."""
        rng = np.random.default_rng(_SEED)
        sizes = np.bincount(kinds)
        inside = np.zeros(len(self.y), dtype=bool)
        inside[rng.permutation(len(self.y))[:_TOLD]] = True
        # small kinds are in it whole
        inside |= (sizes[kinds] <= _WHOLE_KIND) & self.y
        which = np.flatnonzero(inside)
        if self._rare(self.y) < _ENOUGH:
            return (), OutOfFoldScores(which, oddness[which], oddness[which], None, kinds[which])
        forest, boosting = self._forest(self.y, oob=True), self._boosting(self.y)
        everything = np.arange(len(self.y))
        trees = tuple(self._fitted(one, everything) for one in (forest, boosting) if one is not None)
        # a case that stands so often that every tree has seen it has no out-of-bag share: NaN
        told = _logit(trees[0].oob_decision_function_[:, 1])[which]
        if boosting is not None:
            fold = _spread(kinds, rng)
            told = (told + self._held_out(which, fold, wooden=False)) / 2
        unseen_kind = None
        if kinds.max() >= _KINDS:
            # normal cases are spread over the folds, anomalous ones by their kind
            fold = np.where(self.y, kinds % _FOLDS, _spread(kinds, rng))
            unseen_kind = self._held_out(which, fold, wooden=True)
        return trees, OutOfFoldScores(which, told, oddness[which], unseen_kind, kinds[which])

    def _held_out(self, which: Ints, fold: Ints, *, wooden: bool) -> Floats:
        """Log-odds of the cases ``which``, each by trees fitted on the other folds of them."""
        out = np.zeros(len(self.y))
        for one in np.unique(fold[which]):
            rest, held = which[fold[which] != one], which[fold[which] == one]
            if self._rare(self.y[rest]) == 0:
                continue
            parts = [self._forest(self.y[rest]) if wooden else None, self._boosting(self.y[rest])]
            if fitted := [self._fitted(part, rest) for part in parts if part is not None]:
                out[held] = _log_odds(fitted, self.x[held])
        return np.asarray(out[which])

    def _fitted(self, part: Any, which: Ints) -> Any:
        with warnings.catch_warnings(), _threads().limit(limits=1, user_api="openmp"):
            # that some cases are in every bag is known, see `learn`
            warnings.filterwarnings("ignore", message="Some inputs do not have OOB scores")
            part.fit(self.x[which], self.y[which], sample_weight=self.times[which])
        return part.set_params(n_jobs=1) if "n_jobs" in part.get_params() else part

    @staticmethod
    def _rare(y: Bools) -> int:
        return int(min(y.sum(), (~y).sum()))

    def _forest(self, y: Bools, *, oob: bool = False) -> Any:
        from sklearn.ensemble import RandomForestClassifier

        leaf = 5 if self._rare(y) >= 50 else 2
        trees = _TREES if oob else _TREES // 2
        return RandomForestClassifier(trees, min_samples_leaf=leaf, oob_score=oob, random_state=0, n_jobs=-1)

    def _boosting(self, y: Bools) -> Any:
        """None with so few cases of a label that boosting would learn them by heart."""
        from sklearn.ensemble import HistGradientBoostingClassifier

        rare = self._rare(y)
        if rare < _BOOSTED:
            return None
        size = (
            {"learning_rate": 0.03, "max_iter": 250, "max_leaf_nodes": 15}
            if rare >= _MANY
            else {"learning_rate": 0.05, "max_iter": 100, "max_leaf_nodes": 8}
        )
        return HistGradientBoostingClassifier(
            **size, min_samples_leaf=10, l2_regularization=1.0, max_features=0.4, early_stopping=False, random_state=0
        )


@dataclass(frozen=True)
class FieldsDetector:
    """The signal `fields`.

    Parameters
    ----------
    model : callable
        Gives the source's model of fields, which takes time to load; None if there is none.
    normal : FieldEncoder or None
        Of the normal cases.
    """

    model: Callable[[], TabularModel | None]
    normal: FieldEncoder | None
    name: str = "fields"

    def score(self, records: Sequence[DetectorInput]) -> list[Signal]:
        """See `agent.detectors.base.Scorer`: the trees' log-odds, or the outlier score where there are no trees.

        The facts are numbers far from the normal cases, and categories and steps that these do not have.
        """
        return [self._signal(record) if record.features else Signal() for record in records]

    def _signal(self, record: DetectorInput) -> Signal:
        model, events, scores = self.model(), record.record.events, record.field_scores
        facts = _facts(record.features, self.normal) if self.normal else []
        if events and model and isinstance(model.detector, SequenceModel):
            facts = [*model.detector.facts(events), *facts]
        log_odds = None if scores is None else scores[1] if scores[0] is None else scores[0]
        return Signal(log_odds=log_odds, facts=tuple(facts))


def _facts(row: Row, normal: FieldEncoder) -> list[str]:
    far: list[tuple[float, str]] = []
    for name, knots in normal.numbers.items():
        value = row.get(name, value_if_absent(name))
        if value is None or isinstance(value, str):
            continue
        if knots[0] <= float(value) <= knots[-1]:
            continue
        side = "above" if float(value) > knots[-1] else "below"
        spread = (knots[-1] - knots[0]) or 1.0
        excess = (float(value) - knots[-1]) / spread if side == "above" else (knots[0] - float(value)) / spread
        text = f"{name} is {float(value):g}, {side} all normal cases ({knots[0]:g} to {knots[-1]:g})"
        far.append((excess, text))
    unseen = [
        f"{name} is “{row[name]}”, which no normal case has"
        for name, known in normal.categories.items()
        if row.get(name) is not None and str(row[name]) not in known
    ]
    return [text for _, text in sorted(far, key=lambda item: -item[0])[:3]] + unseen[:3]


def _chosen(anomalous: Bools) -> Ints:
    """The cases that learning takes: all, or a seeded sample that has every label's share."""
    if len(anomalous) <= _MOST:
        return np.arange(len(anomalous))
    order = np.random.default_rng(_SEED).permutation(len(anomalous))
    rare = order[anomalous[order]][: _MOST // 2]
    return np.sort(np.concatenate([rare, order[~anomalous[order]][: _MOST - len(rare)]]))


def _numbered(y: Bools, kinds: Sequence[str | None]) -> Ints:
    """0 for normal cases; kinds of anomaly from 1, the commonest first."""
    names = Counter(kind or "" for kind, bad in zip(kinds, y, strict=True) if bad)
    places = {kind: i for i, (kind, _) in enumerate(sorted(names.items(), key=lambda item: (-item[1], item[0])), 1)}
    return np.array([places[kind or ""] if bad else 0 for kind, bad in zip(kinds, y, strict=True)], dtype=np.int64)


def _spread(kinds: Ints, rng: np.random.Generator) -> Ints:
    """Folds in which each kind has its share."""
    order = rng.permutation(len(kinds))
    fold = np.zeros(len(kinds), dtype=np.int64)
    for kind in np.unique(kinds):
        mine = order[kinds[order] == kind]
        fold[mine] = np.arange(len(mine)) % _FOLDS
    return fold


@cache
def _threads() -> Any:
    """To keep boosting to one thread: its threads wait by spinning, so that beside other work two are far slower."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _log_odds(trees: Sequence[Any], x: Floats) -> Floats:
    with _threads().limit(limits=1, user_api="openmp"):
        return np.asarray(np.mean([_logit(_share(part, x)) for part in trees], axis=0))


def _share(part: Any, x: Floats) -> Floats:
    """As predict_proba has it; of a forest without its checks at each tree, which take longer than a few rows."""
    if not hasattr(part, "estimators_"):
        return np.asarray(part.predict_proba(x)[:, 1])
    narrow = x.astype(np.float32)
    return np.asarray(sum(tree.tree_.predict(narrow)[:, 1] for tree in part.estimators_) / len(part.estimators_))


def _logit(p: Floats) -> Floats:
    from scipy.special import logit

    return np.clip(logit(np.clip(p, 1e-4, 1 - 1e-4)), -_LIMIT, _LIMIT)
