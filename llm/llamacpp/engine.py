"""One llama.cpp context: decodes prompts and answers greedily. One thread at a time, see `worker`.

The same prompt gives the same bits whatever was decoded before. The prefix and the suffix of a prompt always go
through llama.cpp in calls of their own, cut into blocks at fixed places, so it makes no difference whether the
prefix was just computed, is still in the context, or was put back from a saved state.
"""

from __future__ import annotations

import ctypes
import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from llm.errors import ModelFailure
from llm.llamacpp.chat_template import Prompt
from llm.llamacpp.gguf import Weights

# Tokens that go through the model in one call. Also the granularity of cancelling while a prompt is read.
BLOCK_TOKENS = 512
# Saved prefixes: verdict and explanation prompts of a few sources. 500 tokens of a 0.5B model are 6 MB.
SAVED_PREFIXES = 8

Logits = npt.NDArray[np.float32]


class Cancelled(Exception):
    """The generation was called off."""


@dataclass(frozen=True, slots=True)
class Prefill:
    """A prompt that was read: tokens decoded now, tokens that the cache saved us."""

    decoded: int
    cached: int


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Engine:
    """A context of ``context_tokens`` on ``threads`` cores. Raises ModelFailure when there is no memory for it."""

    def __init__(self, weights: Weights, *, context_tokens: int, threads: int | None) -> None:
        import llama_cpp

        self._lib: Any = llama_cpp
        self._weights = weights
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = context_tokens
        params.n_batch = params.n_ubatch = BLOCK_TOKENS
        params.n_seq_max = 1
        # Logits are asked for one token a call; room for a block of them would be 300 MB with a large vocabulary.
        params.n_outputs_max = 1
        params.n_threads = params.n_threads_batch = threads or available_cores()
        params.no_perf = True
        self._context = llama_cpp.llama_init_from_model(weights.model, params)
        if not self._context:
            raise ModelFailure(f"no memory for a context of {context_tokens} tokens")
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._batch = llama_cpp.llama_batch_init(BLOCK_TOKENS, 0, 1)
        self._saved: OrderedDict[tuple[int, ...], ctypes.Array[ctypes.c_uint8]] = OrderedDict()
        self._prefix: tuple[int, ...] = ()
        self._position = 0

    def close(self) -> None:
        """Give the context's memory back; the engine is of no use afterwards."""
        self._lib.llama_batch_free(self._batch)
        self._lib.llama_free(self._context)

    def reset(self) -> None:
        """Forget what is in the context; saved prefixes stay."""
        self._lib.llama_memory_clear(self._memory, True)
        self._prefix, self._position = (), 0

    def read(self, prompt: Prompt, cancelled: Callable[[], bool]) -> Prefill:
        """Bring ``prompt`` into the context. Raises Cancelled, and ModelFailure when llama.cpp fails."""
        cached = self._enter_prefix(prompt.prefix, cancelled)
        self._decode(prompt.suffix, cancelled)
        return Prefill(decoded=len(prompt) - cached, cached=cached)

    def append(self, token: int) -> None:
        """Decode one more token after what is in the context."""
        self._decode((token,), lambda: False)

    def logits(self) -> Logits:
        """Scores of every token of the vocabulary for the next place: a view, valid until the next decode."""
        pointer = self._lib.llama_get_logits_ith(self._context, -1)
        return np.ctypeslib.as_array(pointer, shape=(self._weights.vocabulary_size,))

    def _enter_prefix(self, prefix: tuple[int, ...], cancelled: Callable[[], bool]) -> int:
        """Make the context hold exactly ``prefix``; how many of its tokens did not have to be decoded."""
        if prefix == self._prefix and self._lib.llama_memory_seq_rm(self._memory, 0, len(prefix), -1):
            self._position = len(prefix)
            return len(prefix)
        self.reset()
        if not prefix:
            return 0
        state = self._saved.get(prefix)
        if state is not None and self._lib.llama_state_seq_set_data(self._context, state, len(state), 0):
            self._saved.move_to_end(prefix)
            self._prefix, self._position = prefix, len(prefix)
            return len(prefix)
        self.reset()
        self._decode(prefix, cancelled)
        self._save(prefix)
        self._prefix = prefix
        return 0

    def _save(self, prefix: tuple[int, ...]) -> None:
        size = self._lib.llama_state_seq_get_size(self._context, 0)
        state = (ctypes.c_uint8 * size)()
        self._lib.llama_state_seq_get_data(self._context, state, size, 0)
        self._saved[prefix] = state
        if len(self._saved) > SAVED_PREFIXES:
            self._saved.popitem(last=False)

    def _decode(self, tokens: tuple[int, ...], cancelled: Callable[[], bool]) -> None:
        for start in range(0, len(tokens), BLOCK_TOKENS):
            if cancelled():
                self.reset()
                raise Cancelled
            self._decode_block(tokens[start : start + BLOCK_TOKENS])

    def _decode_block(self, tokens: tuple[int, ...]) -> None:
        batch = self._batch
        batch.n_tokens = len(tokens)
        for place, token in enumerate(tokens):
            batch.token[place] = token
            batch.pos[place] = self._position + place
            batch.n_seq_id[place] = 1
            batch.seq_id[place][0] = 0
            batch.logits[place] = place == len(tokens) - 1
        status = self._lib.llama_decode(self._context, batch)
        if status != 0:
            self.reset()
            raise ModelFailure(f"llama.cpp could not decode {len(tokens)} tokens (status {status})")
        self._position += len(tokens)


def greedy(logits: Logits) -> int:
    """The likeliest token; of equals the first, so that the choice is deterministic."""
    return int(np.argmax(logits))


def likeliest(logits: Logits, count: int) -> list[int]:
    """The ``count`` likeliest tokens, best first, equals by their ids."""
    count = min(count, len(logits))
    # argpartition promises no order.
    tokens = np.argpartition(logits, -count)[-count:]
    return [int(token) for token in tokens[np.lexsort((tokens, -logits[tokens]))]]
