"""One llama.cpp context that reads prompts and decodes tokens; not thread-safe, see `llm.llamacpp.worker`.

The same prompt gives the same bits whatever was decoded before. The prefix and the suffix of a prompt are decoded in
calls of their own, cut into blocks at fixed places, so that it makes no difference whether the prefix was just
computed, is still in the context, or was restored from a saved state. Prefixes are kept apart by adapter.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from cachetools import LRUCache

from llm.errors import ModelFailure
from llm.llamacpp.chat_template import Prompt
from llm.llamacpp.gguf import Weights

# Tokens that are decoded in one call; a prompt can be cancelled between two blocks.
BLOCK_TOKENS = 512
# Saved prefixes: verdict and explanation prompts of a few sources. 500 tokens of a 0.5B model take 6 MB.
SAVED_PREFIXES = 8

Logits = npt.NDArray[np.float32]


class Cancelled(Exception):
    """The generation was cancelled."""


@dataclass(frozen=True, slots=True)
class Prefill:
    """The cost of a prompt: tokens that were decoded, and tokens that were in the cache."""

    decoded: int
    cached: int


class Engine:
    """A context of ``context_tokens`` on ``threads`` cores.

    ``observer`` is called with the result of each operation, see `llm.llamacpp.activations`. Raises ModelFailure when
    there is not enough memory.
    """

    def __init__(
        self,
        weights: Weights,
        *,
        context_tokens: int,
        threads: int | None,
        observer: Any = None,
    ) -> None:
        self._lib = lib = weights.lib
        self._weights = weights
        params = lib.llama_context_default_params()
        params.n_ctx = context_tokens
        params.n_batch = params.n_ubatch = BLOCK_TOKENS
        params.n_seq_max = 1
        # Only the last token's logits are read; those of a block would take 300 MB with a large vocabulary.
        params.n_outputs_max = 1
        params.n_threads = params.n_threads_batch = threads or _available_cores()
        params.no_perf = True
        if observer is not None:
            params.cb_eval = observer
        self._context = lib.llama_init_from_model(weights.model, params)
        if not self._context:
            raise ModelFailure(f"not enough memory for a context of {context_tokens} tokens")
        self._adapters: dict[Path, Any] = {}
        self._adapter: Path | None = None
        self._memory = lib.llama_get_memory(self._context)
        self._batch = lib.llama_batch_init(BLOCK_TOKENS, 0, 1)
        self._saved: LRUCache[tuple[Path | None, tuple[int, ...]], ctypes.Array[ctypes.c_uint8]]
        self._saved = LRUCache(SAVED_PREFIXES)
        self._prefix: tuple[int, ...] = ()
        self._position = 0

    def close(self) -> None:
        """Free the context; the engine cannot be used afterwards."""
        self._lib.llama_batch_free(self._batch)
        self._lib.llama_free(self._context)
        for adapter in self._adapters.values():
            self._lib.llama_adapter_lora_free(adapter)

    def use(self, path: Path | None) -> None:
        """Decode with the adapter of a file from now on, or without one.

        What is in the context is forgotten when the adapter changes; saved prefixes are kept by adapter.

        Raises
        ------
        ModelFailure
            The file is not an adapter of these weights; the engine then has none.
        """
        if path == self._adapter:
            return
        self._reset()
        self._lib.llama_set_adapters_lora(self._context, None, 0, None)
        self._adapter = None
        if path is not None:
            adapters = (self._lib.llama_adapter_lora_p_ctypes * 1)(self._loaded(path))
            self._lib.llama_set_adapters_lora(self._context, adapters, 1, (ctypes.c_float * 1)(1.0))
            self._adapter = path

    def read(self, prompt: Prompt, cancelled: Callable[[], bool]) -> Prefill:
        """Decode ``prompt`` into the context. Raises Cancelled, and ModelFailure when llama.cpp fails."""
        cached = self._enter_prefix(prompt.prefix, cancelled)
        self._decode(prompt.suffix, cancelled)
        return Prefill(decoded=len(prompt) - cached, cached=cached)

    def append(self, token: int) -> None:
        """Decode one more token."""
        self._decode((token,), lambda: False)

    def logits(self) -> Logits:
        """Return the next token's scores, of shape (vocabulary_size,): a view, valid until the next decoding.

        Raises ModelFailure where damaged weights make them no numbers.
        """
        pointer = self._lib.llama_get_logits_ith(self._context, -1)
        logits = np.ctypeslib.as_array(pointer, shape=(self._weights.vocabulary_size,))
        if not np.isfinite(logits.max()):
            raise ModelFailure(f"{self._weights.path.name} is damaged: its scores of the next token are no numbers")
        return logits

    def _loaded(self, path: Path) -> Any:
        if path not in self._adapters:
            adapter = self._lib.llama_adapter_lora_init(self._weights.model, str(path).encode())
            if not adapter:
                raise ModelFailure(f"{path} is not an adapter of {self._weights.path.name}")
            self._adapters[path] = adapter
        return self._adapters[path]

    def _reset(self) -> None:
        self._lib.llama_memory_clear(self._memory, True)
        self._prefix, self._position = (), 0

    def _enter_prefix(self, prefix: tuple[int, ...], cancelled: Callable[[], bool]) -> int:
        """Make the context hold ``prefix`` only; return how many of its tokens did not have to be decoded."""
        if prefix == self._prefix and self._lib.llama_memory_seq_rm(self._memory, 0, len(prefix), -1):
            self._position = len(prefix)
            return len(prefix)
        self._reset()
        if not prefix:
            return 0
        state = self._saved.get((self._adapter, prefix))
        if state is not None and self._lib.llama_state_seq_set_data(self._context, state, len(state), 0):
            self._prefix, self._position = prefix, len(prefix)
            return len(prefix)
        self._reset()
        self._decode(prefix, cancelled)
        size = self._lib.llama_state_seq_get_size(self._context, 0)
        state = (ctypes.c_uint8 * size)()
        self._lib.llama_state_seq_get_data(self._context, state, size, 0)
        self._saved[self._adapter, prefix], self._prefix = state, prefix
        return 0

    def _decode(self, tokens: tuple[int, ...], cancelled: Callable[[], bool]) -> None:
        for start in range(0, len(tokens), BLOCK_TOKENS):
            if cancelled():
                self._reset()
                raise Cancelled
            self._decode_block(tokens[start : start + BLOCK_TOKENS])

    def _decode_block(self, tokens: tuple[int, ...]) -> None:
        batch = self._batch
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i] = token
            batch.pos[i] = self._position + i
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = 0
            batch.logits[i] = i == len(tokens) - 1
        status = self._lib.llama_decode(self._context, batch)
        if status != 0:
            self._reset()
            raise ModelFailure(f"llama.cpp could not decode {len(tokens)} tokens (status {status})")
        self._position += len(tokens)


def _available_cores() -> int:
    # macOS has no affinity.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def greedy(logits: Logits) -> int:
    """Return the likeliest token, of equals the first, from scores of shape (vocabulary_size,)."""
    return int(np.argmax(logits))


def likeliest(logits: Logits, count: int) -> list[int]:
    """Return the ``count`` likeliest tokens, best first, equals by id, from scores of shape (vocabulary_size,)."""
    count = min(count, len(logits))
    tokens = np.argpartition(logits, -count)[-count:]
    return [int(token) for token in tokens[np.lexsort((tokens, -logits[tokens]))]]
