"""Which verdicts to correct first: those whose labels would teach the judge most (active learning).

A label teaches much where the probability is near the middle of the unsure band, where many records are alike, and
where nothing like it is on the list already: uncertainty sampling, weighted by density, made diverse
(Settles & Craven 2008; Settles, *Active Learning*, 2012, chapters 2 and 5).
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
from agent.pipeline.history import newest, recent
from retrieval.encoding.representation import Representation

_POOL = 10_000
_SHORTLIST = 10
_SAME = 0.999


class Candidate(BaseModel):
    """A verdict to correct or to confirm; ``alike``: how many of the records judged lately have its template."""

    model_config = ConfigDict(frozen=True)

    id: str
    label: VerdictLabel
    probability: float
    alike: int
    record: Record


def select_for_review(context: AppContext, source: str, n: int) -> list[Candidate]:
    """Up to ``n`` of the source's last 10,000 verdicts, that which teaches most first; no template of a case.

    Raises:
        UnknownSource: there is no such source.
    """
    row = context.source(source)
    verdicts = newest(recent(context, source, _POOL))
    cases = context.casebook.templates(source)
    space = row.space or Representation.fit([verdict.record for verdict in verdicts])
    groups: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        groups.setdefault(space.key(verdict.record, verdict.record.content_hash), []).append(verdict)
    unseen = [group for key, group in groups.items() if key not in cases]
    unseen.sort(key=_worth, reverse=True)
    shortlist = unseen[: _SHORTLIST * n]
    placed = replace(row, space=space)
    vectors = context.casebook.vectors(placed, [group[0].record for group in shortlist])
    chosen = _diverse(np.array([_worth(group) for group in shortlist]), vectors, n)
    return [_candidate(shortlist[i]) for i in chosen]


def _candidate(group: Sequence[Verdict]) -> Candidate:
    first = group[0]
    return Candidate(
        id=first.id, label=first.label, probability=first.probability, alike=len(group), record=first.record
    )


def _worth(group: Sequence[Verdict]) -> float:
    return uncertainty(group[0]) * math.sqrt(len(group))


def uncertainty(verdict: Verdict) -> float:
    """1 in the middle of the unsure band; with the middle at even odds, twice the chance that the label is wrong."""
    low, high = map(logit, verdict.unsure_band)
    return 2 * expit(-abs(logit(verdict.probability) - (low + high) / 2))


def _diverse(worth: NDArray[np.float64], vectors: Sequence[NDArray[np.float32]], n: int) -> list[int]:
    """Indices, greedily: each one's worth falls with its similarity to the nearest that is chosen already."""
    chosen: list[int] = []
    nearest, matrix = np.zeros(len(worth)), np.array(vectors)
    while len(chosen) < n and (nearest < _SAME).any():
        best = int(np.argmax(worth * (nearest < _SAME) * (1 - nearest)))
        chosen.append(best)
        nearest = np.maximum(nearest, matrix @ matrix[best])
        nearest[best] = 1.0
    return chosen
