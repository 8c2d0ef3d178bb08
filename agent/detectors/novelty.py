"""`novelty`: how far the record is from every case.

The distance to the nearest case is compared with the leave-one-out distances of the cases: the share of cases that are
at least as far from all others is a conformal p-value (Laxhammar & Falkman 2010), whose log-odds are the signal.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agent.core.records import Signal
from agent.detectors.base import DetectorInput
from retrieval.casebook import RetrievalResult

_LIMIT = 4.0
# fewer than one in twenty cases is as far from the others
_FAR = math.log(0.95 / 0.05)
_MIN_RECORDS, _MOST = 50, 0.5
_DOUBT = 0.05
# cosine similarity from which texts are of one kind
SAME_KIND = 0.6
# templates below which their distances do not tell what is unlike them all; cosine distance that does then
FEW_TEMPLATES = 20
_FARTHEST_OF_FEW = 0.5
# share of the cases that are nearer to the others than a record that is not called normal: the farthest may be odd
_FAMILIAR = 0.99
# share of the cases that are nearer to the others than a text that resembles none; its least cosine distance
_NEARER, _STRANGE = 0.9, 0.5
# cosine distance that is none, but for the rounding of vectors
_ROUNDING = 1e-6


@dataclass(frozen=True)
class NoveltyDetector:
    """The signal `novelty`.

    Parameters
    ----------
    reference : sequence of float
        Quantiles of the cases' leave-one-out distances, ascending.
    cases : int
        How many cases these are from.
    by_fields : bool
        Whether records are compared by fields: the signal is then the outlier score of the model of fields.
    difference : callable
        How a record differs from its nearest normal case, in words; None if it does not.
    """

    reference: Sequence[float]
    cases: int
    by_fields: bool
    difference: Callable[[DetectorInput], str | None]
    name: str = "novelty"

    def score(self, records: Sequence[DetectorInput]) -> list[Signal]:
        """See `agent.detectors.base.Scorer`."""
        return [self._signal(record) for record in records]

    def _signal(self, record: DetectorInput) -> Signal:
        signal = novelty(record.found, self.reference, self.cases, self.difference(record))
        if not self.by_fields or record.field_scores is None:
            return signal
        trees, outlier = record.field_scores
        # without trees the outlier score is the signal `fields`
        return signal.model_copy(update={"log_odds": None if trees is None else outlier})


def novelty_log_odds(distance: float, reference: Sequence[float], cases: int) -> float | None:
    """Log-odds that a record at cosine ``distance`` from its nearest case is unlike the cases.

    Parameters
    ----------
    distance : float
    reference : sequence of float
        Leave-one-out distances of the cases, or their quantiles, ascending.
    cases : int
        How many cases these are from.
    """
    if not reference:
        return None
    return _log_odds((1 - bisect_left(reference, distance) / len(reference)) * cases, cases)


def undecided_novelty(cases: int, risk: float) -> float:
    """The greatest log-odds of the signal that do not show a record to be unlike the normal ``cases``.

    Beyond the k-th largest of n distances lie at most a share ``risk`` of all normal records, with a confidence of
    .95, for the k of Wilks' tolerance limits (1941): with a risk of .05, none of fewer than 59 cases shows that.
    """
    from scipy.special import betaincinv

    farther = 0
    while farther < cases and betaincinv(farther + 1, cases - farther, 1 - _DOUBT) <= risk:
        farther += 1
    return _log_odds(farther, cases)


def _log_odds(farther: float, cases: int) -> float:
    """Log-odds of being unlike ``cases`` of which so many are at least as far from the others."""
    p = (farther + 1) / (cases + 2)
    return max(-_LIMIT, min(_LIMIT, math.log((1 - p) / p)))


def is_beyond(distance: float, reference: Sequence[float], *, few: bool) -> bool:
    """Whether a record is farther from every case than any case is from the others.

    Parameters
    ----------
    distance : float
        Cosine distance to the nearest case.
    reference : sequence of float
        As of `NoveltyDetector`.
    few : bool
        Whether it is a text among so few templates that these may all be far from each other, which shows nothing.
    """
    return distance > (min(reference[-1], _FARTHEST_OF_FEW) if few else reference[-1])


def is_unfamiliar(distance: float, reference: Sequence[float], *, few: bool) -> bool:
    """Whether a record is so far from every case that it is not called normal; see `is_beyond`.

    One case that is unlike all others must not make every record of another system familiar.
    """
    return distance > unfamiliar_from(reference, few=few)


def unfamiliar_from(reference: Sequence[float], *, few: bool) -> float:
    """The distance beyond which a record `is_unfamiliar`."""
    farthest = reference[round(_FAMILIAR * (len(reference) - 1))]
    return min(farthest, _FARTHEST_OF_FEW) if few else farthest


def resembles_none(distance: float, reference: Sequence[float], *, few: bool) -> bool:
    """Whether a text is so far from every case that their labels tell nothing about it; see `is_beyond`.

    That it is new does not show that it is anomalous: a line of another system is as new.
    """
    nearer = reference[round(_NEARER * (len(reference) - 1))]
    return is_beyond(distance, reference, few=few) or (not few and distance > max(nearer, _STRANGE))


def mostly_unfamiliar(far: int, records: int) -> bool:
    """Whether so many of the records are `is_far` that they may come from another source."""
    return records >= _MIN_RECORDS and far > _MOST * records


def is_far(log_odds: float | None) -> bool:
    """Whether a text with this signal is farther from every case than nearly all cases are from each other."""
    return log_odds is not None and log_odds >= _FAR


def novelty(found: RetrievalResult, reference: Sequence[float], cases: int, difference: str | None) -> Signal:
    """The signal of one record; its facts: how far the record is, and its ``difference`` from a normal case."""
    if not found.nearest or not reference:
        return Signal()
    distance = 1 - found.nearest[0].similarity
    # texts embedded together change the seventh digit, and many cases may be at no distance
    distance = distance if distance > _ROUNDING else 0.0
    farther = round(100 * bisect_left(reference, distance) / len(reference))
    facts = []
    if farther >= 50 and not any(found.same_template.values()):
        facts.append(f"it is farther from every case than {farther} % of the cases are from each other")
    if difference is not None:
        facts.append(difference)
    return Signal(log_odds=novelty_log_odds(distance, reference, cases), facts=tuple(facts))
