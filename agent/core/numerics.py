"""Numerical functions that scoring and training share."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_PRIOR_STRENGTH = 10.0


def map_estimate(
    x: NDArray[np.float64], y: NDArray[np.float64], w: NDArray[np.float64], start: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Weights (non-negative) and bias, shape ``(columns,)``: logistic, with a Gaussian prior around ``start``."""
    from scipy.optimize import minimize

    pull_strength = np.r_[np.full(len(start) - 1, _PRIOR_STRENGTH), _PRIOR_STRENGTH / 10]

    def loss(theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        z = x @ theta
        pull = theta - start
        value = float(w @ (np.logaddexp(0, z) - y * z) + 0.5 * pull_strength @ pull**2)
        gradient = x.T @ (w * (1 / (1 + np.exp(-z)) - y)) + pull_strength * pull
        return value, gradient

    bounds = [(0.0, None)] * (len(start) - 1) + [(None, None)]
    theta: NDArray[np.float64] = minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B").x
    return theta


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z)) if z >= 0 else math.exp(z) / (1 + math.exp(z))
