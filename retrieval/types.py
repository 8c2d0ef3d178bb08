"""The nouns of memory: a case on its way in, a case kept, and what was found on a record."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.encoding.representation import RecordLike

LABELS = ("normal", "anomalous")


@dataclass(frozen=True)
class NewCase:
    """A case on its way into the casebook; ``kind``: the label's value as it was given ("neptune", "APPREAD")."""

    record: RecordLike
    content_hash: str
    label: str
    file: str | None = None
    line: int | None = None
    time: str | None = None
    kind: str | None = None


@dataclass(frozen=True)
class StoredCase:
    """A case of the casebook; ``times``: how often its content came with its label in what was learned at once."""

    case_id: str
    key: str
    content_hash: str
    label: str
    text: str
    fields: dict[str, Any]
    events: tuple[str, ...]
    given_by: str
    times: int = 1
    kind: str | None = None


@dataclass(frozen=True)
class Neighbour:
    case: StoredCase
    similarity: float


@dataclass(frozen=True)
class RetrievalResult:
    """What memory holds on one record.

    ``nearest`` has up to k cases of each label, nearest first; ``same_template`` and ``same_content`` count
    the cases of each label with the record's key, and with exactly its content. ``vector``: the record's own.
    """

    nearest: tuple[Neighbour, ...]
    same_template: dict[str, int]
    same_content: dict[str, int]
    vector: NDArray[np.float32] | None = field(default=None, compare=False)


def stored_case(row: Any) -> StoredCase:
    events = tuple(row.events)
    return StoredCase(
        f"c{row.id}", row.key, row.hash, row.label, row.text, row.fields, events, row.given_by, row.times, row.kind
    )
