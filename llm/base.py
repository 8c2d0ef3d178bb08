"""The interface of a language model that gives verdicts, wherever it runs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from llm.errors import ModelFailure, NoAnswer

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

# The likeliest first tokens that are read; Ollama returns no more.
TOP_LOGPROBS = 20
# The least log-probability of an answer.
_FLOOR = -25.0


class ChatBackend(Protocol):
    """A language model that gives verdicts and writes short texts.

    One instance may be used by many threads at once. Every method that queries the model raises `ModelFailure` when
    there is no answer, and `EngineBusy` when the queue is full.

    Attributes
    ----------
    name : str
        The model in a verdict's provenance: ``embedded:NAME`` or ``ollama:NAME``.
    sha256 : str or None
        SHA-256 of the weights, or the digest that Ollama gives to the model.
    adapter_sha256 : str or None
        SHA-256 of the file of the adapter (LoRA) that is added to the weights; None without one.
    """

    @property
    def name(self) -> str:
        """The model in a verdict's provenance."""

    @property
    def sha256(self) -> str | None:
        """SHA-256 of the weights, or the digest that Ollama gives."""

    @property
    def adapter_sha256(self) -> str | None:
        """SHA-256 of the adapter's file."""

    def with_adapter(self, path: Path, sha256: str, weights_sha256: str) -> ChatBackend:
        """Return the model with an adapter; itself where it cannot have it: it has other weights, or is served.

        Parameters
        ----------
        path : Path
            The adapter's GGUF file.
        sha256 : str
            Of that file.
        weights_sha256 : str
            Of the weights that the adapter is of.

        Raises
        ------
        ModelFailure
            The file is missing, or is another one.
        """

    def answer_log_probabilities(self, messages: Sequence[BaseMessage], answers: Sequence[str]) -> dict[str, float]:
        """Return how likely the model is to begin its reply with each answer, from one forward pass.

        Parameters
        ----------
        messages : sequence of BaseMessage
            The conversation; a system message at its start is read once and then cached.
        answers : sequence of str
            Words in lower case, none the beginning of another.

        Returns
        -------
        dict of str to float
            The natural logarithm of each answer's probability, see `read_answers`.

        Raises
        ------
        NoLogProbabilities
            The server returns none; use `structured`.
        NoAnswer
            No likely token begins an answer.
        """

    def structured(self, messages: Sequence[BaseMessage], schema: Mapping[str, Any], attempt: int = 0) -> str:
        """Return a reply that is constrained to a JSON schema, as text; it may violate the schema all the same.

        Parameters
        ----------
        messages : sequence of BaseMessage
            The conversation.
        schema : mapping
            The JSON schema.
        attempt : int
            0 is greedy; a higher number samples another reply, reproducibly.
        """

    def stream(self, messages: Sequence[BaseMessage], max_tokens: int) -> Iterator[str]:
        """Yield the text of the reply piece by piece; closing the iterator stops the model."""

    def clip(self, text: str, max_tokens: int) -> tuple[str, int]:
        """Shorten ``text`` to ``max_tokens`` tokens; return it and the number of tokens that were removed."""

    def room(self, messages: Sequence[BaseMessage]) -> int:
        """Return how many tokens fit into the context beside ``messages`` and a reply of one token; may be negative."""

    def close(self) -> None:
        """Release memory and connections."""


def begins(token: str, answer: str) -> bool:
    """Whether ``token``, without spaces and quotation marks and in lower case, is a non-empty prefix of ``answer``."""
    word = token.strip().strip("\"'*`").lower()
    return bool(word) and answer.startswith(word)


def read_answers(token: Mapping[str, Any], answers: Sequence[str]) -> dict[str, float]:
    """Add up the probabilities of the listed first tokens that begin each answer.

    An answer that none of the listed tokens begins is at most as likely as the least likely of them: this bound is
    its value. The embedded engine lists all tokens of such an answer, so that its values are exact.

    Parameters
    ----------
    token : mapping
        The first token of a reply: its ``token`` text, ``logprob`` and ``top_logprobs``, a list of the same for the
        likeliest alternatives.
    answers : sequence of str
        Words in lower case.

    Returns
    -------
    dict of str to float
        The natural logarithm of each answer's probability.

    Raises
    ------
    NoAnswer
        No listed token begins any answer.
    ModelFailure
        A log-probability is none.
    """
    candidates = token.get("top_logprobs") or [token]
    # a little above 0 by rounding; with damaged weights no number, for which no comparison holds
    if not all(each["logprob"] < 1 for each in candidates):
        raise ModelFailure("the model's log-probabilities are none: its weights may be damaged")
    shares = {
        answer: sum(math.exp(each["logprob"]) for each in candidates if begins(each["token"], answer))
        for answer in answers
    }
    if not any(shares.values()):
        raise NoAnswer(f"the model's reply begins with {token['token']!r}, not with {' or '.join(answers)}")
    least = min(each["logprob"] for each in candidates)
    # The second term is for a server that lists a single token: the others share the rest.
    bound = max(math.exp(_FLOOR), min(math.exp(least), -math.expm1(least)))
    return {answer: math.log(share or bound) for answer, share in shares.items()}
