"""Forms of the prompt of a model for `ollama run`: how many cases it shows, in which order, with which reasons."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from numpy.typing import NDArray

from agent.core.prompts import render
from agent.detectors.language import NO_BRIEF, without_leading_masks
from retrieval.encoding.representation import Representation
from retrieval.text.prompt_injection import remove_injections
from retrieval.types import LABELS, StoredCase

_SAMPLE, _SEED = 2_000, 20_26
# characters of a case in the prompt, and of a record that a form is tried on
_EXAMPLE_CHARS, _RECORD_CHARS = 200, 1_000
_PHRASE = 4
_QUOTES = '“”"`'
_MASK = re.compile(r"<[a-z]+>")
_WORD = re.compile(r"[^\W\d_]{2,}")


@dataclass(frozen=True)
class Example:
    """A case as the prompt shows it; ``words`` are a part of ``text``, which the reason quotes."""

    text: str
    label: str
    words: str


GENERAL = tuple(
    Example(text, label, words)
    for text, label, words in (
        ("worker 7 lost file 31: checksum error", "anomalous", "checksum error"),
        ("worker 7 copied file 31 to the archive", "normal", "copied file"),
        ("cannot allocate memory, giving up", "anomalous", "cannot allocate memory"),
        ("backup finished after 12 s", "normal", "backup finished"),
        ("login refused for user root: too many attempts", "anomalous", "too many attempts"),
        ("user anna logged in", "normal", "logged in"),
        ("process 12 was killed by signal 9", "anomalous", "killed by signal"),
        ("connection from 10.0.0.7 closed", "normal", "closed"),
    )
)
"""Cases of no particular source."""


@dataclass(frozen=True)
class Form:
    """A form of the prompt.

    Attributes
    ----------
    wording : str
        How the question is put, see ``prompts/ollama_system.j2``: small models lean to one label or the other by it.
    cases : int
        How many anomalous cases it shows, at most.
    normals : int
        How many normal cases it shows for each of them, at most.
    contrasting : bool
        Whether half of the normal cases are those most like the anomalous ones; else all are representative.
    last : str
        The label of the last case, which small models repeat.
    quoting : bool
        Whether the reason quotes words of the record.
    """

    wording: str
    cases: int
    normals: int = 1
    contrasting: bool = False
    last: str = "normal"
    quoting: bool = True

    def __str__(self) -> str:
        choice = "contrasting" if self.contrasting else "representative"
        each = "one normal case" if self.normals == 1 else f"{self.normals} normal cases"
        shown = f"up to {self.cases} anomalous cases, and {each} for each of them ({choice})"
        return f"wording {self.wording!r}, {shown}, the last one {self.last}"


@dataclass(frozen=True)
class FewShotPrompt:
    """A system message, and the examples as turns of a conversation: (role, text)."""

    system: str
    turns: tuple[tuple[str, str], ...]

    def messages(self, record: str) -> list[BaseMessage]:
        """The conversation about a record."""
        kinds = {"user": HumanMessage, "assistant": AIMessage}
        turns = [kinds[role](text) for role, text in self.turns]
        return [SystemMessage(self.system), *turns, HumanMessage(record)]


# By label, the most representative first.
Examples = Mapping[str, Sequence[Example]]


def few_shot_prompt(brief: str, examples: Mapping[bool, Examples], form: Form) -> FewShotPrompt:
    """The prompt of a source.

    Parameters
    ----------
    brief : str
    examples : mapping
        Some of each label: representative ones (False) and contrasting ones (True).
    form : Form
    """
    normal, anomalous = (examples[form.contrasting][label] for label in LABELS)
    turns = list[tuple[str, str]]()
    for i in range(min(form.cases, len(anomalous), math.ceil(len(normal) / form.normals))):
        group = [anomalous[i], *normal[i * form.normals : (i + 1) * form.normals]]
        for example in group if form.last == "normal" else group[::-1]:
            answer = render("ollama_answer", label=example.label, words=example.words if form.quoting else None)
            turns += [("user", example.text), ("assistant", answer)]
    system = render("ollama_system", brief=brief or NO_BRIEF, wording=form.wording, quoting=form.quoting)
    return FewShotPrompt(system, tuple(turns))


def with_general(examples: Examples) -> dict[str, Sequence[Example]]:
    """The examples, with general ones for a label of which there is none."""
    return {
        label: examples.get(label) or [example for example in GENERAL if example.label == label] for label in LABELS
    }


def medoids(vectors: NDArray[np.float32], weights: NDArray[np.float64], count: int) -> list[int]:
    """Indices of up to ``count`` vectors that represent the others best, the most representative first.

    Greedy facility location (Nemhauser et al. 1978) on a sample.

    Parameters
    ----------
    vectors : shape (n, dimensions)
    weights : shape (n,)
    count : int
    """
    places = np.arange(len(vectors))
    if len(places) > _SAMPLE:
        places = np.sort(np.random.default_rng(_SEED).choice(places, _SAMPLE, replace=False))
    similar = vectors[places] @ vectors[places].T
    best = np.full(len(places), -1.0)
    chosen: list[int] = []
    for _ in range(min(count, len(places))):
        gains = np.maximum(similar - best, 0) @ weights[places]
        gains[chosen] = -1
        chosen.append(int(np.argmax(gains)))
        best = np.maximum(best, similar[chosen[-1]])
    return [int(places[i]) for i in chosen]


def record_text(case: StoredCase) -> str:
    """A case as a person gives it to `ollama run`."""
    whole = case.text or ", ".join(f"{name} is {value}" for name, value in case.fields.items()) or " ".join(case.events)
    return " ".join(remove_injections(whole).split())[:_RECORD_CHARS]


def shown_text(case: StoredCase, representation: Representation) -> str:
    """A case as the prompt shows it: a text is masked, and without a time at its beginning."""
    whole = without_leading_masks(representation.masked(case)) if case.text else record_text(case)
    return " ".join(whole.split())[:_EXAMPLE_CHARS]


def deciding_words(text: str, own: Mapping[str, int], other: Mapping[str, int]) -> str:
    """A part of ``text`` of up to four words, which are frequent in texts of its label and rare in those of the other.

    Parameters
    ----------
    text : str
    own, other : mapping
        In how many texts of either label each word is, see `word_counts`.
    """
    phrases = list[tuple[int, float, int, str]]()
    tokens = list(re.finditer(r"\S+", text))
    for i, first in enumerate(tokens):
        for last in tokens[i : i + _PHRASE]:
            phrase = text[first.start() : last.end()]
            words = _WORD.findall(phrase)
            if not words or _MASK.search(phrase) or any(quote in phrase for quote in _QUOTES):
                break
            odds = [math.log((own.get(word, 0) + 1) / (other.get(word, 0) + 1)) for word in words]
            phrases.append((len(words), sum(odds) / len(odds), -i, phrase))
            if last[0].endswith((".", ";")):
                break
    if not phrases:
        return " ".join(text.split()[:_PHRASE])[:40]
    longest = max(phrases)[0]
    return max(phrase for phrase in phrases if phrase[0] >= min(longest, _PHRASE - 1))[3].strip(" .,:;()[]")


def word_counts(texts: Sequence[str]) -> Counter[str]:
    """In how many of the texts each word is."""
    return Counter(word for text in texts for word in set(_WORD.findall(text)))
