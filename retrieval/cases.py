"""The nouns of memory: a case on its way in, a case kept, and what was found on a record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from retrieval.space import RecordLike

LABELS = ("normal", "anomalous")


@dataclass(frozen=True)
class NewCase:
    """A case on its way into the casebook."""

    record: RecordLike
    content_hash: str
    label: str
    file: str | None = None
    line: int | None = None
    time: str | None = None


@dataclass(frozen=True)
class StoredCase:
    case_id: str
    key: str
    content_hash: str
    label: str
    text: str
    fields: dict[str, Any]
    events: tuple[str, ...]
    given_by: str


@dataclass(frozen=True)
class Neighbour:
    case: StoredCase
    similarity: float


@dataclass(frozen=True)
class Found:
    """What memory holds on one record.

    ``nearest`` has up to k cases of each label, nearest first; ``same_template`` and ``same_content`` count
    the cases of each label with the record's key, and with exactly its content.
    """

    nearest: tuple[Neighbour, ...]
    same_template: dict[str, int]
    same_content: dict[str, int]


def stored(row: Any) -> StoredCase:
    return StoredCase(f"c{row.id}", row.key, row.hash, row.label, row.text, row.fields, tuple(row.events), row.given_by)
