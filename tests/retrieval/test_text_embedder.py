"""The real MiniLM: every text gets its own vector, whatever it was embedded with."""

from __future__ import annotations

import os
import shutil
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from retrieval.encoding.text_embedder import Embedder, _batches
from retrieval.errors import EmbedderMissing

from .making import ANOMALOUS, NORMAL

# long and short in turn, so that bucketing by length must put them back
TEXTS = [text if i % 2 else f"{text}. " * (2 + i % 2) for i, text in enumerate(NORMAL + ANOMALOUS)]


def test_each_text_gets_its_own_vector_in_the_order_of_the_texts(embedder: Embedder) -> None:
    # more than one batch
    texts = [f"{i} {text}" for i in range(22) for text in TEXTS]
    steps: list[int] = []
    together = embedder.encode(texts, steps.append)
    assert together.shape == (264, 384)
    assert together.dtype == np.float32
    assert sum(steps) == len(texts)
    assert len(steps) > 1
    assert np.allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-5)
    for i in range(0, len(texts), 29):
        assert float(together[i] @ embedder.encode_one(texts[i])) > 0.9999, texts[i]


def test_one_text_has_the_same_vector_whatever_was_embedded_before(embedder: Embedder) -> None:
    fresh = Embedder(embedder.folder)
    first = fresh.encode_one(NORMAL[0])
    fresh.encode(TEXTS)
    assert np.array_equal(fresh.encode([NORMAL[0]])[0], first)
    assert np.array_equal(Embedder(embedder.folder).encode_one(NORMAL[0]), first), "another process would say the same"


def test_texts_embedded_together_have_the_vectors_that_each_has_alone(embedder: Embedder) -> None:
    fresh = Embedder(embedder.folder)
    first = fresh.encode_one(TEXTS[3])
    together = fresh.encode_cached([*TEXTS, TEXTS[0]])
    assert together[3] is first, "it is not embedded again"
    assert together[-1] is together[0]
    for text, vector in zip(TEXTS, together, strict=False):
        assert np.allclose(vector, embedder.encode([text])[0], atol=2e-6)
        assert fresh.encode_one(text) is vector


def test_threads_get_the_same_vectors(embedder: Embedder) -> None:
    fresh = Embedder(embedder.folder)
    got: dict[int, np.ndarray] = {}
    threads = [
        threading.Thread(target=lambda i=i: got.__setitem__(i, fresh.encode_one(TEXTS[i % 4]))) for i in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(8):
        assert np.array_equal(got[i], embedder.encode_one(TEXTS[i % 4]))


def test_a_vector_that_is_kept_cannot_be_changed(embedder: Embedder) -> None:
    with pytest.raises(ValueError, match="read-only"):
        embedder.encode_one(NORMAL[0])[0] = 1.0


def test_near_in_meaning_is_near(embedder: Embedder) -> None:
    disk, same, other = (
        embedder.encode_one(text)
        for text in ("disk failure: sector unreadable", "the hard drive has bad sectors", "user logged in")
    )
    assert float(disk @ same) > float(disk @ other) + 0.2


@pytest.mark.parametrize("text", ["", " ", "\x00", "🙂" * 50, "x" * 100_000, "\ufffd", '"\\'])
def test_any_text_has_a_unit_vector(embedder: Embedder, text: str) -> None:
    assert float(np.linalg.norm(embedder.encode_one(text))) == pytest.approx(1.0, abs=1e-5)


def test_no_texts_no_vectors(embedder: Embedder) -> None:
    assert len(embedder.encode([])) == 0


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(EmbedderMissing, match=r"models/none holds no sentence-transformers model"):
        Embedder(tmp_path / "models/none").encode_one("x")


def test_the_fingerprint_covers_all_of_the_weights(embedder: Embedder, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(embedder.folder, folder)
    copy = Embedder(folder)
    assert len(embedder.fingerprint) == 64
    assert copy.fingerprint == embedder.fingerprint
    assert copy.legacy_fingerprint() == embedder.legacy_fingerprint() != embedder.fingerprint
    with (folder / "model.safetensors").open("r+b") as weights:
        # another last layer: of the same size, and with the same first megabyte
        weights.seek(-1, os.SEEK_END)
        weights.write(b"\xff")
    assert copy.fingerprint != embedder.fingerprint
    assert copy.legacy_fingerprint() == embedder.legacy_fingerprint()
    (folder / "modules.json").write_text("[]")
    assert copy.legacy_fingerprint() != embedder.legacy_fingerprint()


def test_vectors_are_those_of_sentence_transformers(embedder: Embedder) -> None:
    texts = [*TEXTS, "", "word " * 1_000]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = embedder._load().encode(texts, normalize_embeddings=True, batch_size=4, show_progress_bar=False)
    assert np.allclose(embedder.encode(texts), expected, atol=1e-6)


@pytest.mark.parametrize("device", ["cuda", "no such device"])
def test_a_device_that_is_not_there_is_named(embedder: Embedder, device: str) -> None:
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(EmbedderMissing, match=f"cannot be loaded on device '{device}'"):
        Embedder(embedder.folder, device).encode_one("x")


def test_weights_that_cannot_be_read_are_named(embedder: Embedder, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(embedder.folder, folder)
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(EmbedderMissing, match="model cannot be loaded"):
        Embedder(folder).encode_one("x")


def test_batches_hold_texts_of_similar_length_and_no_more_tokens_than_allowed() -> None:
    lengths = [3, 90, 4, 80, 5, 300, 3]
    batches = list(_batches(lengths, 100))
    assert sorted(i for batch in batches for i in batch) == list(range(7))
    assert batches == [[0, 6, 2, 4], [3], [1], [5]]
    assert list(_batches(lengths, 10_000)) == [[0, 6, 2, 4, 3, 1, 5]]
