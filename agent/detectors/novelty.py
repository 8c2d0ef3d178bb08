"""`novelty`: how far the record is from everything seen.

The distance to the nearest case is compared with the distances of the cases to each other (leave-one-out): the
share of cases at least as lonely is a conformal p-value (Laxhammar & Falkman 2010), its log-odds the signal.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

from agent.core.records import Signal
from retrieval.casebook import RetrievalResult

_LIMIT = 4.0
# fewer than one in twenty cases is as lonely
_FAR = math.log(0.95 / 0.05)
_FEWEST, _MUCH = 50, 0.5


def nn_distance_quantiles(distance: float, reference: Sequence[float], cases: int) -> float | None:
    """Log-odds that a record at cosine ``distance`` from its nearest case is unlike the cases.

    ``reference``: leave-one-out distances of the cases, ascending (or their quantiles); ``cases``: how many.
    """
    if not reference:
        return None
    share = 1 - bisect_left(reference, distance) / len(reference)
    p = (share * cases + 1) / (cases + 2)
    return max(-_LIMIT, min(_LIMIT, math.log((1 - p) / p)))


def mostly_unfamiliar(far: int, records: int) -> bool:
    """Whether so many of the records are `is_far` that they may be of another source altogether."""
    return records >= _FEWEST and far > _MUCH * records


def is_far(log_odds: float | None) -> bool:
    """Whether a text with this signal is farther from every case than nearly all cases are from each other."""
    return log_odds is not None and log_odds >= _FAR


def novelty(found: RetrievalResult, reference: Sequence[float], cases: int, unlike: str | None) -> Signal:
    """The signal; facts: how lonely the record is, and how ``unlike`` its nearest normal case."""
    if not found.nearest or not reference:
        return Signal()
    distance = 1 - found.nearest[0].similarity
    farther = round(100 * bisect_left(reference, distance) / len(reference))
    facts = []
    if farther >= 50 and not any(found.same_template.values()):
        facts.append(f"it is farther from every case than {farther} % of the cases are from each other")
    if unlike is not None:
        facts.append(unlike)
    return Signal(log_odds=nn_distance_quantiles(distance, reference, cases), facts=tuple(facts))
