"""How the records of one source are compared: by the meaning of their text, or by their fields.

Decided once, from the source's first cases: records whose text only spells out their fields, and sessions, are
compared by fields; anything with prose in it by text. The design's words: `masked` is what the language model
and the embedding model see, `key` is the identity of a template.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from retrieval.encoding.field_encoder import FieldEncoder, FieldValue, features
from retrieval.text.masking import mask
from retrieval.text.prompt_injection import remove_injections

_PROSE_WORDS = 2.5


class RecordLike(Protocol):
    """What memory needs of a record."""

    @property
    def text(self) -> str: ...
    @property
    def fields(self) -> Mapping[str, FieldValue]: ...
    @property
    def events(self) -> Sequence[str]: ...


@dataclass(frozen=True)
class Representation:
    """``field_encoder`` is None where records are compared by text; ``prose`` names the fields that hold that text."""

    prose: tuple[str, ...] = ()
    field_encoder: FieldEncoder | None = None

    @classmethod
    def fit(cls, records: Sequence[RecordLike]) -> Representation:
        rows = [features(record.fields, record.events) for record in records]
        if sum(map(bool, rows)) * 2 <= len(rows):
            return cls()
        prose = _prose_columns([record.fields for record in records])
        return cls(prose, None if prose else FieldEncoder.fit(rows))

    def masked(self, record: RecordLike) -> str:
        """The record as the models see it: varying parts masked, or whole where the numbers are what counts."""
        return self.mask(self.said(record))

    def mask(self, said: str) -> str:
        """`masked`, of what the record has `said`."""
        return said if self.field_encoder is not None else mask(said)

    def said(self, record: RecordLike) -> str:
        """What the record reports: its text, or the fields that hold text, less what speaks to the judge."""
        if self.prose and record.fields:
            prose = [str(record.fields[name]) for name in self.prose if record.fields.get(name) is not None]
            if prose:
                return remove_injections(" ".join(prose))
        return remove_injections(record.text)

    def key(self, record: RecordLike, content_hash: str) -> str:
        """Identity of the record's template, 64 hex digits; in a space of fields each content is its own."""
        if self.field_encoder is not None:
            return content_hash
        return hashlib.sha256(self.masked(record).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        return {"prose": list(self.prose), "axes": self.field_encoder.to_json() if self.field_encoder else None}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Representation:
        return cls(tuple(data["prose"]), FieldEncoder.from_json(data["axes"]) if data["axes"] else None)


def _prose_columns(rows: Sequence[Mapping[str, FieldValue]]) -> tuple[str, ...]:
    words: dict[str, list[int]] = {}
    for row in rows:
        for name, value in row.items():
            if isinstance(value, str):
                words.setdefault(name, []).append(len(mask(value).split()))
    return tuple(name for name, counts in words.items() if sum(counts) / len(counts) >= _PROSE_WORDS)
