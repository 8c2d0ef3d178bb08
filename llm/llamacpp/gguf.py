"""A GGUF file in memory: its vocabulary, its chat template, its tokeniser. Safe to use from many threads."""

from __future__ import annotations

import ctypes
import logging
import weakref
from functools import cached_property
from pathlib import Path
from typing import Any

from llm.base import begins
from llm.errors import ModelFailure


class Weights:
    """The weights of one model, freed when the last reference goes.

    Only reading happens here, so threads may share it; contexts (`llm.llamacpp.engine`) are what may not be shared.
    ``vocabulary_only``: its metadata and tokeniser without the weights. Raises ModelFailure when the file is no
    model that llama.cpp can load.
    """

    def __init__(self, path: Path, vocabulary_only: bool = False) -> None:
        # llama.cpp narrates to stderr through this logger's level; it is set before the library is loaded.
        logging.getLogger("llama-cpp-python").setLevel(logging.CRITICAL)
        import llama_cpp

        self._lib: Any = llama_cpp
        llama_cpp.llama_backend_init()
        params = llama_cpp.llama_model_default_params()
        params.vocab_only = vocabulary_only
        self.model: Any = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        if not self.model:
            raise ModelFailure(f"{path} is not a model that llama.cpp can load")
        self._finalizer = weakref.finalize(self, llama_cpp.llama_model_free, self.model)
        # At exit the system takes the memory back faster, and a daemon thread may still be reading it.
        self._finalizer.atexit = False
        self.path = path
        self._vocab = llama_cpp.llama_model_get_vocab(self.model)
        self.vocabulary_size: int = llama_cpp.llama_vocab_n_tokens(self._vocab)
        self._beginning: dict[str, list[int]] = {}

    @cached_property
    def chat_template(self) -> str:
        """The jinja source in the file's metadata; raises ModelFailure when there is none."""
        source = self._lib.llama_model_chat_template(self.model, None)
        if not source:
            raise ModelFailure(f"{self.path.name} carries no chat template: it is no instruct model")
        return str(source.decode("utf-8"))

    @cached_property
    def bos(self) -> int | None:
        """The token that every prompt of this model starts with, if its metadata asks for one."""
        wanted = self._lib.llama_vocab_get_add_bos(self._vocab)
        return int(self._lib.llama_vocab_bos(self._vocab)) if wanted else None

    def special_text(self, kind: str) -> str:
        """The text of the ``bos`` or ``eos`` token, for templates that write it; empty if there is none."""
        token = getattr(self._lib, f"llama_vocab_{kind}")(self._vocab)
        return self.text(token) if token >= 0 else ""

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        """Token ids of ``text``. With ``special=False`` no text, whatever it says, becomes a control token."""
        # A lone surrogate cannot be encoded; it is no reason not to judge a record.
        raw = text.encode("utf-8", "replace")
        room = len(raw) + 8
        tokens = (self._lib.llama_token * room)()
        count = self._lib.llama_tokenize(self._vocab, raw, len(raw), tokens, room, False, special)
        if count < 0:
            raise ModelFailure(f"llama.cpp could not tokenise a text of {len(raw)} bytes ({count})")
        return list(tokens[:count])

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """The bytes of one token, maybe a part of a character; control tokens are empty unless ``special``."""
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            length = self._lib.llama_token_to_piece(self._vocab, token, buffer, size, 0, special)
            if length >= 0:
                return buffer.raw[:length]
            size = -length

    def text(self, token: int) -> str:
        """The text of one token, control tokens included; a part of a character is replaced by U+FFFD."""
        return self.piece(token, special=True).decode("utf-8", "replace")

    def tokens_beginning(self, answer: str) -> list[int]:
        """Ids of all tokens of the vocabulary that begin ``answer``, see `llm.base.begins`; found once."""
        if answer not in self._beginning:
            vocabulary = range(self.vocabulary_size)
            self._beginning[answer] = [token for token in vocabulary if begins(self.text(token), answer)]
        return self._beginning[answer]

    def ends_generation(self, token: int) -> bool:
        """Whether the model says with this token that its answer is complete."""
        return bool(self._lib.llama_vocab_is_eog(self._vocab, token))

    def is_control(self, token: int) -> bool:
        """Whether the token steers the chat (roles, ends) rather than standing for text."""
        return bool(self._lib.llama_vocab_is_control(self._vocab, token))
