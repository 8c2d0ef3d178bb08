"""The labels of all cases, learned from their texts: three linear models, and how much each counts.

*Embedding* is the vector of the masked text, *char n-grams* are hashed from the masked text, *style* is ten numbers of
how the text is written, which masking removes. With the kernel log ratio of the nearest cases they give one log-odds;
their weights are learned from out-of-fold values (stacking, Wolpert 1992). Where the cases are many lines of few
templates, the style counts nothing: all lines of a template get the same verdict, and how long or how upper-case a
template is tells nothing about other templates (docs/decisions/0005).
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
from agent.detectors.kernel import kernel_log_ratio
from retrieval.arrays import Bools, Floats, Ints

_BITS, _C, _SEED = 16, 10.0, 20_26
# characters of a text that are read
_CHARS = 4_000
_MIN_CASES, _FOLDS, _FOLDS_OF_FEW, _FEW = 3, 5, 10, 2_000
_STYLES, _STYLE_LIMIT = 10, 4
_PARTS = 4
_STYLE = 2
# prior of the sum of the parts' weights, each part in units of its standard deviation
_PRIOR_WEIGHT = 1.5
# of classifiers stored before the parts were renamed
_OLD_NAMES = {
    "meaning": "embedding",
    "rarity": "idf",
    "spelling": "char_ngrams",
    "manner": "style",
    "shares": "stack",
}


@dataclass(frozen=True)
class Texts:
    """Features of n texts.

    Parameters
    ----------
    vectors : shape (n, dimensions)
        Embeddings of the masked texts, unit length.
    ngrams : sparse, shape (n, 2**16)
        1 + ln of the counts of hashed character n-grams.
    styles : shape (n, 10)
    """

    vectors: NDArray[np.float32]
    ngrams: Any
    styles: Floats

    @classmethod
    def of(cls, vectors: NDArray[np.float32], masked: Sequence[str], written: Sequence[str]) -> Texts:
        """The features of n texts.

        Parameters
        ----------
        vectors : shape (n, dimensions)
            Embeddings of the masked texts, unit length.
        masked : sequence of str
            The masked texts.
        written : sequence of str
            The texts that give the style.
        """
        counts = _hashing().transform([text[:_CHARS] for text in masked]).tocsr()
        counts.data = 1 + np.log(counts.data)
        return cls(vectors, counts, np.array([_style(text[:_CHARS]) for text in written]).reshape(-1, _STYLES))

    def __getitem__(self, indices: Ints) -> Texts:
        return Texts(self.vectors[indices], self.ngrams[indices], self.styles[indices])

    def joined(self, others: Texts) -> Texts:
        """These texts, and then the others."""
        from scipy.sparse import vstack

        ngrams = vstack([self.ngrams, others.ngrams]).tocsr()
        return Texts(np.vstack([self.vectors, others.vectors]), ngrams, np.vstack([self.styles, others.styles]))


@dataclass(frozen=True)
class TextClassifier:
    """A fitted classifier of texts.

    Parameters
    ----------
    embedding, char_ngrams, style : shape (columns + 1,)
        Weights of the three linear models and, last, their bias.
    idf : shape (2**16,)
        Inverse document frequencies of the n-grams.
    centre, scale : shape (10,)
        Of the styles.
    stack : shape (5,)
        Weights of the three models and of the kernel log ratio, and the bias.
    by_template : bool
        Whether the texts are lines of templates, whose style is not used.
    """

    embedding: Floats
    idf: Floats
    char_ngrams: Floats
    centre: Floats
    scale: Floats
    style: Floats
    stack: Floats
    by_template: bool = False

    @classmethod
    def fit(
        cls, texts: Texts, anomalous: Bools, nearest: int, kind_folds: Ints | None, *, by_template: bool
    ) -> tuple[TextClassifier | None, list[Floats]]:
        """Fit to n cases.

        Parameters
        ----------
        texts : Texts
        anomalous : shape (n,)
        nearest : int
            How many cases of each label the kernel log ratio takes.
        kind_folds : shape (n,) or None
            Fold of each case, all cases of a kind in one; None if there are too few kinds.
        by_template : bool
            Whether the texts are lines of templates, whose style is not used.

        Returns
        -------
        TextClassifier or None
            None with fewer than three cases of a label.
        list of arrays of shape (n,)
            Out-of-fold log-odds of the cases: by classifiers that have not seen the case, and, where there are
            ``kind_folds``, by classifiers that have not seen its kind. Empty without a classifier.
        """
        if min(anomalous.sum(), (~anomalous).sum()) < _MIN_CASES:
            return None, []
        # scikit-learn's StackingClassifier has neither non-negative weights with a prior nor the kernel of other cases
        folds = _folds(anomalous)
        foldings = [folds] if kind_folds is None else [folds, _split(kind_folds)]
        rounds = [cls._held_out(texts, anomalous, nearest, folding, by_template) for folding in foldings]
        out_of_fold = [np.empty(len(anomalous)) for _ in rounds]
        for rest, held_out in folds:
            stack = _fit_stack([parts[rest] for parts in rounds], anomalous[rest], by_template)
            for log_odds, parts in zip(out_of_fold, rounds, strict=True):
                log_odds[held_out] = _linear(parts[held_out], stack)
        stack = _fit_stack(rounds, anomalous, by_template)
        return cls(**_fit_parts(texts, anomalous), stack=stack, by_template=by_template), out_of_fold

    @classmethod
    def of_parts(cls, texts: Texts, anomalous: Bools, *, by_template: bool = False) -> TextClassifier:
        """The three linear models, fitted to n cases of both labels, without a stack."""
        return cls(**_fit_parts(texts, anomalous), stack=np.zeros(0), by_template=by_template)

    @classmethod
    def _held_out(
        cls, texts: Texts, anomalous: Bools, nearest: int, folds: Sequence[tuple[Ints, Ints]], by_template: bool
    ) -> Floats:
        """What the models and the kernel log ratio give n cases, each fitted on the other folds, shape (n, 4)."""
        parts = np.empty((len(anomalous), _PARTS))
        for rest, held_out in folds:
            fitted = cls.of_parts(texts[rest], anomalous[rest], by_template=by_template)
            ratios = _kernel_log_ratios(texts.vectors[held_out], texts.vectors[rest], anomalous[rest], nearest)
            parts[held_out] = fitted._parts(texts[held_out], ratios)
        return parts

    def log_odds(self, texts: Texts, kernel_log_ratios: Floats) -> Floats:
        """Log-odds of n texts, shape (n,), with the kernel log ratios of their nearest cases, shape (n,)."""
        return _linear(self._parts(texts, kernel_log_ratios), self.stack)

    def _parts(self, texts: Texts, kernel_log_ratios: Floats) -> Floats:
        return np.asarray(np.c_[self.linear_parts(texts), kernel_log_ratios])

    def linear_parts(self, texts: Texts) -> Floats:
        """What the three linear models give n texts, shape (n, 3)."""
        return np.stack(
            [
                _linear(texts.vectors, self.embedding),
                _linear(_tf_idf(texts.ngrams, self.idf), self.char_ngrams),
                _linear(_standardised(texts.styles, self.centre, self.scale), self.style),
            ],
            axis=1,
        )

    def dumps(self) -> dict[str, Any]:
        """The classifier as plain arrays, see `loads`."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def loads(cls, state: Mapping[str, Any]) -> TextClassifier:
        """The classifier that `dumps` gave ``state`` of."""
        renamed = {_OLD_NAMES.get(name, name): array for name, array in state.items()}
        return cls(**{**renamed, "by_template": bool(state["by_template"])})


@cache
def _hashing() -> Any:
    from sklearn.feature_extraction.text import HashingVectorizer

    return HashingVectorizer(
        analyzer="char_wb", ngram_range=(2, 5), n_features=2**_BITS, alternate_sign=False, norm=None
    )


def _style(text: str) -> list[float]:
    words = text.split()
    text = " ".join(words)
    size = max(len(text), 1)
    numbers = re.findall(r"\d+", text)
    return [
        math.log1p(len(text)),
        math.log1p(len(words)),
        size / max(len(words), 1) / 10,
        math.log1p(max(map(len, words), default=0)),
        sum(char.isdigit() for char in text) / size,
        sum(char.isupper() for char in text) / size,
        sum(not (char.isalnum() or char.isspace()) for char in text) / size,
        sum(len(word) > 1 and word.isupper() for word in words) / max(len(words), 1),
        math.log1p(len(numbers)),
        math.log1p(max(map(len, numbers), default=0)),
    ]


def _fit_parts(texts: Texts, anomalous: Bools) -> dict[str, Floats]:
    document_counts = np.bincount(texts.ngrams.indices, minlength=texts.ngrams.shape[1])
    idf = np.log((1 + len(anomalous)) / (1 + document_counts)) + 1
    centre, scale = texts.styles.mean(axis=0), texts.styles.std(axis=0) + 1e-6
    return {
        "embedding": _logistic(texts.vectors, anomalous),
        "idf": idf,
        "char_ngrams": _logistic(_tf_idf(texts.ngrams, idf), anomalous),
        "centre": centre,
        "scale": scale,
        "style": _logistic(_standardised(texts.styles, centre, scale), anomalous),
    }


def _logistic(x: Any, y: Bools) -> Floats:
    """Weights and, last, the bias; labels are balanced, because the stack learns how rare anomalies are."""
    from scipy.sparse import issparse
    from sklearn.linear_model import LogisticRegression

    solver = "liblinear" if issparse(x) else "lbfgs"
    model = LogisticRegression(C=_C, class_weight="balanced", solver=solver, max_iter=300, random_state=_SEED).fit(x, y)
    return np.asarray(np.r_[model.coef_[0], model.intercept_])


def _tf_idf(ngrams: Any, idf: Floats) -> Any:
    # as TfidfTransformer does; its fitted state cannot be restored from one array
    from scipy.sparse import diags
    from sklearn.preprocessing import normalize

    return normalize(ngrams @ diags(idf))


def _standardised(styles: Floats, centre: Floats, scale: Floats) -> Floats:
    return np.asarray(np.clip((styles - centre) / scale, -_STYLE_LIMIT, _STYLE_LIMIT) / math.sqrt(_STYLES))


def _linear(x: Any, weights: Floats) -> Floats:
    return np.asarray(np.asarray(x @ weights[:-1]).ravel() + weights[-1])


def _fit_stack(rounds: Sequence[Floats], anomalous: Bools, by_template: bool) -> Floats:
    """Non-negative weights of the parts, and a bias; the prior is the same for each. Each round has all cases."""
    used = [part for part in range(_PARTS) if part != _STYLE or not by_template]
    x = np.vstack(rounds)[:, used]
    # the parts have different scales, and the prior must not prefer the largest
    scale = x.std(axis=0) + 1e-6
    start = np.r_[np.full(len(used), _PRIOR_WEIGHT / len(used)), 0.0]
    labels = np.tile(anomalous.astype(float), len(rounds))
    theta = map_estimate(np.c_[x / scale, np.ones(len(x))], labels, np.full(len(labels), 1 / len(rounds)), start)
    stack = np.zeros(_PARTS + 1)
    stack[used], stack[-1] = theta[:-1] / scale, theta[-1]
    return stack


def _split(fold_of_case: Ints) -> list[tuple[Ints, Ints]]:
    """For each fold the indices of the cases that are not in it, and of those that are."""
    return [(np.flatnonzero(fold_of_case != f), np.flatnonzero(fold_of_case == f)) for f in np.unique(fold_of_case)]


def _folds(anomalous: Bools) -> list[tuple[Ints, Ints]]:
    from sklearn.model_selection import StratifiedKFold

    wanted = _FOLDS_OF_FEW if len(anomalous) <= _FEW else _FOLDS
    folds = StratifiedKFold(int(min(wanted, anomalous.sum(), (~anomalous).sum())), shuffle=True, random_state=_SEED)
    return list(folds.split(anomalous, anomalous))


def _kernel_log_ratios(
    vectors: NDArray[np.float32], cases: NDArray[np.float32], anomalous: Bools, nearest: int
) -> Floats:
    """`kernel_log_ratio` of each of n vectors, shape (n,), from its nearest cases of each label."""
    similar = vectors @ cases.T
    near = {label: np.sort(similar[:, anomalous == label], axis=1)[:, -nearest:].tolist() for label in (True, False)}
    return np.array([kernel_log_ratio(*both) or 0.0 for both in zip(near[True], near[False], strict=True)])
