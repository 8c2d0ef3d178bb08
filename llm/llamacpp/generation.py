"""From a prompt to a reply, token by token."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict

import numpy as np
from scipy.special import log_softmax

from llm.base import begins
from llm.llamacpp.chat_template import Prompt
from llm.llamacpp.engine import Cancelled, Engine, Logits, Prefill, greedy, likeliest
from llm.llamacpp.gguf import Weights


class TokenLogprob(TypedDict):
    """A token's text and the natural logarithm of its probability."""

    token: str
    logprob: float


class Logprob(TokenLogprob):
    """The same for a chosen token, with the likeliest tokens at its place; the shape that Ollama returns."""

    top_logprobs: list[TokenLogprob]


@dataclass(frozen=True, slots=True)
class Options:
    """How a reply is generated: at most ``max_tokens``, ended by a text of ``stop``, which is cut off.

    ``top_logprobs`` of the likeliest tokens are listed at each place (None: no log-probabilities), and for each word
    of ``answers`` that none of these begins, all tokens of the vocabulary that do. ``adapter`` is the file of one that
    is added to the weights.
    """

    max_tokens: int
    stop: tuple[str, ...] = ()
    top_logprobs: int | None = None
    answers: tuple[str, ...] = ()
    adapter: Path | None = None

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, not {self.max_tokens}")
        if self.top_logprobs is not None and self.top_logprobs < 1:
            raise ValueError(f"top_logprobs must be at least 1, not {self.top_logprobs}")
        if "" in self.stop:
            raise ValueError("a stop sequence must not be empty")


@dataclass(frozen=True, slots=True)
class Step:
    """One token: the text that is final by now (maybe none), and its log-probability if requested."""

    text: str
    logprob: Logprob | None


@dataclass(frozen=True, slots=True)
class Summary:
    """The end of a reply: why it ended, and its cost in tokens."""

    reason: Literal["stop", "length"]
    prefill: Prefill
    tokens: int


class StopSequenceBuffer:
    """Turns bytes of tokens into text; holds back incomplete characters and what may become a stop sequence."""

    def __init__(self, stop: tuple[str, ...]) -> None:
        self._stop = stop
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""

    def feed(self, raw: bytes) -> tuple[str, bool]:
        """Return the text that is final now, and whether a stop sequence, which is cut off, ended it."""
        self._held += self._decoder.decode(raw)
        ends = [end for end in map(self._held.find, self._stop) if end >= 0]
        if ends:
            return self._held[: min(ends)], True
        keep = max(map(self._overlap, self._stop), default=0)
        text = self._held[: len(self._held) - keep]
        self._held = self._held[len(text) :]
        return text, False

    def flush(self) -> str:
        """Return what was held back, at the end of the reply."""
        return self._held + self._decoder.decode(b"", True)

    def _overlap(self, stop: str) -> int:
        """Length of the longest suffix of the held text that is a prefix of ``stop``."""
        longest = min(len(stop) - 1, len(self._held))
        return next((n for n in range(longest, 0, -1) if stop.startswith(self._held[-n:])), 0)


def answer(
    engine: Engine, weights: Weights, prompt: Prompt, options: Options, cancelled: Callable[[], bool]
) -> Iterator[Step | Summary]:
    """Yield a Step for each token of the greedy reply to ``prompt``, and a Summary at the end. Raises Cancelled.

    The last token is not decoded: a reply of one token costs the prompt alone. The token that ends the reply has a
    Step too, without text, so that even an empty reply has a log-probability.
    """
    engine.use(options.adapter)
    prefill = engine.read(prompt, cancelled)
    buffer = StopSequenceBuffer(options.stop)
    reason: Literal["stop", "length"] | None = None
    tokens = 0
    while True:
        logits = engine.logits()
        token = greedy(logits)
        tokens += 1
        if weights.ends_generation(token):
            text, reason = buffer.flush(), "stop"
        else:
            text, stopped = buffer.feed(weights.piece(token))
            if stopped:
                reason = "stop"
            elif tokens == options.max_tokens:
                text, reason = text + buffer.flush(), "length"
        count = options.top_logprobs
        yield Step(text, None if count is None else logprob_of(weights, logits, count, options.answers))
        if reason is not None:
            break
        if cancelled():
            raise Cancelled
        engine.append(token)
    yield Summary(reason, prefill, tokens)


def logprob_of(weights: Weights, logits: Logits, count: int, answers: tuple[str, ...] = ()) -> Logprob:
    """Return the likeliest token and the ``count`` likeliest ones; see `Options` for ``answers``.

    ``logits`` have the shape (vocabulary_size,); log-probabilities are those among the whole vocabulary.
    """
    log_probabilities = log_softmax(logits.astype(np.float64))
    tokens = likeliest(logits, count)
    texts = [weights.text(token) for token in tokens]
    for word in answers:
        if not any(begins(text, word) for text in texts):
            tokens += weights.tokens_beginning(word)
    top: list[TokenLogprob] = [
        {"token": weights.text(token), "logprob": float(log_probabilities[token])} for token in tokens
    ]
    return {**top[0], "top_logprobs": top}
