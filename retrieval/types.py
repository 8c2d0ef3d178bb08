"""The types of retrieval: a case to be added, a stored case, and what was found for a record."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.encoding.representation import RecordLike

LABELS = ("normal", "anomalous")
# where a label came over HTTP: what comes after who or what gave it, before the name of the API key
KEY_MARK = ", API key "
Vector = NDArray[np.float32]


@dataclass(frozen=True)
class NewCase:
    """A case to be added.

    ``label_value``: the label's value as it was given ("neptune", "APPREAD"); ``series``: the window of a time series
    that it is, as JSON.
    """

    record: RecordLike
    content_hash: str
    label: str
    file: str | None = None
    line: int | None = None
    time: str | None = None
    label_value: str | None = None
    series: dict[str, Any] | None = None


@dataclass(frozen=True)
class StoredCase:
    """A case of the casebook; ``occurrences``: how often its content came with its label in one call of ``add``."""

    case_id: str
    key: str
    content_hash: str
    label: str
    text: str
    fields: dict[str, Any]
    events: tuple[str, ...]
    given_by: str
    occurrences: int = 1
    label_value: str | None = None
    series: dict[str, Any] | None = None


@dataclass(frozen=True)
class Neighbour:
    """A case, and the cosine of its vector with the record's, -1 to 1."""

    case: StoredCase
    similarity: float


@dataclass(frozen=True)
class RetrievalResult:
    """What the casebook holds on one record.

    ``nearest`` has up to k cases of each label, nearest first; ``same_template`` and ``same_content`` count the cases
    of each label with the record's key, and with its very content; ``vector`` is the record's own, shape
    ``(dimensions,)``.
    """

    nearest: tuple[Neighbour, ...]
    same_template: dict[str, int]
    same_content: dict[str, int]
    vector: Vector | None = field(default=None, compare=False)


NOTHING_FOUND = RetrievalResult((), dict.fromkeys(LABELS, 0), dict.fromkeys(LABELS, 0))


def case_id(number: int) -> str:
    """The id of the case that the table numbers so."""
    return f"c{number}"


def stored_case(row: Any) -> StoredCase:
    """The case of a row of the table."""
    return StoredCase(
        case_id=case_id(row.id),
        key=row.key,
        content_hash=row.hash,
        label=row.label,
        text=row.text,
        fields=row.fields,
        events=tuple(row.events),
        given_by=row.given_by,
        occurrences=row.occurrences,
        label_value=row.label_value,
        series=row.series,
    )
