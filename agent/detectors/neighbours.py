"""`neighbours`: the labels of the precedents.

Where the casebook holds the record's very content, or its template, the counts of their labels decide. Elsewhere the
nearest cases of both labels are contrasted: kernel-weighted similarities, equally many of each label, so that the rarer
label is not drowned (balanced retrieval; kernel density ratio). Where the source has many cases, a classifier of texts
learned from all of them is added (`agent.detectors.text_classifier`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from agent.core.records import Signal
from agent.detectors.base import DetectorInput
from agent.detectors.kernel import kernel_log_ratio
from retrieval.casebook import Neighbour, RetrievalResult

if TYPE_CHECKING:
    from agent.detectors.text_classifier import TextClassifier

# pseudo-counts, normal and anomalous: how much one label given to the template is worth
_TEMPLATE_PSEUDO_COUNTS = 0.08, 0.08
_QUOTE = 90
SAME = "exactly this record"
# greatest log-odds where extrapolation begins, and where that is
_SURE, _BEYOND = 4.6, 1.25


@dataclass(frozen=True)
class NeighboursDetector:
    """The signal `neighbours`.

    Parameters
    ----------
    classifier : callable
        Gives the source's classifier of texts, which takes time to load.
    content_pseudo_counts : (float, float)
        How much one label given to the very content is worth, see `agent.scoring.fusion.SourceModel`.
    reach : float
        The greatest cosine distance of a case to its nearest other case: farther away, nothing was ever tested.
    """

    classifier: Callable[[], TextClassifier | None]
    content_pseudo_counts: tuple[float, float]
    reach: float = math.inf
    name: str = "neighbours"

    def score(self, records: Sequence[DetectorInput]) -> list[Signal]:
        """See `agent.detectors.base.Scorer`."""
        signals = [neighbours(record.found, self.content_pseudo_counts) for record in records]
        unknown = [i for i, record in enumerate(records) if record.found.vector is not None and not _is_known(record)]
        model = None if all(map(_is_known, records)) else self.classifier()
        if model is None or not unknown:
            return signals
        from agent.detectors.text_classifier import Texts

        masked = [records[i].masked for i in unknown]
        written = masked if model.by_template else [records[i].text for i in unknown]
        texts = Texts.of(np.stack([records[i].found.vector for i in unknown]), masked, written)  # type: ignore[misc]
        log_odds = model.log_odds(texts, np.array([signals[i].log_odds or 0.0 for i in unknown]))
        for i, value in zip(unknown, log_odds, strict=True):
            distance = 1 - records[i].found.nearest[0].similarity
            signals[i] = signals[i].model_copy(update={"log_odds": bounded(float(value), distance, self.reach)})
        return signals


def bounded(log_odds: float, distance: float, reach: float) -> float:
    """Log-odds of a text as far as they may be trusted at a cosine ``distance`` from its nearest case.

    A quarter beyond ``reach`` and farther they are an extrapolation: their greatest amount falls from 4.6 (.99) with
    the square of the distance, smoothly, so that they still rank.

    >>> round(bounded(8.0, 0.3, 0.5), 2), round(bounded(8.0, 0.67, 0.5), 2), round(bounded(8.0, 1.0, 0.5), 2)
    (8.0, 3.86, 1.8)
    """
    reach *= _BEYOND
    if distance <= reach:
        return log_odds
    most = _SURE * (reach / distance) ** 2
    return most * math.tanh(log_odds / most) if most else 0.0


def _is_known(record: DetectorInput) -> bool:
    return has_known_template(record.found)


def counted(counts: Mapping[str, int], pseudo_counts: tuple[float, float]) -> float | None:
    """Log-odds from label counts, with ``pseudo_counts`` added to normal and anomalous; None without labels."""
    if not sum(counts.values()):
        return None
    return math.log((counts["anomalous"] + pseudo_counts[1]) / (counts["normal"] + pseudo_counts[0]))


def has_known_template(found: RetrievalResult) -> bool:
    """Whether the casebook holds this record's template or content, so that nothing need be inferred."""
    return any(found.same_template.values())


def label_disagreement(found: RetrievalResult) -> float:
    """Share of the rarer label among the cases with the record's content, or else its template; 0 without any."""
    counts = found.same_content if any(found.same_content.values()) else found.same_template
    return min(counts.values()) / max(1, sum(counts.values()))


def neighbours(found: RetrievalResult, content_pseudo_counts: tuple[float, float]) -> Signal:
    """The signal of one record, without the classifier."""
    log_odds = counted(found.same_content, content_pseudo_counts)
    if log_odds is None:
        log_odds = counted(found.same_template, _TEMPLATE_PSEUDO_COUNTS)
    if log_odds is None:
        log_odds = kernel_log_ratio(
            [near.similarity for near in found.nearest if near.case.label == "anomalous"],
            [near.similarity for near in found.nearest if near.case.label == "normal"],
        )
    return Signal(log_odds=log_odds, facts=tuple(_facts(found)))


def _facts(found: RetrievalResult) -> list[str]:
    facts = []
    counts, known = found.same_content, SAME
    if not sum(counts.values()):
        counts, known = found.same_template, "this template"
    if sum(counts.values()):
        facts.append(
            f"the casebook holds {known}: {counts['anomalous']} labelled anomalous, {counts['normal']} labelled normal"
        )
    for label in ("anomalous", "normal"):
        nearest = next((near for near in found.nearest if near.case.label == label), None)
        if nearest is None:
            facts.append(f"the casebook holds no {label} case")
        else:
            facts.append(f"nearest {label} case: {quote(nearest)}")
    return facts


def quote(near: Neighbour) -> str:
    """A precedent in a fact: id, similarity to two digits, the beginning of its text."""
    text = " ".join(near.case.text.split())
    text = text if len(text) <= _QUOTE else text[: _QUOTE - 1] + "…"
    return f"{near.case.case_id} (similarity {near.similarity:.2f}) “{text}”"
