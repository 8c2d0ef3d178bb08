"""The clauses of long records: which of them is least like what normal records hold, and how anomalous that makes it.

A linear model of character n-grams tells windows of anomalous cases from those of normal ones. Which window makes an
anomalous case anomalous is not known: the model is fitted to all that no normal case has, then again to the most
anomalous of each case (multiple-instance learning, Andrews et al. 2002). Windows that normal cases have count nothing.
The greatest value of a record is calibrated on cases that the model has not seen.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agent.core.numerics import Floats, map_estimate
from retrieval.text.clauses import Window, windows

_BITS, _C, _SEED = 16, 10.0, 20_26
_MIN_CASES, _MAX_CASES, _FOLDS, _ROUNDS, _MARGIN = 5, 2_000, 5, 2, 1.0
_TOP = 3
_LOWEST = -20.0
Numbers = NDArray[np.int64]
Hashes = NDArray[np.uint64]


class Suspicion(NamedTuple):
    """How anomalous a record's clauses are.

    Attributes
    ----------
    log_odds : float
        That the record is anomalous, as its most anomalous clause has it among so few as records usually have.
    bound : float
        The same, less what so many clauses as this record has make likely by chance.
    clauses : tuple of str
        The most anomalous ones, most anomalous first.
    """

    log_odds: float
    bound: float
    clauses: tuple[str, ...]


@dataclass(frozen=True)
class ClauseModel:
    """A fitted model of clauses.

    Parameters
    ----------
    weights : shape (2**16 + 1,)
        Of the n-grams and, last, the bias.
    known : shape (n,)
        Hashes of the normal cases' clauses and windows, ascending.
    alarming : shape (n,)
        Hashes of the anomalous cases' windows that no normal case has, ascending.
    slope, bias : float
        From a record's greatest value to log-odds.
    usual : float
        How many unknown windows a record usually has.
    """

    weights: NDArray[np.float32]
    known: Hashes
    alarming: Hashes
    slope: float
    bias: float
    usual: float

    @classmethod
    def fit(cls, masked: Sequence[str], anomalous: NDArray[np.bool_]) -> ClauseModel | None:
        """Fit to the masked texts of n cases, of which ``anomalous``, shape (n,), says the labels.

        None with fewer than five cases of a label that have windows of their own.
        """
        order = np.random.default_rng(_SEED).permutation(len(masked))
        chosen = [i for label in (False, True) for i in order[anomalous[order] == label][:_MAX_CASES].tolist()]
        cases, labels = _Cases.of([masked[i] for i in chosen]), anomalous[chosen]
        if min(labels.sum(), (~labels).sum()) < _MIN_CASES:
            return None
        folds = np.empty(len(labels), dtype=np.int64)
        for label in (False, True):
            folds[labels == label] = np.arange((labels == label).sum()) % _FOLDS
        greatest, counts = np.full(len(labels), np.nan), np.zeros(len(labels))
        for fold in range(_FOLDS):
            model = cases.fit(np.flatnonzero(folds != fold), labels)
            if model is None:
                return None
            for i in np.flatnonzero(folds == fold).tolist():
                unknown = cases.unknown(i, model)
                counts[i] = len(unknown)
                if len(unknown):
                    greatest[i] = model.values[unknown].max()
        model = cases.fit(np.arange(len(labels)), labels)
        scored = ~np.isnan(greatest)
        if model is None or min((scored & labels).sum(), (scored & ~labels).sum()) < _MIN_CASES:
            return None
        x = np.c_[greatest[scored], np.ones(scored.sum())]
        slope, bias = map_estimate(x, labels[scored].astype(float), np.ones(scored.sum()), np.array([1.0, 0.0]))
        hashes = _hashes(cases.texts)
        return cls(
            model.weights.astype(np.float32),
            np.sort(hashes[model.known]),
            np.sort(hashes[model.alarming]),
            float(slope),
            float(bias),
            max(float(np.median(counts[scored & ~labels])), 1.0),
        )

    def suspicion(self, masked: str) -> Suspicion:
        """How anomalous the clauses of a masked text are."""
        found = windows(masked)
        unknown = [text for text, is_unknown in zip(found, self._unknown(found), strict=True) if is_unknown]
        if not unknown:
            return Suspicion(_LOWEST, _LOWEST, ())
        values = _linear(_ngrams([window.text for window in unknown]), self.weights.astype(np.float64))
        order = np.argsort(-values, kind="stable")[:_TOP]
        log_odds = self.slope * float(values[order[0]]) + self.bias
        bound = log_odds - math.log(max(1.0, len(unknown) / self.usual))
        return Suspicion(log_odds, bound, tuple(unknown[i].text for i in order))

    def _unknown(self, found: Sequence[Window]) -> list[bool]:
        """Whether each window counts: an anomalous case has it, or one of its clauses is in no normal case."""
        texts = list(dict.fromkeys(text for window in found for text in (window.text, *window.clauses)))
        hashes = _hashes(texts)
        known = dict(zip(texts, _is_in(hashes, self.known).tolist(), strict=True))
        alarming = dict(zip(texts, _is_in(hashes, self.alarming).tolist(), strict=True))
        return [
            not known[text] and (alarming[text] or not all(known[clause] for clause in clauses))
            for text, clauses in found
        ]

    def dumps(self) -> dict[str, Any]:
        """The model as plain arrays, see `loads`."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def loads(cls, state: Mapping[str, Any]) -> ClauseModel:
        """The model that `dumps` gave ``state`` of."""
        numbers = {name: float(state[name]) for name in ("slope", "bias", "usual")}
        return cls(state["weights"], state["known"], state["alarming"], **numbers)


class _Fit(NamedTuple):
    """Weights, each text's value, and which texts normal cases have, and which only windows of anomalous ones."""

    weights: Floats
    values: Floats
    known: NDArray[np.bool_]
    alarming: NDArray[np.bool_]


@dataclass(frozen=True)
class _Cases:
    """The windows of cases, by the numbers of their distinct ``texts``; ``grams``: the n-grams of these."""

    texts: list[str]
    grams: Any
    windows: list[Numbers]
    clauses: list[list[Numbers]]

    @classmethod
    def of(cls, masked: Sequence[str]) -> _Cases:
        found = [windows(text) for text in masked]
        all_texts = (text for bag in found for window in bag for text in (window.text, *window.clauses))
        number = {text: at for at, text in enumerate(dict.fromkeys(all_texts))}
        return cls(
            list(number),
            _ngrams(list(number)),
            [np.array([number[window.text] for window in bag], dtype=np.int64) for bag in found],
            [[np.array([number[clause] for clause in window.clauses]) for window in bag] for bag in found],
        )

    def unknown(self, case: int, model: _Fit) -> Numbers:
        """The windows of a case that count, see `ClauseModel._unknown`."""
        known, alarming = model.known, model.alarming
        of_case = zip(self.windows[case].tolist(), self.clauses[case], strict=True)
        counted = [at for at, parts in of_case if not known[at] and (alarming[at] or not known[parts].all())]
        return np.array(counted, dtype=np.int64)

    def fit(self, chosen: Numbers, anomalous: NDArray[np.bool_]) -> _Fit | None:
        """The model of the ``chosen`` cases; None if no anomalous one has a window of its own."""
        from sklearn.linear_model import LogisticRegression

        known, alarming = np.zeros(len(self.texts), np.bool_), np.zeros(len(self.texts), np.bool_)
        for i in chosen[~anomalous[chosen]].tolist():
            known[np.concatenate([self.windows[i], *self.clauses[i]])] = True
        own = [self.windows[i][~known[self.windows[i]]] for i in chosen[anomalous[chosen]].tolist()]
        own = [bag for bag in own if len(bag)]
        if not own or not known.any():
            return None
        normal, anomalous_ones = np.flatnonzero(known), np.concatenate(own)
        alarming[anomalous_ones] = True
        case = np.repeat(range(len(own)), [len(bag) for bag in own])
        shares = 1 / np.bincount(case)[case]
        x, y = self.grams[np.r_[normal, anomalous_ones]], np.r_[np.zeros(len(normal)), np.ones(len(anomalous_ones))]
        for _ in range(_ROUNDS):
            sample = np.r_[np.ones(len(normal)), shares * len(normal) / shares.sum()]
            used = sample > 0
            model = LogisticRegression(C=_C, solver="liblinear", max_iter=300, random_state=_SEED)
            model.fit(x[used], y[used], sample_weight=sample[used])
            weights = np.r_[model.coef_[0], model.intercept_]
            values = _linear(self.grams, weights)
            top = np.full(len(own), -np.inf)
            np.maximum.at(top, case, values[anomalous_ones])
            shares = (values[anomalous_ones] >= top[case] - _MARGIN).astype(float)
            shares /= np.bincount(case, shares)[case]
        return _Fit(weights, values, known, alarming)


@cache
def _hashing() -> Any:
    from sklearn.feature_extraction.text import HashingVectorizer

    return HashingVectorizer(analyzer="char_wb", ngram_range=(2, 5), n_features=2**_BITS, alternate_sign=False)


def _ngrams(texts: Sequence[str]) -> Any:
    return _hashing().transform(texts).tocsr()


def _linear(x: Any, weights: Floats) -> Floats:
    return np.asarray(x @ weights[:-1]).ravel() + weights[-1]


def _is_in(hashes: Hashes, ordered: Hashes) -> NDArray[np.bool_]:
    if not len(ordered):
        return np.zeros(len(hashes), np.bool_)
    return np.asarray(ordered[np.minimum(np.searchsorted(ordered, hashes), len(ordered) - 1)] == hashes)


def _hashes(texts: Sequence[str]) -> Hashes:
    digests = b"".join(hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(digests, np.uint64)
