"""How the records of one source are compared: by the embedding of their text, or by their fields.

This is decided once, from the source's first cases: records whose text only spells out their fields, and sessions, are
compared by fields; records with prose by text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Protocol

from retrieval.encoding.field_encoder import FieldEncoder, FieldValue, features
from retrieval.text.kept_numbers import KeptNumbers, KeptPlace, mask_except
from retrieval.text.masking import RULES, mask
from retrieval.text.prompt_injection import INJECTION, plain, remove_injections

_PROSE_WORDS = 2.5


class RecordLike(Protocol):
    """What retrieval needs of a record."""

    @property
    def text(self) -> str:
        """The record's text."""

    @property
    def fields(self) -> Mapping[str, FieldValue]:
        """The record's fields, empty if it has none."""

    @property
    def events(self) -> Sequence[str]:
        """The events of a session, empty for other records."""


@dataclass(frozen=True)
class Representation:
    """How records are compared.

    ``field_encoder`` is None where it is by text, which the fields ``prose`` hold; ``kept`` are the numbers that
    masking leaves in texts.
    """

    prose: tuple[str, ...] = ()
    field_encoder: FieldEncoder | None = None
    kept: KeptNumbers = ()

    @classmethod
    def fit(cls, records: Sequence[RecordLike]) -> Representation:
        """Choose the representation of a source by its first ``records``: the majority decides."""
        rows = [features(record.fields, record.events) for record in records]
        if sum(map(bool, rows)) * 2 <= len(rows):
            return cls()
        prose = _prose_columns([record.fields for record in records])
        return cls(prose, None if prose else FieldEncoder.fit(rows))

    def masked(self, record: RecordLike) -> str:
        """The record's text as the models read it: masked, or unmasked where records are compared by fields."""
        return self.mask(self.comparable_text(record))

    def mask(self, text: str) -> str:
        """As `masked`, of a record's `comparable_text`."""
        return text if self.field_encoder is not None else mask_except(text, self.kept)

    def comparable_text(self, record: RecordLike) -> str:
        """The record's text, or that of its prose fields, without prompt injections."""
        return remove_injections(self.full_text(record))

    def full_text(self, record: RecordLike) -> str:
        """The record's text, or that of its prose fields, normalised."""
        if self.prose and record.fields:
            prose = [str(record.fields[name]) for name in self.prose if record.fields.get(name) is not None]
            if prose:
                return plain(" ".join(prose))
        return plain(record.text)

    def key(self, record: RecordLike, content_hash: str) -> str:
        """The identity of the record's template, 64 hex digits; of its content where records are compared by fields."""
        if self.field_encoder is not None:
            return content_hash
        return self.template_key(self.comparable_text(record))

    def template_key(self, text: str) -> str:
        """As `key`, of a record's `comparable_text`."""
        return hashlib.sha256(self.mask(text).encode()).hexdigest()

    def keeping(self, kept: KeptNumbers) -> Representation:
        """The same with these numbers kept in texts."""
        return replace(self, kept=kept)

    def to_json(self) -> dict[str, Any]:
        """As plain data, for the store."""
        return {
            "prose": list(self.prose),
            "axes": self.field_encoder.to_json() if self.field_encoder else None,
            "kept": [[place, sorted(values)] for place, values in self.kept],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Representation:
        """The reverse of `to_json`."""
        kept = tuple(KeptPlace(place, frozenset(values)) for place, values in data.get("kept", ()))
        return cls(tuple(data["prose"]), FieldEncoder.from_json(data["axes"]) if data["axes"] else None, kept)


@cache
def text_rules_sha256() -> str:
    """SHA-256 (hex) of the rules by which texts are masked and prompt injections are removed."""
    return hashlib.sha256(repr((RULES, INJECTION.pattern)).encode()).hexdigest()


def _prose_columns(rows: Sequence[Mapping[str, FieldValue]]) -> tuple[str, ...]:
    words: dict[str, list[int]] = {}
    for row in rows:
        for name, value in row.items():
            if isinstance(value, str):
                words.setdefault(name, []).append(len(mask(value).split()))
    return tuple(name for name, counts in words.items() if sum(counts) / len(counts) >= _PROSE_WORDS)
