"""Active learning: the verdicts whose labels would improve a source most.

Uncertainty sampling, weighted by density and diversified (Settles & Craven 2008; Settles, *Active Learning*, 2012,
chapters 2 and 5): a label is worth most where the probability is near the middle of the unsure band, where many
records share the template, and where no similar record is selected yet.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from agent.core.numerics import expit, logit
from agent.core.records import Record, Verdict, VerdictLabel
from agent.pipeline.context import AppContext
from agent.pipeline.history import find_verdicts, newest
from retrieval.encoding.representation import Representation

# newest verdicts that are considered
_POOL = 10_000
# how many times ``n`` candidates are embedded
_SHORTLIST = 10
# cosine from which on two records count as the same
_SAME = 0.999


class Candidate(BaseModel):
    """A verdict to correct or to confirm; ``alike`` counts the recent records of its template."""

    model_config = ConfigDict(frozen=True)

    id: str
    label: VerdictLabel
    probability: float
    alike: int
    record: Record


def select_for_review(context: AppContext, source: str, n: int) -> list[Candidate]:
    """Select verdicts for review, the most valuable first.

    Templates that a case has already are left out.

    Parameters
    ----------
    context : AppContext
    source : str
    n : int
        The most verdicts to return, out of the source's newest 10,000.

    Raises
    ------
    UnknownSource
    """
    snapshot = context.source(source)
    verdicts = newest(find_verdicts(context, source=source, limit=_POOL))
    cases = context.casebook.templates(source)
    representation = snapshot.representation or Representation.fit([verdict.record for verdict in verdicts])
    groups: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        groups.setdefault(representation.key(verdict.record, verdict.record.content_hash), []).append(verdict)
    unseen = [group for key, group in groups.items() if key not in cases]
    unseen.sort(key=_review_value, reverse=True)
    shortlist = unseen[: _SHORTLIST * n]
    vectors = context.casebook.vectors(
        replace(snapshot, representation=representation), [group[0].record for group in shortlist]
    )
    chosen = _select_diverse(np.array([_review_value(group) for group in shortlist]), vectors, n)
    return [_candidate(shortlist[i]) for i in chosen]


def _candidate(group: Sequence[Verdict]) -> Candidate:
    first = group[0]
    return Candidate(
        id=first.id, label=first.label, probability=first.probability, alike=len(group), record=first.record
    )


def _review_value(group: Sequence[Verdict]) -> float:
    return uncertainty(group[0]) * math.sqrt(len(group))


def uncertainty(verdict: Verdict) -> float:
    """How uncertain a verdict is, from 0 to 1, which is the middle of the unsure band.

    If the middle is at even odds, this is twice the probability that the label is wrong.
    """
    return 2 * expit(-abs(logit(verdict.probability) - verdict.threshold))


def _select_diverse(values: NDArray[np.float64], vectors: Sequence[NDArray[np.float32]], n: int) -> list[int]:
    """Indices of ``n`` candidates, chosen greedily by value times the distance to the nearest chosen one."""
    chosen: list[int] = []
    nearest, matrix = np.zeros(len(values)), np.array(vectors)
    while len(chosen) < n and (nearest < _SAME).any():
        best = int(np.argmax(values * (nearest < _SAME) * (1 - nearest)))
        chosen.append(best)
        nearest = np.maximum(nearest, matrix @ matrix[best])
        nearest[best] = 1.0
    return chosen
