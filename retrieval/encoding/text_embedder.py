"""Texts to unit vectors by a sentence-transformers model on this machine."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import EmbedderMissing
from retrieval.lru_cache import LRUCache

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

# tokens embedded together, which the caches of a processor hold, and texts measured together
_TOKENS, _CHUNK = 1_024, 4_096


class Embedder:
    """Embeds texts; loads its model (a folder) at first use. Safe to share between threads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._model: SentenceTransformer | None = None
        self._kept: LRUCache[NDArray[np.float32]] = LRUCache(8_192)

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over the configuration and the size of the weights: another model, another fingerprint."""
        return _fingerprint(self.folder)

    def encode(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> NDArray[np.float32]:
        """Unit vectors, shape ``(len(texts), dimensions)``. Texts of like length in tokens are embedded together.

        ``progress`` is told how many texts each step finished.
        """
        model = self._load()
        if not texts:
            return np.zeros((0, 0), dtype=np.float32)
        out: NDArray[np.float32] | None = None
        for batch in _batches([len(ids) for ids in self._ids(model, texts)]):
            with self._lock:
                vectors = model.encode(
                    [texts[i] for i in batch],
                    batch_size=len(batch),
                    normalize_embeddings=True,
                    show_progress_bar=False,
                )
            if out is None:
                out = np.zeros((len(texts), vectors.shape[1]), dtype=np.float32)
            out[batch] = vectors
            if progress:
                progress(len(batch))
        assert out is not None
        return out

    def _ids(self, model: SentenceTransformer, texts: Sequence[str]) -> Iterator[list[int]]:
        for start in range(0, len(texts), _CHUNK):
            with self._lock:
                read = model.tokenizer(
                    list(texts[start : start + _CHUNK]), truncation=True, max_length=model.max_seq_length
                )
            yield from read["input_ids"]

    def encode_one(self, text: str) -> NDArray[np.float32]:
        """One text's vector, from memory when it was embedded before."""
        return self.remembered([text])[0]

    def remembered(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        """Each text's vector, from memory when it was embedded before; new texts are embedded together.

        What a text is embedded with changes its vector in the seventh digit.
        """
        there = {text: self._kept.get(text) for text in texts}
        fresh = [text for text, vector in there.items() if vector is None]
        for text, vector in zip(fresh, self.encode(fresh), strict=True):
            there[text] = own = vector.copy()
            own.flags.writeable = False
            self._kept.put(text, own)
        return [vector for text in texts if (vector := there[text]) is not None]

    def _load(self) -> SentenceTransformer:
        with self._lock:
            if self._model is None:
                if not (self.folder / "modules.json").is_file():
                    raise EmbedderMissing(
                        f"{self.folder} holds no sentence-transformers model (modules.json is not there)"
                    )
                os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
                from sentence_transformers import SentenceTransformer
                from transformers.utils import logging

                logging.disable_progress_bar()  # type: ignore[no-untyped-call]
                self._model = SentenceTransformer(str(self.folder), device="cpu", local_files_only=True)
            return self._model


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Places of texts that are embedded together, those of like length in tokens."""
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if batch and lengths[place] * (len(batch) + 1) > _TOKENS:
            yield batch
            batch = []
        batch.append(place)
    yield batch


@lru_cache(maxsize=8)
def _fingerprint(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.json")):
        digest.update(path.read_bytes())
    for path in sorted(folder.rglob("*.safetensors")):
        with path.open("rb") as weights:
            digest.update(weights.read(1 << 20) + str(path.stat().st_size).encode())
    return digest.hexdigest()
