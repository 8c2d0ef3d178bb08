"""`neighbours`: what the labels of the precedents say.

Where the casebook holds the record's very content, or its template, the counts of their labels decide.
Elsewhere the nearest cases of both labels are contrasted: kernel-weighted similarities, equally many of each
label, so that the rarer label is not drowned (balanced retrieval; kernel density ratio).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from agent.core.records import Signal
from retrieval.casebook import Neighbour, RetrievalResult

# width of the kernel over cosine similarity, and what one label given to this very content or template is worth
_WIDTH = 0.08
_DOUBT_CONTENT = 0.04
_DOUBT_TEMPLATE = 0.08
_QUOTE = 90
SAME = "exactly this record"


def kernel_log_ratio(anomalous: Sequence[float], normal: Sequence[float]) -> float | None:
    """Log ratio of the kernel densities of both labels at the record, from the similarities of its nearest cases."""
    if not anomalous or not normal:
        return None
    return _log_density(anomalous) - _log_density(normal)


def counted(counts: Mapping[str, int], doubt: float) -> float | None:
    """Log-odds from label counts, ``doubt`` being the pseudo-count of each label."""
    if not sum(counts.values()):
        return None
    return math.log((counts["anomalous"] + doubt) / (counts["normal"] + doubt))


def has_known_template(found: RetrievalResult) -> bool:
    """Whether the casebook holds this record's template or content, so that nothing need be inferred."""
    return any(found.same_template.values())


def neighbours(found: RetrievalResult) -> Signal:
    """The signal, and the facts behind it."""
    log_odds = counted(found.same_content, _DOUBT_CONTENT)
    if log_odds is None:
        log_odds = counted(found.same_template, _DOUBT_TEMPLATE)
    if log_odds is None:
        log_odds = kernel_log_ratio(
            [near.similarity for near in found.nearest if near.case.label == "anomalous"],
            [near.similarity for near in found.nearest if near.case.label == "normal"],
        )
    return Signal(log_odds=log_odds, facts=tuple(_facts(found)))


def _facts(found: RetrievalResult) -> list[str]:
    facts = []
    counts, what = found.same_content, SAME
    if not sum(counts.values()):
        counts, what = found.same_template, "this template"
    if sum(counts.values()):
        facts.append(
            f"the casebook holds {what}: {counts['anomalous']} labelled anomalous, {counts['normal']} labelled normal"
        )
    for label in ("anomalous", "normal"):
        nearest = next((near for near in found.nearest if near.case.label == label), None)
        if nearest is None:
            facts.append(f"the casebook holds no {label} case")
        else:
            facts.append(f"nearest {label} case: {quote(nearest)}")
    return facts


def quote(near: Neighbour) -> str:
    """A precedent as facts name it: id, similarity to two digits, the beginning of its text."""
    text = " ".join(near.case.text.split())
    text = text if len(text) <= _QUOTE else text[: _QUOTE - 1] + "…"
    return f"{near.case.case_id} (similarity {near.similarity:.2f}) “{text}”"


def _log_density(similarities: Sequence[float]) -> float:
    top = max(similarities)
    total = sum(math.exp((similarity - top) / _WIDTH) for similarity in similarities)
    return top / _WIDTH + math.log(total / len(similarities))
