"""`fields`: what numbers and categories say.

With both labels a random forest (Breiman 2001) is fitted, its out-of-bag probabilities serving fusion; with
normal cases alone an isolation forest (Liu, Ting & Zhou 2008). The forests are kept by skops, without pickle.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.records import Signal
from retrieval.field_space import FieldSpace, FieldValue

_LIMIT = 6.0
_TREES = 200
_ENOUGH = 10
_FAR = 0.98
# scikit-learn's own node storage: our store wrote it, from a forest fitted here
_TRUSTED = ["sklearn.tree._tree.Tree"]
Row = Mapping[str, FieldValue]


@dataclass(frozen=True)
class FieldModel:
    """A fitted forest; ``supervised`` says whether it has learned from both labels."""

    axes: FieldSpace
    forest: Any
    supervised: bool
    reference: tuple[float, ...] = ()

    @classmethod
    def fit(cls, axes: FieldSpace, rows: Sequence[Row], anomalous: Sequence[bool]) -> tuple[FieldModel, list[float]]:
        """The model, and each row's log-odds as a forest that has not seen it would give them."""
        from sklearn.ensemble import IsolationForest, RandomForestClassifier

        matrix = np.stack([_numbers(axes, row) for row in rows])
        labels = np.asarray(anomalous, dtype=bool)
        if min(labels.sum(), (~labels).sum()) >= _ENOUGH:
            forest = RandomForestClassifier(
                n_estimators=_TREES, min_samples_leaf=2, oob_score=True, random_state=0, n_jobs=-1, max_features="sqrt"
            ).fit(matrix, labels)
            model = cls(axes, forest.set_params(n_jobs=1), supervised=True)
            return model, [_logit(p) for p in np.nan_to_num(forest.oob_decision_function_[:, 1], nan=labels.mean())]
        normal = matrix[~labels] if (~labels).any() else matrix
        forest = IsolationForest(n_estimators=_TREES, random_state=0).fit(np.nan_to_num(normal, nan=-1.0))
        scores = -forest.score_samples(np.nan_to_num(matrix, nan=-1.0))
        knots = tuple(float(s) for s in np.quantile(scores[~labels] if (~labels).any() else scores, _GRID))
        model = cls(axes, forest, supervised=False, reference=knots)
        return model, [model._tail(float(score)) for score in scores]

    def log_odds(self, row: Row) -> float:
        matrix = _numbers(self.axes, row)[None, :]
        if self.supervised:
            return _logit(float(self.forest.predict_proba(matrix)[0, 1]))
        return self._tail(float(-self.forest.score_samples(np.nan_to_num(matrix, nan=-1.0))[0]))

    def _tail(self, score: float) -> float:
        share = 1 - float(np.searchsorted(self.reference, score)) / len(self.reference)
        return _logit(1 - max(share, 0.005))

    def dumps(self) -> bytes:
        import skops.io

        state = {
            "axes": self.axes.to_json(),
            "forest": self.forest,
            "supervised": self.supervised,
            "reference": list(self.reference),
        }
        packed: bytes = skops.io.dumps(state)
        return packed

    @classmethod
    def loads(cls, packed: bytes) -> FieldModel:
        import skops.io

        state = skops.io.loads(packed, trusted=_TRUSTED)
        return cls(FieldSpace.from_json(state["axes"]), state["forest"], state["supervised"], tuple(state["reference"]))


_GRID = np.linspace(0, 1, 201)


def fields(model: FieldModel | None, row: Row, normal: FieldSpace | None) -> Signal:
    """The signal; facts: which numbers lie far from the normal cases, which categories they never have."""
    if not row or (model is None and normal is None):
        return Signal()
    log_odds = model.log_odds(row) if model else None
    return Signal(log_odds=log_odds, facts=tuple(_facts(row, normal)) if normal else ())


def _facts(row: Row, normal: FieldSpace) -> list[str]:
    far: list[tuple[float, str]] = []
    for name, knots in normal.numbers.items():
        value = row.get(name, 0.0 if name.startswith("count of ") else None)
        if value is None or isinstance(value, str):
            continue
        place = normal.quantile(name, float(value))
        if max(place, 1 - place) >= _FAR and not knots[0] <= float(value) <= knots[-1]:
            side = "above" if place > 0.5 else "below"
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


def _numbers(axes: FieldSpace, row: Row) -> NDArray[np.float64]:
    """One row as the forest sees it: numbers as they are (missing: NaN), categories one-hot."""
    out: list[float] = []
    for name in axes.numbers:
        value = row.get(name, 0.0 if name.startswith("count of ") else None)
        out.append(math.nan if value is None or isinstance(value, str) else float(value))
    for name, known in axes.categories.items():
        value = row.get(name)
        text = None if value is None else str(value)
        out.extend(float(text == one) for one in known)
        out.append(float(text is not None and text not in known))
    return np.asarray(out or [0.0])


def _logit(p: float) -> float:
    p = min(max(p, 1e-6), 1 - 1e-6)
    return max(-_LIMIT, min(_LIMIT, math.log(p / (1 - p))))
