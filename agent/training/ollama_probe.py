"""A linear probe of a language model's activations, fitted to a source's cases, as an adapter of the model's weights.

The probe (Alain & Bengio 2016) reads the input of the last layer's output matrix at the end of the prompt. Its value is
added to the residual along the direction that separates the labels' first tokens, which is an addition of rank one to
that matrix. So the model's most probable word becomes the label that the probe predicts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llm.llamacpp.activations import Activation
from llm.llamacpp.adapter import LowRank
from retrieval.arrays import Bools, Floats, Ints

# strength of the labels in the fit: 10 or more is best on one log, 1 to 100 differ by .01 on two other sources
_C = 10.0
# standard deviation of the log-odds with the adapter, over the cases: at least, and as a multiple of that without it
_SPREAD, _TIMES = 4.0, 2.0
_RIDGE = 1e-3


@dataclass(frozen=True)
class _Linear:
    """``inner @ weights + bias``, for inner activations of shape (n, inner width)."""

    weights: Floats
    bias: float

    def __call__(self, inner: Floats) -> Floats:
        return np.asarray(inner @ self.weights + self.bias)

    def times(self, factor: float, shift: float = 0.0) -> _Linear:
        return _Linear(self.weights * factor, self.bias * factor + shift)


def balanced_accuracy(log_odds: Floats, anomalous: Bools) -> float:
    """The mean of the labels' recall."""
    return float((np.mean(log_odds[anomalous] > 0) + np.mean(log_odds[~anomalous] < 0)) / 2)


class Probe:
    """Fits probes to the activations of cases.

    Parameters
    ----------
    activations : sequence of Activation
        Of n cases.
    anomalous : shape (n,)
    folds : shape (n,)
        The number of the fold of each case, for the threshold: each fold is predicted from the others.
    elsewhere : shape (m, inner width)
        Inner activations within replies, where the probe's value is to be 0, so that it changes the label only.
    """

    def __init__(self, activations: Sequence[Activation], anomalous: Bools, folds: Ints, elsewhere: Floats) -> None:
        self._elsewhere = _basis(elsewhere)
        self._inner = self._without(np.stack([each.inner for each in activations]).astype(float))
        self._residual = np.stack([each.residual for each in activations]).astype(float)
        self._log_odds = np.array([each.log_odds for each in activations])
        self._anomalous, self._folds = anomalous, folds

    def held_out(self, folds: Ints) -> Floats:
        """Log-odds of each case, shape (n,), by a probe of the cases of other ``folds``, of which each has a number."""
        out = np.zeros(len(folds))
        for fold in np.unique(folds):
            rest = folds != fold
            probe = self._fit(np.flatnonzero(rest))
            out[~rest] = probe(self._inner[~rest])
        return out

    def adapter(self, places: Ints) -> LowRank:
        """The addition to the output matrix of the last layer, fitted to the cases at ``places``."""
        inner, residual = self._inner[places], self._residual[places]
        size = np.sqrt(np.mean(residual**2, axis=1))
        direction = _ridge(residual, self._log_odds[places] * size)
        probe = self._fit(places)
        # what the model says without it is replaced as far as the activations predict it
        model = _regression(inner, self._log_odds[places])
        spread = max(_SPREAD, _TIMES * float(np.std(self._log_odds[places])))
        factor = spread / max(float(np.std(probe(inner))), 1e-6)
        total = _Linear(probe.weights * factor - model.weights, probe.bias * factor - model.bias)
        constant = _constant(inner)
        output = direction * float(size.mean()) / float(direction @ direction)
        weights = self._without(total.weights + total.bias * constant)
        return LowRank.outer(output.astype(np.float32), weights.astype(np.float32))

    def _without(self, rows: Floats) -> Floats:
        """The part of rows, shape (…, inner width), that is orthogonal to the activations within replies."""
        return rows - rows @ self._elsewhere.T @ self._elsewhere

    def _fit(self, places: Ints) -> _Linear:
        """A logistic probe of the cases at ``places``, with the best threshold for unseen cases."""
        probe = _logistic(self._inner[places], self._anomalous[places])
        folds, log_odds = self._folds[places], np.zeros(len(places))
        for fold in np.unique(folds):
            rest = folds != fold
            labels = self._anomalous[places][rest]
            if labels.all() or not labels.any():
                return probe
            log_odds[~rest] = _logistic(self._inner[places][rest], labels)(self._inner[places][~rest])
        platt = _logistic(log_odds[:, None], self._anomalous[places])
        slope = float(platt.weights[0])
        return probe.times(1, platt.bias / slope) if slope > 0 else probe


def _logistic(inner: Floats, anomalous: Bools) -> _Linear:
    """Logistic regression on standardised columns, in the space of the n cases; both labels weigh the same."""
    from sklearn.linear_model import LogisticRegression

    mean = inner.mean(axis=0)
    scale = (inner.std(axis=0) + _RIDGE * inner.std()) * np.sqrt(inner.shape[1])
    left, sizes, right = np.linalg.svd((inner - mean) / scale, full_matrices=False)
    used = sizes > 1e-6 * sizes[0]
    model = LogisticRegression(C=_C, class_weight="balanced", max_iter=2000)
    model.fit((left * sizes)[:, used], anomalous)
    weights = right[used].T @ model.coef_[0] / scale
    return _Linear(weights, float(model.intercept_[0] - mean @ weights))


def _regression(inner: Floats, values: Floats) -> _Linear:
    """Ridge regression."""
    mean = inner.mean(axis=0)
    weights = _ridge(inner - mean, values - values.mean())
    return _Linear(weights, float(values.mean() - mean @ weights))


def _basis(rows: Floats) -> Floats:
    """Orthonormal rows, shape (k, columns), that span all but the least of the variation of ``rows``."""
    _, sizes, right = np.linalg.svd(rows, full_matrices=False)
    kept: Floats = right[sizes > _RIDGE * sizes[0]]
    return kept


def _constant(inner: Floats) -> Floats:
    """Weights, shape (inner width,), that give about 1 on every row; an adapter has no bias."""
    return _ridge(inner, np.ones(len(inner)))


def _ridge(rows: Floats, values: Floats) -> Floats:
    """Weights, shape (columns,), with which ``rows`` give ``values``; in the space of the rows, which are fewer."""
    gram = rows @ rows.T
    gram[np.diag_indices_from(gram)] += _RIDGE * np.trace(gram) / len(gram)
    return np.asarray(rows.T @ np.linalg.solve(gram, values))
