"""Numerical functions that scoring, detectors and training share."""

from __future__ import annotations

import math

import numpy as np

from retrieval.arrays import Floats

_PRIOR_STRENGTH = 10.0


def expit(z: float) -> float:
    """The logistic function of one number; `scipy.special.expit` costs each command 0.2 s of imports."""
    return 1 / (1 + math.exp(-z)) if z >= 0 else math.exp(z) / (1 + math.exp(z))


def logit(p: float) -> float:
    """Log-odds of one probability; 0 and 1 give about ±27.6."""
    p = min(max(p, 1e-12), 1 - 1e-12)
    return math.log(p / (1 - p))


def map_estimate(
    x: Floats, y: Floats, w: Floats, start: Floats, bias_bounds: tuple[float | None, float | None] = (None, None)
) -> Floats:
    """Maximum a posteriori estimate of a logistic model with non-negative weights.

    The prior is Gaussian around ``start``; that of the bias is ten times weaker.

    Parameters
    ----------
    x : shape (n, columns)
        Log-odds of n cases; the last column is 1, for the bias.
    y : shape (n,)
        1 for anomalous cases, 0 for normal ones.
    w : shape (n,)
        How many cases each counts as.
    start : shape (columns,)
        Mean of the prior.
    bias_bounds : pair of float or None
        Least and greatest bias.

    Returns
    -------
    shape (columns,)
        Weights and, last, the bias.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    pull_strength = np.r_[np.full(len(start) - 1, _PRIOR_STRENGTH), _PRIOR_STRENGTH / 10]

    def loss(theta: Floats) -> tuple[float, Floats]:
        z = x @ theta
        pull = theta - start
        value = float(w @ (np.logaddexp(0, z) - y * z) + 0.5 * pull_strength @ pull**2)
        gradient = x.T @ (w * (expit(z) - y)) + pull_strength * pull
        return value, gradient

    bounds = [(0.0, None)] * (len(start) - 1) + [bias_bounds]
    theta: Floats = minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B").x
    return theta


def trend(numbers: Floats) -> float:
    """Spearman's rank correlation of numbers with their order, 0 for equal ones."""
    from scipy.stats import rankdata

    ranks, order = rankdata(numbers) - (len(numbers) + 1) / 2, np.arange(len(numbers)) - (len(numbers) - 1) / 2
    spread = math.sqrt(float((ranks**2).sum() * (order**2).sum()))
    return float((ranks * order).sum() / spread) if spread else 0.0
