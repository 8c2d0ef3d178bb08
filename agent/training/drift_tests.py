"""Two-sample tests for drift: recent records against the cases, recent verdicts against earlier ones.

Each test answers whether a difference is beyond chance if both samples are drawn independently from one distribution.
A difference counts as drift if it is also large enough to matter.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import BaseModel

from retrieval.arrays import Bools, Floats, Ints

# chance of a false alarm of one family of tests; there are five
CHANCE = 0.01
# least difference that counts: of shares, and of two distributions (Kolmogorov-Smirnov, total variation)
LEAST_SHARE, LEAST_DISTANCE = 0.05, 0.1
_SHUFFLES, _SEED = 499, 20_26
# what NumPy can draw from
_MOST_RECORDS = 500_000_000
_MOST_CATEGORIES = 20
Value = float | str | bool | None


class DriftTest(BaseModel):
    """One test.

    Attributes
    ----------
    of : str
        What is compared: ``templates``, ``distance``, ``probability``, ``unsure``, ``anomalous``, ``corrections``, or
        ``field NAME``.
    recent, reference : float
        The share in the recent records and in what they are compared with; 0 is the reference of a distance between
        two distributions.
    p_value : float
        For fields with Holm's correction for their number.
    alarm : bool
        Whether the difference is beyond chance and large enough to matter.
    """

    of: str
    recent: float
    reference: float
    p_value: float
    alarm: bool


def unseen_templates(
    cases: Mapping[str, int], recent: Mapping[str, int], rng: np.random.Generator | None = None
) -> float:
    """The p-value of the number of recent records whose template no case has, by shuffling cases and records together.

    Parameters
    ----------
    cases, recent : mapping
        How many cases and recent records each template has.
    """
    rng = rng or np.random.default_rng(_SEED)
    n, observed = sum(recent.values()), sum(count for key, count in recent.items() if key not in cases)
    counts = np.array([cases.get(key, 0) + recent.get(key, 0) for key in sorted({*cases, *recent})])
    # a template with one record is unseen if that is drawn; one with more records than are drawn never is
    rare = counts[(counts > 1) & (counts <= n)]
    once, rest = int((counts == 1).sum()), min(int(counts[counts > n].sum()), _MOST_RECORDS)
    colours = np.concatenate([rare, [once, rest]])
    as_many = 0
    for _ in range(_SHUFFLES):
        *of_rare, of_once, _ = rng.multivariate_hypergeometric(colours, n, method="marginals")
        as_many += int(of_once + rare[np.asarray(of_rare, dtype=np.int64) == rare].sum() >= observed)
    return (1 + as_many) / (_SHUFFLES + 1)


def farther(distances: Floats, quantiles: Sequence[float], cases: int) -> tuple[float, float]:
    """How much farther n records are from their nearest case than the cases are from each other.

    Parameters
    ----------
    distances : shape (n,)
    quantiles : sequence of float
        Quantiles of the cases' distances, ascending.
    cases : int
        How many cases these are from.

    Returns
    -------
    The one-sided Kolmogorov-Smirnov distance, and its p-value by Smirnov's asymptotic formula.
    """
    reference, recent = np.asarray(quantiles), np.sort(distances)
    below = np.searchsorted(reference, recent, side="left") / len(reference)
    distance = float(max(0.0, np.max(below - np.arange(1, len(recent) + 1) / len(recent))))
    effective = len(recent) * cases / (len(recent) + cases)
    return distance, math.exp(-2 * effective * distance**2)


def more(count: int, of: int, earlier: int, of_earlier: int, *, either: bool = False) -> float:
    """The p-value of a share that is greater than an earlier one, or different (Fisher's exact test)."""
    from scipy.stats import fisher_exact

    table = np.array([[count, of - count], [earlier, of_earlier - earlier]])
    return float(fisher_exact(table, alternative="two-sided" if either else "greater").pvalue)


def exceeds(count: int, of: int, share: float) -> float:
    """The p-value of so many, if the true share is at most ``share`` (binomial test)."""
    from scipy.stats import binomtest

    return float(binomtest(count, of, share, alternative="greater").pvalue) if of else 1.0


def different_numbers(recent: Floats, reference: Floats) -> tuple[float, float]:
    """The Kolmogorov-Smirnov distance of two samples, and its p-value; missing values are -inf."""
    from scipy.stats import ks_2samp

    found = ks_2samp(recent, reference, method="asymp")
    return float(found.statistic), float(found.pvalue)


def different_categories(recent: Sequence[Value], reference: Sequence[Value]) -> tuple[float, float]:
    """The total variation distance of two samples of categories, and the p-value of a chi-squared test."""
    from scipy.stats import chi2_contingency

    counts = [Counter(map(str, values)) for values in (recent, reference)]
    # the rest count together, and so do rare ones, of which chi-squared is no approximation
    kept = [value for value, n in (counts[0] + counts[1]).most_common(_MOST_CATEGORIES) if n >= 10]
    table = np.array([[*(of[value] for value in kept), of.total() - sum(of[value] for value in kept)] for of in counts])
    table = table[:, table.any(axis=0)]
    if table.shape[1] < 2:
        return 0.0, 1.0
    shares = table / table.sum(axis=1, keepdims=True)
    return float(np.abs(shares[0] - shares[1]).sum() / 2), float(chi2_contingency(table, correction=False).pvalue)


def different_column(recent: Sequence[Value], reference: Sequence[Value]) -> tuple[float, float]:
    """The distance of two samples of a column's values, and its p-value; numbers if most values are."""
    values = [value for value in (*recent, *reference) if value is not None]
    if sum(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values) * 2 > len(values):
        return different_numbers(_as_numbers(recent), _as_numbers(reference))
    return different_categories(recent, reference)


def _as_numbers(values: Sequence[Value]) -> Floats:
    return np.array([-np.inf if isinstance(value, str | None) else float(value) for value in values])


def with_share(anomalous: Bools, share: float) -> Ints:
    """Indices of as many cases as there can be with this share of anomalous ones; all, if they have one label."""
    rng, groups = np.random.default_rng(_SEED), [np.flatnonzero(anomalous), np.flatnonzero(~anomalous)]
    if not all(map(len, groups)):
        return np.arange(len(anomalous))
    size = min(len(group) / wanted for group, wanted in zip(groups, (share, 1 - share), strict=True) if wanted > 0)
    sizes = [round(size * wanted) for wanted in (share, 1 - share)]
    return np.sort(np.concatenate([rng.permutation(g)[:n] for g, n in zip(groups, sizes, strict=True)]))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values with Holm's correction for their number."""
    order, highest, corrected = np.argsort(p_values), 0.0, [0.0] * len(p_values)
    for rank, i in enumerate(order.tolist()):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = highest
    return corrected
