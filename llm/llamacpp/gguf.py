"""A loaded GGUF file: its weights, vocabulary, tokenizer and chat template."""

from __future__ import annotations

import ctypes
import logging
import weakref
from functools import cached_property
from pathlib import Path
from typing import Any

from llm.base import begins
from llm.errors import ModelFailure

# more than any model has
_ALL_LAYERS = 999


class Weights:
    """The weights of one model, freed with the last reference; they are only read, so that threads may share them.

    Parameters
    ----------
    path : Path
        The .gguf file.
    vocabulary_only : bool
        Load the metadata and the tokenizer without the weights.
    gpu_layers : int or None
        Layers that are computed on a GPU; None: all where llama.cpp was built for one.

    Raises
    ------
    ModelFailure
        llama.cpp is not installed properly, or cannot load the file, or was built without the GPU that is demanded.
    """

    def __init__(self, path: Path, vocabulary_only: bool = False, gpu_layers: int | None = None) -> None:
        # llama.cpp would write to stderr
        if (log := logging.getLogger("llama-cpp-python")).level == logging.NOTSET:
            log.setLevel(logging.CRITICAL)
        try:
            import llama_cpp
        except (ImportError, OSError, RuntimeError) as error:
            raise ModelFailure(f"llama.cpp cannot be loaded: {error}") from error
        self.lib: Any = llama_cpp
        llama_cpp.llama_backend_init()
        params = llama_cpp.llama_model_default_params()
        params.vocab_only = vocabulary_only
        params.n_gpu_layers = self._on_gpu(gpu_layers)
        # llama.cpp built with AMX dies of a segmentation fault on some machines (its issue 20824)
        params.use_extra_bufts = b"AMX_INT8 = 1" not in llama_cpp.llama_print_system_info()
        self.model: Any = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        if not self.model:
            raise ModelFailure(f"{path} is not a model that llama.cpp can load")
        finalizer = weakref.finalize(self, llama_cpp.llama_model_free, self.model)
        # At exit the operating system frees the memory faster.
        finalizer.atexit = False
        self.path = path
        self._vocab = llama_cpp.llama_model_get_vocab(self.model)
        self.vocabulary_size: int = llama_cpp.llama_vocab_n_tokens(self._vocab)
        self.layers: int = llama_cpp.llama_model_n_layer(self.model)
        self._beginning: dict[str, list[int]] = {}

    def _on_gpu(self, layers: int | None) -> int:
        has_gpu = bool(self.lib.llama_supports_gpu_offload())
        if layers and not has_gpu:
            raise ModelFailure(
                f"gpu_layers = {layers}, but llama.cpp was built without a GPU",
                "CMAKE_ARGS=-DGGML_CUDA=on pip install --force-reinstall --no-cache-dir llama-cpp-python",
            )
        return (_ALL_LAYERS if has_gpu else 0) if layers is None else layers

    @cached_property
    def chat_template(self) -> str:
        """The jinja source in the file's metadata. Raises ModelFailure when there is none."""
        source = self.lib.llama_model_chat_template(self.model, None)
        if not source:
            raise ModelFailure(f"{self.path.name} has no chat template: it is not an instruct model")
        return self.decoded(source, "chat template")

    @cached_property
    def architecture(self) -> str:
        """The name in the file's metadata, such as ``llama`` or ``qwen2``."""
        buffer = ctypes.create_string_buffer(128)
        self.lib.llama_model_meta_val_str(self.model, b"general.architecture", buffer, len(buffer))
        return self.decoded(buffer.value, "architecture")

    def decoded(self, raw: bytes, what: str) -> str:
        """Return a text of the metadata; ``what`` it is, for the error. Raises ModelFailure if it is not UTF-8."""
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ModelFailure(f"the {what} of {self.path.name} is broken: {error}") from error

    @cached_property
    def bos(self) -> int | None:
        """The token that begins every prompt, if the model's metadata requires one."""
        required = self.lib.llama_vocab_get_add_bos(self._vocab)
        return int(self.lib.llama_vocab_bos(self._vocab)) if required else None

    def special_text(self, kind: str) -> str:
        """Return the text of the ``bos`` or ``eos`` token, for templates that write it; empty if there is none."""
        token = getattr(self.lib, f"llama_vocab_{kind}")(self._vocab)
        return self.text(token) if token >= 0 else ""

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        """Return the token ids of ``text``; with ``special=False`` no part of it becomes a control token."""
        # A lone surrogate cannot be encoded; it does not prevent a verdict.
        raw = text.encode("utf-8", "replace")
        room = len(raw) + 8
        tokens = (self.lib.llama_token * room)()
        count = self.lib.llama_tokenize(self._vocab, raw, len(raw), tokens, room, False, special)
        if count < 0:
            raise ModelFailure(f"llama.cpp could not tokenize a text of {len(raw)} bytes ({count})")
        return list(tokens[:count])

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """Return the bytes of one token, maybe a part of a character; control tokens are empty unless ``special``."""
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            length = self.lib.llama_token_to_piece(self._vocab, token, buffer, size, 0, special)
            if length >= 0:
                return buffer.raw[:length]
            size = -length

    def text(self, token: int) -> str:
        """Return the text of one token, control tokens included; a part of a character becomes U+FFFD."""
        return self.piece(token, special=True).decode("utf-8", "replace")

    def tokens_beginning(self, answer: str) -> list[int]:
        """Return all tokens of the vocabulary that begin ``answer``, see `llm.base.begins`; cached."""
        if answer not in self._beginning:
            vocabulary = range(self.vocabulary_size)
            self._beginning[answer] = [token for token in vocabulary if begins(self.text(token), answer)]
        return self._beginning[answer]

    def ends_generation(self, token: int) -> bool:
        """Whether the token marks the end of a reply."""
        return bool(self.lib.llama_vocab_is_eog(self._vocab, token))
