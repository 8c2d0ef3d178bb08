"""From a prompt to an answer, token by token, greedily."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, TypedDict

import numpy as np
from scipy.special import log_softmax

from llm.base import begins
from llm.llamacpp.chat_template import Prompt
from llm.llamacpp.engine import Cancelled, Engine, Logits, Prefill, greedy, likeliest
from llm.llamacpp.gguf import Weights


class TokenLogprob(TypedDict):
    """A token's text and the natural log of its probability."""

    token: str
    logprob: float


class Logprob(TokenLogprob):
    """The same for a chosen token, with the likeliest at its place; the shape that Ollama gives."""

    top_logprobs: list[TokenLogprob]


@dataclass(frozen=True, slots=True)
class Options:
    """How one answer is to be made. ``top_logprobs`` is None when no log-probabilities are wanted."""

    max_tokens: int
    stop: tuple[str, ...]
    top_logprobs: int | None
    answers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, not {self.max_tokens}")
        if self.top_logprobs is not None and self.top_logprobs < 1:
            raise ValueError(f"top_logprobs must be at least 1, not {self.top_logprobs}")
        if "" in self.stop:
            raise ValueError("a stop sequence must not be empty")


@dataclass(frozen=True, slots=True)
class Step:
    """One token: the text that is certain by now (maybe none), and its log-probability if asked for."""

    text: str
    logprob: Logprob | None


@dataclass(frozen=True, slots=True)
class Summary:
    """The end of an answer: why it ended, what it cost in tokens."""

    reason: Literal["stop", "length"]
    prefill: Prefill
    tokens: int


class StopSequenceBuffer:
    """Bytes of tokens in, text out: whole characters only, and nothing that may become a stop sequence."""

    def __init__(self, stop: tuple[str, ...]) -> None:
        self._stop = stop
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""

    def feed(self, raw: bytes) -> tuple[str, bool]:
        """The text that can be shown now, and whether a stop sequence was reached (it is cut off)."""
        self._held += self._decoder.decode(raw)
        ends = [at for at in (self._held.find(stop) for stop in self._stop) if at >= 0]
        if ends:
            return self._held[: min(ends)], True
        keep = max((self._overlap(stop) for stop in self._stop), default=0)
        text = self._held[: len(self._held) - keep]
        self._held = self._held[len(text) :]
        return text, False

    def rest(self) -> str:
        """What was held back, when no more comes."""
        return self._held + self._decoder.decode(b"", True)

    def _overlap(self, stop: str) -> int:
        """Length of the longest end of the held text that is a beginning of ``stop``."""
        longest = min(len(stop) - 1, len(self._held))
        return next((n for n in range(longest, 0, -1) if stop.startswith(self._held[-n:])), 0)


def answer(
    engine: Engine, weights: Weights, prompt: Prompt, options: Options, cancelled: Callable[[], bool]
) -> Iterator[Step | Summary]:
    """The answer to ``prompt``: a Step for each token, at last a Summary. Raises Cancelled.

    The last token is not decoded: an answer of one token costs the prompt and nothing else. The token that ends the
    answer has a Step too (without text), so a log-probability is there even for an answer that is empty.
    """
    prefill = engine.read(prompt, cancelled)
    spool = StopSequenceBuffer(options.stop)
    reason: Literal["stop", "length"] | None = None
    tokens = 0
    while True:
        logits = engine.logits()
        token = greedy(logits)
        tokens += 1
        if weights.ends_generation(token):
            text, reason = spool.rest(), "stop"
        else:
            text, stopped = spool.feed(weights.piece(token))
            if stopped:
                reason = "stop"
            elif tokens == options.max_tokens:
                text, reason = text + spool.rest(), "length"
        count = options.top_logprobs
        yield Step(text, None if count is None else logprob_of(weights, logits, count, options.answers))
        if reason is not None:
            break
        if cancelled():
            raise Cancelled
        engine.append(token)
    yield Summary(reason, prefill, tokens)


def logprob_of(weights: Weights, logits: Logits, count: int, answers: tuple[str, ...] = ()) -> Logprob:
    """The likeliest token with the ``count`` likeliest at its place.

    Listed as well, after these, are all tokens that begin one of ``answers``, if none of the likeliest does.
    """
    log_probabilities = log_softmax(logits.astype(np.float64))
    tokens = likeliest(logits, count)
    texts = [weights.text(token) for token in tokens]
    for answer in answers:
        if not any(begins(text, answer) for text in texts):
            tokens += weights.tokens_beginning(answer)
    top: list[TokenLogprob] = [
        {"token": weights.text(token), "logprob": float(log_probabilities[token])} for token in tokens
    ]
    return {**top[0], "top_logprobs": top}
