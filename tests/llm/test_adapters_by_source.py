"""One engine with several adapters: answers and caches are kept apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from langchain_core.messages import HumanMessage, SystemMessage

from llm.errors import ModelFailure
from llm.llamacpp.adapter import LowRank, adapter_file
from llm.llamacpp.backend import LlamaCppBackend
from llm.llamacpp.chat_model import EmbeddedChatModel
from llm.llamacpp.gguf import Weights
from llm.weights.checksum import sha256_of

ANSWERS = ("anomalous", "normal")
SYSTEM = SystemMessage("Reply normal or anomalous. " * 2)
RECORDS = ("pump 3 is broken", "all is well")


def made(weights: Weights, path: Path, seed: int) -> Path:
    """An adapter of random numbers, of rank 2."""
    random, width = np.random.default_rng(seed), weights.lib.llama_model_n_embd(weights.model)
    a = random.normal(size=(2, width)).astype(np.float32)
    b = random.normal(size=(width, 2)).astype(np.float32) * 0.02
    name = f"blk.{weights.layers - 1}.attn_q.weight"
    path.write_bytes(adapter_file(weights.architecture, {name: LowRank(a, b)}))
    return path


def answers(backend: LlamaCppBackend) -> list[dict[str, float]]:
    return [backend.answer_log_probabilities([SYSTEM, HumanMessage(text)], ANSWERS) for text in RECORDS]


def test_answers_of_adapters_do_not_mix(
    weights: Weights, make_chat: Callable[..., EmbeddedChatModel], tmp_path: Path
) -> None:
    chat = make_chat(context_tokens=256, model="smollm2-135m")
    plain = LlamaCppBackend(chat)
    assert plain.sha256 is not None
    files = [made(weights, tmp_path / f"{seed}.gguf", seed) for seed in (1, 2)]
    backends = [plain, *(plain.with_adapter(file, sha256_of(file), plain.sha256) for file in files)]
    assert len({backend.name for backend in backends}) == 3
    assert [backend.adapter_sha256 for backend in backends] == [None, *map(sha256_of, files)]
    apart = [answers(backend) for backend in backends]
    assert apart[0] != apart[1] != apart[2] != apart[0]
    # in turn, on one engine, whose prefix is in the context or saved: the same bits
    for i, text in enumerate(RECORDS):
        for backend, expected in zip(backends, apart, strict=True):
            found = backend.answer_log_probabilities([SYSTEM, HumanMessage(text)], ANSWERS)
            assert found == expected[i]
    chat.close()


def test_another_file_is_refused_and_other_weights_stay_without_it(
    weights: Weights, chat: EmbeddedChatModel, tmp_path: Path
) -> None:
    plain, file = LlamaCppBackend(chat), made(weights, tmp_path / "a.gguf", 1)
    assert plain.sha256 is not None
    assert plain.with_adapter(file, sha256_of(file), "0" * 64) is plain
    with pytest.raises(ModelFailure, match="damaged or another one"):
        plain.with_adapter(file, "0" * 64, plain.sha256)
    with pytest.raises(ModelFailure, match="cannot be read"):
        plain.with_adapter(tmp_path / "nowhere.gguf", "0" * 64, plain.sha256)
    # a file that is no adapter, though it has the hash: no answer, and the engine goes on without it
    (tmp_path / "b.gguf").write_bytes(b"GGUF of something else")
    broken = plain.with_adapter(tmp_path / "b.gguf", sha256_of(tmp_path / "b.gguf"), plain.sha256)
    before = answers(plain)
    with pytest.raises(ModelFailure, match="is not an adapter of"):
        answers(broken)
    assert answers(plain) == before
