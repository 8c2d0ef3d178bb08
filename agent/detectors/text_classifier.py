"""How the labels of all cases bear on a text, beyond its nearest ones: three linear models, learned from the cases.

*Meaning* is read from the embedding vector, *spelling* from hashed character n-grams of the masked text, *manner* from
ten numbers of how it is written, which masking destroys. With the contrast of the nearest cases they make one log-odds;
how much each counts is learned from what they say of cases that they have not seen (stacking, Wolpert 1992). Where the
cases are many lines of few templates, manner is that of the template, so that all its lines are judged alike.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.core.numerics import map_estimate
from agent.core.records import Signal
from agent.detectors.neighbours import has_known_template, kernel_log_ratio
from retrieval.casebook import RetrievalResult

_BITS, _C, _SEED = 16, 10.0, 20_26
# characters of a text that are spelled out
_CHARS = 4_000
_FEWEST, _FOLDS, _FOLDS_OF_FEW, _FEW = 3, 5, 10, 2_000
_MANNERS = 10
_PARTS = 4
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Texts:
    """n texts as the models see them: vectors (n, dimensions), n-gram counts (n, 2**16) sparse, manners (n, 10)."""

    vectors: NDArray[np.float32]
    spelled: Any
    manners: Floats

    @classmethod
    def of(cls, vectors: NDArray[np.float32], masked: Sequence[str], written: Sequence[str]) -> Texts:
        """``masked``: the texts with their varying parts masked; ``written``: those whose manner counts."""
        counts = _hashing().transform([text[:_CHARS] for text in masked]).tocsr()
        counts.data = 1 + np.log(counts.data)
        return cls(vectors, counts, np.array([_manner(text[:_CHARS]) for text in written]).reshape(-1, _MANNERS))

    def __getitem__(self, which: Ints) -> Texts:
        return Texts(self.vectors[which], self.spelled[which], self.manners[which])


@dataclass(frozen=True)
class TextClassifier:
    """Weights and bias of the three models, and of the sum of what they and the contrast say.

    ``by_template``: whether the manner is that of the masked text.
    """

    meaning: Floats
    rarity: Floats
    spelling: Floats
    centre: Floats
    scale: Floats
    manner: Floats
    shares: Floats
    by_template: bool = False

    @classmethod
    def fit(
        cls, texts: Texts, anomalous: Bools, nearest: int, *, by_template: bool
    ) -> tuple[TextClassifier | None, Floats]:
        """The model, and each text's log-odds by one that has not seen it; none below three cases of a label.

        ``nearest``: how many cases of each label are contrasted; ``by_template``: what the ``texts`` were made with.
        """
        if min(anomalous.sum(), (~anomalous).sum()) < _FEWEST:
            return None, np.zeros(0)
        unseen = np.empty((len(anomalous), _PARTS))
        folds = _folds(anomalous)
        for rest, held in folds:
            part = cls(**_learned(texts[rest], anomalous[rest]), shares=np.zeros(0), by_template=by_template)
            near = _contrasts(texts.vectors[held], texts.vectors[rest], anomalous[rest], nearest)
            unseen[held] = part._context(texts[held], near)
        told = np.empty(len(anomalous))
        for rest, held in folds:
            told[held] = _summed(unseen[held], _shares(unseen[rest], anomalous[rest]))
        shares = _shares(unseen, anomalous)
        return cls(**_learned(texts, anomalous), shares=shares, by_template=by_template), told

    def log_odds(self, texts: Texts, contrasts: Floats) -> Floats:
        """Shape (n,); ``contrasts`` are those of the texts' nearest cases."""
        return _summed(self._context(texts, contrasts), self.shares)

    def _context(self, texts: Texts, contrasts: Floats) -> Floats:
        return np.stack(
            [
                _line(texts.vectors, self.meaning),
                _line(_weighed(texts.spelled, self.rarity), self.spelling),
                _line(_standard(texts.manners, self.centre, self.scale), self.manner),
                contrasts,
            ],
            axis=1,
        )

    def dumps(self) -> dict[str, Any]:
        """What `loads` makes it of again; plain arrays."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def loads(cls, state: Mapping[str, Any]) -> TextClassifier:
        return cls(**{**state, "by_template": bool(state["by_template"])})


def refine_with_classifier(
    signals: Sequence[Signal],
    model: TextClassifier | None,
    founds: Sequence[RetrievalResult],
    texts: Sequence[tuple[str, str]],
) -> list[Signal]:
    """The signals of `neighbours`, and where nothing like a record is known, what all cases say of such texts.

    ``texts``: each record's text, masked and as it is.
    """
    if model is None:
        return list(signals)
    new = {
        i: (found.vector, *texts[i], signal.log_odds)
        for i, (signal, found) in enumerate(zip(signals, founds, strict=True))
        if signal.log_odds is not None and found.vector is not None and not has_known_template(found)
    }
    out = list(signals)
    if new:
        vectors, masked, said, contrasts = zip(*new.values(), strict=True)
        written = masked if model.by_template else said
        told = model.log_odds(Texts.of(np.stack(vectors), masked, written), np.array(contrasts))
        for i, log_odds in zip(new, told, strict=True):
            out[i] = signals[i].model_copy(update={"log_odds": float(log_odds)})
    return out


@cache
def _hashing() -> Any:
    from sklearn.feature_extraction.text import HashingVectorizer

    return HashingVectorizer(
        analyzer="char_wb", ngram_range=(2, 5), n_features=2**_BITS, alternate_sign=False, norm=None
    )


def _manner(text: str) -> list[float]:
    words = text.split()
    text = " ".join(words)
    size = max(len(text), 1)
    numbers = re.findall(r"\d+", text)
    return [
        math.log1p(len(text)),
        math.log1p(len(words)),
        size / max(len(words), 1) / 10,
        math.log1p(max(map(len, words), default=0)),
        sum(sign.isdigit() for sign in text) / size,
        sum(sign.isupper() for sign in text) / size,
        sum(not (sign.isalnum() or sign.isspace()) for sign in text) / size,
        sum(len(word) > 1 and word.isupper() for word in words) / max(len(words), 1),
        math.log1p(len(numbers)),
        math.log1p(max(map(len, numbers), default=0)),
    ]


def _learned(texts: Texts, anomalous: Bools) -> dict[str, Floats]:
    seen = np.bincount(texts.spelled.indices, minlength=texts.spelled.shape[1])
    rarity = np.log((1 + len(anomalous)) / (1 + seen)) + 1
    centre, scale = texts.manners.mean(axis=0), texts.manners.std(axis=0) + 1e-6
    return {
        "meaning": _logistic(texts.vectors, anomalous),
        "rarity": rarity,
        "spelling": _logistic(_weighed(texts.spelled, rarity), anomalous),
        "centre": centre,
        "scale": scale,
        "manner": _logistic(_standard(texts.manners, centre, scale), anomalous),
    }


def _logistic(x: Any, y: Bools) -> Floats:
    """Weights and, last, the bias; labels balanced, as the sum of all parts learns how rare anomalies are."""
    from scipy.sparse import issparse
    from sklearn.linear_model import LogisticRegression

    solver = "liblinear" if issparse(x) else "lbfgs"
    model = LogisticRegression(C=_C, class_weight="balanced", solver=solver, max_iter=300, random_state=_SEED).fit(x, y)
    return np.asarray(np.r_[model.coef_[0], model.intercept_])


def _weighed(spelled: Any, rarity: Floats) -> Any:
    from scipy.sparse import diags
    from sklearn.preprocessing import normalize

    return normalize(spelled @ diags(rarity))


def _standard(manners: Floats, centre: Floats, scale: Floats) -> Floats:
    return np.asarray(np.clip((manners - centre) / scale, -4, 4) / math.sqrt(_MANNERS))


def _line(x: Any, weights: Floats) -> Floats:
    return np.asarray(np.asarray(x @ weights[:-1]).ravel() + weights[-1])


def _summed(context: Floats, shares: Floats) -> Floats:
    return np.asarray(context @ shares[:-1] + shares[-1])


def _shares(context: Floats, anomalous: Bools) -> Floats:
    """How much each part counts, none below zero, and a bias; without evidence, a quarter each."""
    start = np.r_[np.full(_PARTS, 1 / _PARTS), 0.0]
    x = np.c_[context, np.ones(len(context))]
    return map_estimate(x, anomalous.astype(float), np.ones(len(context)), start)


def _folds(anomalous: Bools) -> list[tuple[Ints, Ints]]:
    from sklearn.model_selection import StratifiedKFold

    wanted = _FOLDS_OF_FEW if len(anomalous) <= _FEW else _FOLDS
    folds = StratifiedKFold(int(min(wanted, anomalous.sum(), (~anomalous).sum())), shuffle=True, random_state=_SEED)
    return list(folds.split(anomalous, anomalous))


def _contrasts(vectors: NDArray[np.float32], cases: NDArray[np.float32], anomalous: Bools, nearest: int) -> Floats:
    """As `agent.detectors.neighbours.contrast` has it, of each of n vectors among the cases."""
    similar = vectors @ cases.T
    near = {}
    for label in (True, False):
        mine = similar[:, anomalous == label]
        near[label] = np.sort(mine, axis=1)[:, -nearest:].tolist()
    return np.array([kernel_log_ratio(bad, fine) or 0.0 for bad, fine in zip(near[True], near[False], strict=True)])
