"""Texts to unit vectors by a sentence-transformers model on this machine."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from retrieval.errors import EmbedderMissing
from retrieval.lru_cache import LRUCache
from retrieval.types import Vector

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

# tokens in one batch: what the caches of a processor hold, what keeps a GPU busy; texts tokenised together
_CPU_TOKENS, _GPU_TOKENS, _TOKENISED = 1_024, 16_384, 4_096
_LEGACY_BYTES = 1 << 20


class Embedder:
    """Embeds texts; the model is loaded at first use. Safe to share between threads.

    Parameters
    ----------
    folder
        A sentence-transformers model.
    device
        ``cpu``, ``cuda``, ``mps``, or ``auto`` for the fastest that PyTorch finds.
    """

    def __init__(self, folder: Path, device: str = "auto") -> None:
        self.folder, self._device = folder, device
        self._lock = threading.Lock()
        self._model: SentenceTransformer | None = None
        self._cached: LRUCache[Vector] = LRUCache(8_192)

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the configuration and the weights."""
        return _sha256(_files(self.folder))

    def legacy_fingerprint(self) -> str:
        """The fingerprint that stores up to schema 3 have: of the first MiB and the size of each file of weights."""
        return _sha256(_files(self.folder), _LEGACY_BYTES)

    def encode(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> Vector:
        """Embed texts; those of similar length in tokens share a batch.

        Parameters
        ----------
        texts
            Longer ones than the model reads are truncated.
        progress
            Called with the number of texts that each batch embedded.

        Returns
        -------
        Unit vectors, shape ``(len(texts), dimensions)``.
        """
        model = self._load()
        if not texts:
            return np.zeros((0, 0), dtype=np.float32)
        tokens = self._tokenise(model, texts)
        out: Vector | None = None
        for batch in _batches([len(tokens_of_text["input_ids"]) for tokens_of_text in tokens], _batch_tokens(model)):
            with self._lock:
                vectors = _forward(model, [tokens[i] for i in batch])
            if out is None:
                out = np.zeros((len(texts), vectors.shape[1]), dtype=np.float32)
            out[batch] = vectors
            if progress:
                progress(len(batch))
        assert out is not None
        return out

    def encode_one(self, text: str) -> Vector:
        """As `encode_cached`, of one text: shape ``(dimensions,)``."""
        return self.encode_cached([text])[0]

    def encode_cached(self, texts: Sequence[str]) -> list[Vector]:
        """Each text's unit vector, shape ``(dimensions,)`` and read-only; cached if the text was embedded before.

        The other texts of a batch change a vector in the seventh digit.
        """
        vectors = {text: self._cached.get(text) for text in texts}
        new = [text for text, vector in vectors.items() if vector is None]
        for text, encoded in zip(new, self.encode(new) if new else (), strict=True):
            vectors[text] = vector = encoded.copy()
            vector.flags.writeable = False
            self._cached.put(text, vector)
        return [vector for text in texts if (vector := vectors[text]) is not None]

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """The number of tokens of each text, whole and without special tokens."""
        model = self._load()
        with self._lock:
            encoded = model.tokenizer(list(texts), add_special_tokens=False, verbose=False)
        return [len(ids) for ids in encoded["input_ids"]]

    def _tokenise(self, model: SentenceTransformer, texts: Sequence[str]) -> list[dict[str, list[int]]]:
        prompt = model.prompts.get(model.default_prompt_name or "") or ""
        tokens = []
        for start in range(0, len(texts), _TOKENISED):
            chunk = [prompt + text for text in texts[start : start + _TOKENISED]]
            with self._lock:
                encoded = model.tokenizer(chunk, truncation=True, max_length=model.max_seq_length)
            tokens += [{name: encoded[name][i] for name in encoded} for i in range(len(chunk))]
        return tokens

    def _load(self) -> SentenceTransformer:
        with self._lock:
            if self._model is None:
                if not (self.folder / "modules.json").is_file():
                    raise EmbedderMissing(f"{self.folder} holds no sentence-transformers model (no modules.json)")
                os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
                from sentence_transformers import SentenceTransformer
                from transformers.utils import logging

                logging.disable_progress_bar()  # type: ignore[no-untyped-call]
                device = None if self._device == "auto" else self._device
                try:
                    self._model = SentenceTransformer(str(self.folder), device=device, local_files_only=True).eval()
                except Exception as error:
                    # of sentence-transformers, transformers, safetensors, PyTorch: they have no common class
                    raise EmbedderMissing(
                        f"the embedding model in {self.folder} cannot be loaded on device {self._device!r}: {error}"
                    ) from error
            return self._model


def _forward(model: SentenceTransformer, tokens: Sequence[dict[str, list[int]]]) -> Vector:
    """Unit vectors of tokenised texts, shape ``(len(tokens), dimensions)``."""
    import torch

    padded: dict[str, Any] = dict(model.tokenizer.pad(list(tokens), return_tensors="pt").to(model.device))
    with torch.inference_mode():
        vectors = torch.nn.functional.normalize(model(padded)["sentence_embedding"], p=2, dim=1)
    return np.asarray(vectors.float().cpu().numpy(), dtype=np.float32)


def _batch_tokens(model: SentenceTransformer) -> int:
    return _CPU_TOKENS if model.device.type == "cpu" else _GPU_TOKENS


def _batches(lengths: Sequence[int], max_tokens: int) -> Iterator[list[int]]:
    """Indices of texts that are embedded together: of similar length, at most ``max_tokens`` with padding."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and lengths[i] * (len(batch) + 1) > max_tokens:
            yield batch
            batch = []
        batch.append(i)
    yield batch


def _files(folder: Path) -> tuple[tuple[Path, int, int], ...]:
    """Configuration and weights, each with its size and time of change (ns)."""
    paths = [*sorted(folder.rglob("*.json")), *sorted(folder.rglob("*.safetensors"))]
    return tuple((path, path.stat().st_size, path.stat().st_mtime_ns) for path in paths)


@lru_cache(maxsize=16)
def _sha256(files: tuple[tuple[Path, int, int], ...], max_bytes: int | None = None) -> str:
    digest = hashlib.sha256()
    for path, size, _ in files:
        with path.open("rb") as content:
            if path.suffix == ".json" or max_bytes is None:
                for chunk in iter(partial(content.read, _LEGACY_BYTES), b""):
                    digest.update(chunk)
            else:
                digest.update(content.read(max_bytes) + str(size).encode())
    return digest.hexdigest()
