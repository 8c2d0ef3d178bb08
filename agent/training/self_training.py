"""Texts with few labels: two groups of a batch of texts, found from the cases, are learned like labels (self-training).

A classifier of the few cases gives the most and the least anomalous texts of the batch pseudo-labels, the next
classifier learns these as well, and so on with ever more of them (Yarowsky 1995), each text being scored by classifiers
that have not seen its own pseudo-label. How many texts are anomalous is not known: of several rates the one is taken
whose scores fall most clearly apart into two groups. Where none does, the batch shows nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from agent.detectors.text_classifier import TextClassifier, Texts
from retrieval.arrays import Bools, Floats, Ints

_RATES = (0.03, 0.06, 0.1, 0.15, 0.22, 0.32)
_FOLDS, _GROWTH, _SEED = 3, 4, 20_26
# standard deviations between the means of the two groups; batches of one kind of text have up to 3
_FEWEST_DEVIATIONS = 3.3
# greatest log-odds of the groups' means, with anomalous cases (.99) and without
_MEANS_BY_LABELS, _MEANS_BY_NORMAL_CASES = 4.6, 2.0
# with fewer anomalous cases, what is written unlike the normal cases is tried as a beginning as well
_FEW_ANOMALOUS = 2


@dataclass(frozen=True)
class TwoGroups:
    """Two groups of texts.

    Parameters
    ----------
    classifier : TextClassifier
        Gives the log-odds of the smaller group.
    share : float
        Share of the texts that are in it.
    deviations : float
        Distance of the groups' means in standard deviations.
    by_labels : bool
        Whether they were found from the cases of both labels, and not from normal cases alone.
    of_cases : shape (n,)
        Log-odds of the n cases by a classifier of the groups that has not seen the cases.
    """

    classifier: TextClassifier
    share: float
    deviations: float
    by_labels: bool
    of_cases: Floats


@dataclass(frozen=True)
class _Split:
    """Out-of-fold scores of the batch for one rate and beginning, as two normal distributions."""

    parts: Floats
    chosen: Ints
    labels: Bools
    means: Floats
    variance: float
    share: float
    by_labels: bool

    @property
    def deviations(self) -> float:
        return float((self.means[1] - self.means[0]) / np.sqrt(self.variance))


def find_two_groups(cases: Texts, anomalous: Bools, batch: Texts) -> TwoGroups | None:
    """The two groups that texts of a batch fall into; None if they do not clearly.

    Parameters
    ----------
    cases : n texts
    anomalous : shape (n,)
    batch : m texts
        Distinct ones that are no cases, in an order that does not depend on that of the records.
    """
    best = max(_splits(cases, anomalous, batch), key=lambda split: split.deviations, default=None)
    if best is None or best.deviations < _FEWEST_DEVIATIONS:
        return None
    known = np.arange(len(anomalous)) if best.by_labels else np.flatnonzero(~anomalous)
    grouped = batch[best.chosen]
    classifier = TextClassifier.of_parts(cases[known].joined(grouped), np.r_[anomalous[known], best.labels])
    # linear discriminant of two normal distributions of the same variance, on the sum of the standardised parts
    slope = (best.means[1] - best.means[0]) / best.variance
    middle = float(best.means.sum()) / 2
    centre, scale = best.parts.mean(axis=0), best.parts.std(axis=0) + 1e-9
    bias = np.log(best.share / (1 - best.share)) - slope * (middle + float((centre / scale).sum()))
    # scores of another batch are not as far apart, and groups without an anomalous case have a label of nobody
    most = _MEANS_BY_LABELS if best.by_labels else _MEANS_BY_NORMAL_CASES
    believed = min(1.0, 2 * most / best.deviations**2)
    # the kernel log ratio of a few cases has no part in it
    stack = believed * np.r_[slope / scale, 0.0, bias]
    without_cases = replace(TextClassifier.of_parts(grouped, best.labels), stack=stack)
    of_cases = without_cases.log_odds(cases, np.zeros(len(anomalous)))
    return TwoGroups(replace(classifier, stack=stack), best.share, best.deviations, best.by_labels, of_cases)


def _splits(cases: Texts, anomalous: Bools, batch: Texts) -> Iterator[_Split]:
    beginnings: list[tuple[bool, Ints, Floats]] = []
    if anomalous.any():
        everything = np.arange(len(anomalous))
        first = TextClassifier.of_parts(cases, anomalous).linear_parts(batch)
        beginnings.append((True, everything, _standardised_sum(first)))
    if anomalous.sum() < _FEW_ANOMALOUS:
        normal = np.flatnonzero(~anomalous)
        beginnings.append((False, normal, _unlike(cases.styles[normal], batch.styles)))
    for by_labels, known, scores in beginnings:
        for rate in _RATES:
            yield _split(cases[known], anomalous[known], batch, rate, scores, by_labels)


def _split(cases: Texts, anomalous: Bools, batch: Texts, rate: float, scores: Floats, by_labels: bool) -> _Split:
    total, size = len(batch.vectors), len(anomalous)
    while True:
        size = min(size * _GROWTH, total)
        order = np.argsort(-scores, kind="stable")
        top = max(_FOLDS, round(size * rate))
        bottom = max(_FOLDS, size - top)
        chosen = np.r_[order[:top], order[-bottom:]]
        labels = np.r_[np.ones(top, dtype=bool), np.zeros(bottom, dtype=bool)]
        parts = _out_of_fold(cases, anomalous, batch, chosen, labels)
        scores = _standardised_sum(parts)
        if size == total:
            means, variance, share = _two_normals(scores)
            return _Split(parts, chosen, labels, means, variance, share, by_labels)


def _out_of_fold(cases: Texts, anomalous: Bools, batch: Texts, chosen: Ints, labels: Bools) -> Floats:
    """The linear parts of each text of the batch by classifiers that have not its pseudo-label, shape (m, 3)."""
    fold = np.arange(len(batch.vectors)) % _FOLDS
    parts = np.empty((len(fold), 3))
    for number in range(_FOLDS):
        rest, held_out = fold[chosen] != number, np.flatnonzero(fold == number)
        texts = cases.joined(batch[chosen[rest]])
        classifier = TextClassifier.of_parts(texts, np.r_[anomalous, labels[rest]])
        parts[held_out] = classifier.linear_parts(batch[held_out])
    return parts


def _unlike(normal: Floats, styles: Floats) -> Floats:
    """How unlike the ``normal`` styles others are, shape (m,): squared distances in standard deviations."""
    centre, scale = normal.mean(axis=0), normal.std(axis=0) + 1e-6
    return np.asarray((((styles - centre) / scale) ** 2).sum(axis=1))


def _standardised_sum(parts: Floats) -> Floats:
    return np.asarray(((parts - parts.mean(axis=0)) / (parts.std(axis=0) + 1e-9)).sum(axis=1))


def _two_normals(scores: Floats) -> tuple[Floats, float, float]:
    """Means (ascending) and mean variance of a mixture of two normal distributions, and the share of the upper one."""
    from sklearn.mixture import GaussianMixture

    means: Floats = np.quantile(scores, [0.4, 0.95])[:, None]
    mixture = GaussianMixture(2, means_init=means, random_state=_SEED).fit(scores[:, None])
    order = np.argsort(mixture.means_.ravel())
    return (
        np.asarray(mixture.means_.ravel()[order]),
        float(mixture.covariances_.mean()),
        float(mixture.weights_[order[1]]),
    )
