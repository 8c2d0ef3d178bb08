"""Cases by meaning, and their map: what the pages show of the vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from agent.core.records import Record
from agent.core.terminal import truncate
from agent.pipeline.context import AppContext
from agent.training.cases import CaseView, show_case
from retrieval.types import LABELS, Vector

_NEAREST, _MAPPED, _CHARS = 100, 3_000, 160


@dataclass(frozen=True)
class Point:
    """A template of the casebook on the map, with its newest case."""

    x: float
    y: float
    label: str
    case_id: str
    text: str


def nearest_cases(context: AppContext, source: str, text: str, label: str | None) -> list[tuple[CaseView, float]]:
    """The cases whose meaning is nearest to a text, one for each template, with their cosines."""
    record = Record(text=text)
    found = context.casebook.find(source, record, record.content_hash, _NEAREST)
    nearest = [near for near in found.nearest if label in (None, near.case.label)]
    return [(show_case(context, near.case.case_id), near.similarity) for near in nearest]


def searches_by_meaning(context: AppContext, source: str) -> bool:
    """Whether the source's cases are compared by their texts; a table's are compared by their fields."""
    representation = context.source(source).representation
    return representation is not None and representation.field_encoder is None


def case_map(context: AppContext, source: str) -> list[Point]:
    """The first two principal components of the vectors of all templates; of very many an even sample."""
    context.casebook.sync(source)
    snapshot = context.source(source)
    newest = {key: case for key, (case, _count) in context.casebook.by_template(source).items()}
    keys: list[tuple[str, str]] = []
    vectors: list[Vector] = []
    for label in LABELS:
        names, matrix = context.casebook.matrix(snapshot, label)
        keys += [(name, label) for name in names]
        vectors += list(matrix)
    known = [i for i, key in enumerate(keys) if key in newest]
    chosen = known[:: max(1, -(-len(known) // _MAPPED))]
    if len(chosen) < 3:
        return []
    places = principal_axes(np.stack([vectors[i] for i in chosen]))
    return [
        Point(round(float(x), 4), round(float(y), 4), keys[i][1], case.case_id, truncate(_shown(case), _CHARS))
        for i, (x, y) in zip(chosen, places, strict=True)
        if (case := newest[keys[i]])
    ]


def principal_axes(vectors: Vector) -> Vector:
    """The first two principal components of n vectors, shape (n, 2); the sign of each is fixed."""
    centred = vectors - vectors.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes[:2]
    if len(axes) < 2:
        axes = np.vstack([axes, np.zeros_like(axes)])
    strongest = axes[np.arange(2), np.abs(axes).argmax(axis=1)]
    return np.asarray(centred @ (axes * np.where(strongest < 0, -1, 1)[:, None]).T)


def _shown(case: Any) -> str:
    return " ".join(case.text.split()) or ", ".join(f"{name} {value}" for name, value in case.fields.items())
