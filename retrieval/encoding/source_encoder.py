"""Records of a source to vectors, by its representation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from retrieval.encoding.field_encoder import FieldEncoder, features
from retrieval.encoding.representation import RecordLike, Representation
from retrieval.encoding.text_embedder import Embedder
from retrieval.errors import EmbedderMismatch
from retrieval.text.masking import strip_placeholders
from retrieval.types import Vector

if TYPE_CHECKING:
    from retrieval.store.sources import Sources, SourceSnapshot


class SourceEncoder:
    """Encodes records; ``embedder`` is called when a text must be embedded for the first time."""

    def __init__(self, sources: Sources, embedder: Callable[[], Embedder]) -> None:
        self._sources, self._embedder = sources, embedder

    def check(self, source: SourceSnapshot) -> None:
        """Compare the embedding model with the one that made the source's vectors; the first one is noted down.

        Raises
        ------
        EmbedderMismatch
            The source's vectors were made by another embedding model.
        """
        if source.representation is not None and source.representation.field_encoder is not None:
            return
        embedder = self._embedder()
        fingerprint = embedder.fingerprint
        if source.embedder in (None, embedder.legacy_fingerprint()):
            self._sources.set(source.name, embedder=fingerprint)
        elif source.embedder != fingerprint:
            raise EmbedderMismatch(
                f"the vectors of source {source.name!r} were made by another embedding model "
                f"({source.embedder[:12]}…, this one is {fingerprint[:12]}…)",
                f"`precedent sources rebuild {source.name}` makes them anew",
            )

    def encode(self, source: SourceSnapshot, records: Sequence[RecordLike]) -> list[Vector]:
        """The records' unit vectors, each of shape ``(dimensions,)``; vectors of texts are cached."""
        assert source.representation is not None
        if source.representation.field_encoder is not None:
            return list(_field_vectors(source.representation.field_encoder, records))
        if not records:
            return []
        self.check(source)
        return self._embedder().encode_cached(_texts(source.representation, records))

    def encode_new(
        self, representation: Representation, records: Sequence[RecordLike], progress: Callable[[int], None]
    ) -> Vector:
        """As `encode` without the cache, shape ``(n, dimensions)``; ``progress`` takes how many each step encoded."""
        if representation.field_encoder is not None:
            progress(len(records))
            return _field_vectors(representation.field_encoder, records)
        return self._embedder().encode(_texts(representation, records), progress)


def _texts(representation: Representation, records: Sequence[RecordLike]) -> list[str]:
    return [strip_placeholders(representation.masked(record)) for record in records]


def _field_vectors(encoder: FieldEncoder, records: Sequence[RecordLike]) -> Vector:
    return encoder.vectors([features(record.fields, record.events) for record in records])
