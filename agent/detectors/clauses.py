"""The clauses of long records: which of them is least like what normal records hold, and how anomalous that makes it.

A linear model of character n-grams tells windows of anomalous cases from those of normal ones. Which window makes an
anomalous case anomalous is not known: the model is fitted to all that no normal case has, then again to the most
anomalous of each case (multiple-instance learning, Andrews et al. 2002). Without anomalous cases, a window is as
anomalous as its n-grams are rare. Windows that normal cases have count nothing. The greatest value of a record is
calibrated on cases that the model has not seen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agent.core.numerics import map_estimate
from retrieval.arrays import Bools, Floats
from retrieval.text.clauses import Known, Place, places, windows
from retrieval.text.masking import strip_placeholders

_BITS, _C, _SEED = 16, 10.0, 20_26
# of fewer normal cases alone, none shows that few of all normal records are beyond it (see `novelty.undecided_novelty`)
_MIN_NORMAL = 59
_MIN_CASES, _MAX_CASES, _FOLDS, _ROUNDS, _MARGIN = 5, 2_000, 5, 2, 1.0
# places compared as records: so many, and in long texts one for so many characters
_TOP, _CHARS_PER_PLACE = 3, 50
# the weight of the clause by itself, beside that of the clause as a record
_WEIGHT = 0.3
_USUAL, _SHARE, _JUST_UNSURE = 0.75, 0.6, 0.9
# log-odds below which no clause is looked at further
NEGLIGIBLE = -4.0


class Suspicion(NamedTuple):
    """How anomalous one place of a text makes the record.

    Attributes
    ----------
    log_odds : float
        By the place alone, if it were one of so few as records usually have.
    bound : float
        The same, less what so many places as this text has make likely by chance.
    clause : str
        The most anomalous window of the place.
    records : tuple of str
        The clause with what belongs to it, to be compared as records.
    """

    log_odds: float
    bound: float
    clause: str
    records: tuple[str, ...]

    def combined(self, of_record: float, sure: float) -> float:
        """The weighted mean with the log-odds, above their threshold, of the place as a record of its own.

        ``sure`` is the least that is called anomalous, its negative the greatest that is called normal. The result is
        not called normal where only the number of clauses speaks against the place, nor where the place as a record
        would be called anomalous.
        """
        total = _WEIGHT * self.bound + (1 - _WEIGHT) * of_record
        unsure = of_record >= sure or self.log_odds + of_record > 0
        return max(total, _JUST_UNSURE * -sure) if unsure else total


@dataclass(frozen=True)
class ClauseModel:
    """A fitted model of clauses.

    Parameters
    ----------
    weights : shape (2**16 + 1,)
        Of the n-grams and, last, the bias.
    known : Known
        The normal cases' text.
    slope, bias : float
        From a record's greatest value to log-odds, with cases of both labels.
    usual : float
        How many new windows three in four of the records with any have at most.
    tail : shape (n,)
        Without anomalous cases, the normal cases' greatest values, ascending; empty with both labels.
    """

    weights: NDArray[np.float32]
    known: Known
    slope: float
    bias: float
    usual: float
    tail: Floats

    @classmethod
    def fit(cls, masked: Sequence[str], anomalous: Bools) -> ClauseModel | None:
        """Fit to the masked texts of n cases, of which ``anomalous``, shape (n,), says the labels.

        None with too few normal cases, or too few that have windows of their own.
        """
        order = np.random.default_rng(_SEED).permutation(len(masked))
        both = anomalous.sum() >= _MIN_CASES
        chosen = [
            i for label in (False, True)[: 1 + both] for i in order[anomalous[order] == label][:_MAX_CASES].tolist()
        ]
        texts, labels = [masked[i] for i in chosen], anomalous[chosen]
        if (~labels).sum() < (_MIN_CASES if both else _MIN_NORMAL):
            return None
        held_out = _held_out(texts, labels)
        weights = None if held_out is None else _fit(texts, labels, _known(texts, labels))
        if held_out is None or weights is None:
            return None
        greatest, counts = held_out
        scored, known = ~np.isnan(greatest), _known(masked, anomalous)
        slope, bias, tail = 0.0, 0.0, np.zeros(0)
        if both:
            if min((scored & labels).sum(), (scored & ~labels).sum()) < _MIN_CASES:
                return None
            x = np.c_[greatest[scored], np.ones(scored.sum())]
            slope, bias = map_estimate(x, labels[scored].astype(float), np.ones(scored.sum()), np.array([1.0, 0.0]))
        else:
            tail = np.sort(np.nan_to_num(greatest, nan=-1.0))
        usual = max(float(np.quantile(counts[scored], _USUAL)) if scored.any() else 1.0, 1.0)
        return cls(weights.astype(np.float32), known, float(slope), float(bias), usual, tail)

    def suspicions(self, masked: str) -> list[Suspicion]:
        """The most anomalous places of a masked text, the most anomalous first; none where all is known text."""
        most = _SHARE * len(strip_placeholders(masked))
        # what is most of the record is judged already, as the record
        found = [
            place._replace(records=records)
            for place in places(masked, self.known)
            if (records := _that_fit(place, most))
        ]
        texts = list(dict.fromkeys(window for place in found for window in place.windows))
        if not texts:
            return []
        values = _values(_ngrams(texts), self.weights.astype(np.float64), mean=bool(len(self.tail)))
        value = dict(zip(texts, values.tolist(), strict=True))
        # half of what it were if each window were another chance: most overlap with others
        penalty = math.log(max(1.0, len(texts) / self.usual)) / 2
        suspicions = dict[tuple[str, ...], Suspicion]()
        for place in found:
            clause = max(place.windows, key=value.__getitem__)
            log_odds = self._log_odds(value[clause])
            # the places of one entry are one
            of_entry = place.records[-1:]
            other = suspicions.get(of_entry)
            if place.is_case:
                # whatever the model of clauses makes of it
                log_odds = max(log_odds, 0.0)
            if log_odds > NEGLIGIBLE and (other is None or log_odds > other.log_odds):
                suspicions[of_entry] = Suspicion(log_odds, log_odds - penalty, clause, place.records)
        return sorted(suspicions.values(), key=lambda suspicion: -suspicion.log_odds)[
            : max(_TOP, len(masked) // _CHARS_PER_PLACE)
        ]

    def _log_odds(self, greatest: float) -> float:
        if len(self.tail):
            n = len(self.tail)
            p = (n - int(np.searchsorted(self.tail, greatest)) + 1) / (n + 2)
            return math.log((1 - p) / p)
        return self.slope * greatest + self.bias

    def dumps(self) -> dict[str, Any]:
        """The model as plain arrays, see `loads`."""
        state = {name: getattr(self, name) for name in self.__dataclass_fields__}
        cases = np.array(sorted(self.known.anomalous), np.uint64).reshape(-1, 3)
        entries = np.array(sorted(self.known.entries), np.uint64)
        return {**state, "known": np.array(sorted(self.known.runs), np.uint64), "exceptions": cases, "entries": entries}

    @classmethod
    def loads(cls, state: Mapping[str, Any]) -> ClauseModel:
        """The model that `dumps` gave ``state`` of."""
        numbers = {name: float(state[name]) for name in ("slope", "bias", "usual")}
        cases = frozenset((first, words, text) for first, words, text in state["exceptions"].tolist())
        # sources that an earlier version learned have no entries
        entries = frozenset(state["entries"].tolist()) if "entries" in state else frozenset[int]()
        known = Known(frozenset(state["known"].tolist()), cases, entries)
        return cls(state["weights"], known, tail=state["tail"], **numbers)


def _that_fit(place: Place, most: float) -> tuple[str, ...]:
    """The records of a place, or its shortest window, of at most so many characters."""
    fitting = [text for text in place.records if len(strip_placeholders(text)) <= most]
    return tuple(fitting or [text for text in place.windows[:1] if len(text) <= most])


def _known(masked: Sequence[str], anomalous: Bools) -> Known:
    normal, others = (
        [text for text, label in zip(masked, anomalous, strict=True) if label == wanted] for wanted in (False, True)
    )
    return Known.of(normal, others)


def _held_out(masked: Sequence[str], anomalous: Bools) -> tuple[Floats, Floats] | None:
    """Each case's greatest value, NaN without new windows, and their number, by models that have not seen it."""
    folds = np.empty(len(masked), dtype=np.int64)
    for label in (False, True):
        folds[anomalous == label] = np.arange((anomalous == label).sum()) % _FOLDS
    greatest, counts = np.full(len(masked), np.nan), np.zeros(len(masked))
    for fold in range(_FOLDS):
        rest = np.flatnonzero(folds != fold)
        texts, labels = [masked[i] for i in rest.tolist()], anomalous[rest]
        known = _known(texts, labels)
        weights = _fit(texts, labels, known)
        if weights is None:
            return None
        for i in np.flatnonzero(folds == fold).tolist():
            new = windows(masked[i], known)
            counts[i] = len(new)
            if new:
                greatest[i] = _values(_ngrams(new), weights, mean=not anomalous.any()).max()
    return greatest, counts


def _fit(masked: Sequence[str], anomalous: Bools, known: Known) -> Floats | None:
    """Weights of the n-grams, and a bias; None if no anomalous case has a window of its own."""
    from scipy.sparse import vstack
    from sklearn.linear_model import LogisticRegression

    normal = {window for text, label in zip(masked, anomalous, strict=True) if not label for window in windows(text)}
    if not anomalous.any():
        counts = np.bincount(_ngrams(sorted(normal)).indices, minlength=2**_BITS)
        return np.asarray(np.r_[np.log((1 + len(normal)) / (1 + counts)), 0.0])
    # the text of a case is one window where the case is known
    unlabelled = replace(known, anomalous=frozenset(), entries=frozenset())
    bags = [
        windows(text, unlabelled) or windows(text, known)
        for text, label in zip(masked, anomalous, strict=True)
        if label
    ]
    bags = [bag for bag in bags if bag]
    if not bags or not normal:
        return None
    case = np.repeat(range(len(bags)), [len(bag) for bag in bags])
    new = _ngrams([text for bag in bags for text in bag])
    x = vstack([_ngrams(sorted(normal)), new]).tocsr()
    y = np.r_[np.zeros(len(normal)), np.ones(len(case))]
    shares = 1 / np.bincount(case)[case]
    for _ in range(_ROUNDS):
        sample = np.r_[np.ones(len(normal)), shares * len(normal) / shares.sum()]
        used = sample > 0
        model = LogisticRegression(C=_C, solver="liblinear", max_iter=300, random_state=_SEED)
        model.fit(x[used], y[used], sample_weight=sample[used])
        weights = np.r_[model.coef_[0], model.intercept_]
        values, top = _values(new, weights, mean=False), np.full(len(bags), -np.inf)
        np.maximum.at(top, case, values)
        shares = (values >= top[case] - _MARGIN).astype(float)
        shares /= np.bincount(case, shares)[case]
    return np.asarray(weights)


@cache
def _hashing() -> Any:
    from sklearn.feature_extraction.text import HashingVectorizer

    return HashingVectorizer(analyzer="char_wb", ngram_range=(2, 5), n_features=2**_BITS, alternate_sign=False)


def _ngrams(texts: Sequence[str]) -> Any:
    return _hashing().transform(texts).tocsr()


def _values(x: Any, weights: Floats, *, mean: bool) -> Floats:
    """The weighted sum of each row's n-grams and the bias, or the mean of their weights."""
    total = np.asarray(x @ weights[:-1]).ravel()
    return np.asarray(total / np.maximum(np.asarray(x.sum(axis=1)).ravel(), 1e-9) if mean else total + weights[-1])
