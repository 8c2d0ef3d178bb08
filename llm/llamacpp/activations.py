"""What a model computes at the end of a prompt: the input of its last feed-forward layer's output matrix."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from langchain_core.messages import BaseMessage
from numpy.typing import NDArray

from llm.errors import ModelFailure
from llm.llamacpp.chat_template import ChatTemplate
from llm.llamacpp.engine import Engine
from llm.llamacpp.gguf import Weights

Floats32 = NDArray[np.float32]


@dataclass(frozen=True)
class Activation:
    """At the last token of a prompt.

    Attributes
    ----------
    inner : shape (inner width,)
        Input of the last layer's matrix ``ffn_down``.
    residual : shape (width,)
        What the output of this matrix was added to, with it; the model normalises it to unit mean square and
        computes the next token's logits from it by a linear map.
    log_odds : float
        Of the first of two replies against the second one, by the logits of their first tokens.
    """

    inner: Floats32
    residual: Floats32
    log_odds: float


class ActivationReader:
    """Reads activations; not thread-safe.

    Parameters
    ----------
    weights : Weights
    replies : pair of str
        They must begin with different tokens.
    context_tokens : int
    threads : int or None

    Raises
    ------
    ModelFailure
        Not enough memory, or the replies begin with the same token.
    """

    def __init__(
        self, weights: Weights, replies: tuple[str, str], *, context_tokens: int, threads: int | None = None
    ) -> None:
        self._weights, self._template = weights, ChatTemplate(weights)
        self._first = [weights.tokenize(reply, special=False)[0] for reply in replies]
        if self._first[0] == self._first[1]:
            raise ModelFailure(f"{weights.path.name} begins {replies[0]!r} and {replies[1]!r} with the same token")
        self._base = _tensor_functions()
        last = weights.layers - 1
        self._names = {f"ffn_swiglu-{last}": "inner", f"l_out-{last}": "residual"}
        self._found: dict[str, Floats32] = {}
        # it must live as long as the context
        self._observer = weights.lib.ggml_backend_sched_eval_callback(self._observe)
        self._room = context_tokens
        self._engine = Engine(weights, context_tokens=context_tokens, threads=threads, observer=self._observer)

    def close(self) -> None:
        """Free the context."""
        self._engine.close()

    def read(self, messages: Sequence[BaseMessage]) -> Activation:
        """Read the activation at the end of a conversation, whose last message is the record.

        Raises
        ------
        ModelFailure
            The conversation is longer than the context, or the model has no such layer.
        """
        self._enter(messages)
        logits = self._engine.logits()
        log_odds = float(logits[self._first[0]]) - float(logits[self._first[1]])
        return Activation(self._found["inner"], self._found["residual"], log_odds)

    def read_reply(self, messages: Sequence[BaseMessage], reply: str) -> list[Floats32]:
        """The inner activations at the tokens of a reply to a conversation, each of shape (inner width,).

        Raises
        ------
        ModelFailure
            As `read`.
        """
        self._enter(messages)
        inner = []
        for token in self._weights.tokenize(reply, special=False):
            self._engine.append(token)
            inner.append(self._found["inner"])
        return inner

    def _enter(self, messages: Sequence[BaseMessage]) -> None:
        prompt = self._template.prompt(messages, few_shot=True)
        if len(prompt) > self._room:
            raise ModelFailure(f"the prompt has {len(prompt)} tokens, and the context {self._room}")
        self._found.clear()
        self._engine.read(prompt, lambda: False)
        if len(self._found) < len(self._names):
            raise ModelFailure("the model has no gated feed-forward layer at its end, which an adapter needs")

    def _observe(self, tensor: int, is_before: bool, _: object) -> bool:
        """Called by llama.cpp before each operation (whether its result is wanted) and after those that are."""
        kind = self._names.get(self._base.ggml_get_name(tensor).decode())
        if kind is not None and not is_before:
            # only the last token is kept in the last layer
            values = np.empty(self._base.ggml_nbytes(tensor) // 4, dtype=np.float32)
            self._base.ggml_backend_tensor_get(tensor, values.ctypes.data, 0, values.nbytes)
            self._found[kind] = values
        return kind is not None or not is_before


def _tensor_functions() -> ctypes.CDLL:
    """The functions of ggml that read a tensor; llama-cpp-python has no bindings for them."""
    from pathlib import Path

    import llama_cpp
    from llama_cpp._ctypes_extensions import load_shared_library

    base: ctypes.CDLL = load_shared_library("ggml-base", Path(llama_cpp.__file__).parent / "lib")
    base.ggml_get_name.restype, base.ggml_get_name.argtypes = ctypes.c_char_p, [ctypes.c_void_p]
    base.ggml_nbytes.restype, base.ggml_nbytes.argtypes = ctypes.c_size_t, [ctypes.c_void_p]
    sizes = [ctypes.c_size_t, ctypes.c_size_t]
    base.ggml_backend_tensor_get.argtypes = [ctypes.c_void_p, ctypes.c_void_p, *sizes]
    base.ggml_backend_tensor_get.restype = None
    return base
