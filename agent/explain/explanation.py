"""Facts to sentences, and the check that sentences state nothing beyond the facts.

A small model that explains invents case ids, numbers and causes. So the facts are the explanation, given at once; the
model may add up to three sentences, and each is shown only when every case id and every number in it occurs in the
facts or in the record. The first that contradicts the verdict (`agent.explain.meaning`) is replaced by a fixed one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from agent.core.prompts import render
from agent.core.records import Signal, Verdict, VerdictLabel
from agent.detectors.contrib.series_names import is_of_series
from agent.explain.headline import headline
from agent.explain.meaning import contradiction
from agent.scoring.fusion import Fusion, LogOdds
from retrieval.text.prompt_injection import find_injections

if TYPE_CHECKING:
    from llm.base import ChatBackend

SENTENCES = 3
_TOKENS = 120
_CLAUSE_CHARS = 120
# words of a sentence
_MIN_WORDS = 3
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z“\"])|\n+")
_NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:[.,]\d+)*")
_CASE = re.compile(r"\bc\d+\b", re.IGNORECASE)
_DETECTOR_NAMES = {
    "language": "the language model",
    "neighbours": "the precedents' labels",
    "novelty": "the distance from the cases",
    "fields": "its fields",
    "bias": "the usual leaning of this source",
}
# facts of installed detectors come after these
_FACT_ORDER = ("neighbours", "novelty", "fields", "language")
# of the reason for a sentence that was replaced
REPLACED = "what the language model wrote contradicted the verdict in"
_QUESTION = "In at most three short sentences: why is the verdict so?"


def facts_in_words(label: VerdictLabel, probability: float, facts: Sequence[str]) -> str:
    """The explanation that needs no model: the verdict, and its facts joined."""
    shown = "under 0.01" if probability < 0.005 else "over 0.99" if probability > 0.995 else f"{probability:.2f}"
    head = f"{label} (probability of an anomaly {shown})"
    return f"{head}: {'; '.join(facts)}." if facts else f"{head}: no detector has a fact about it."


def top_contribution(fusion: Fusion, signals: LogOdds, label: VerdictLabel) -> str | None:
    """Which detector moved the log-odds most towards the label; None if none did.

    Log-odds add up, so weight times signal is a detector's exact share (weight of evidence, Good 1950).
    """
    sign = {"anomalous": 1, "normal": -1, "unsure": 0}[label]
    shares = {name: weight * (signals.get(name) or 0.0) for name, weight in fusion.weights.items()}
    shares["bias"] = fusion.bias
    towards = {name: sign * share if sign else abs(share) for name, share in shares.items()}
    # the bias decides only where no detector supports the label
    name = max(towards, key=lambda name: (towards[name] > 0 and not (sign and name == "bias"), towards[name]))
    if towards[name] <= 0:
        return None
    how = "decided by" if sign else "weighing most:"
    total = f"in all {fusion.log_odds(signals):+.1f}"
    if abs(fusion.threshold) >= 0.05:
        total += f", threshold {fusion.threshold:+.1f}"
    return f"{how} {_DETECTOR_NAMES.get(name, f'the detector {name}')} (weighed {shares[name]:+.1f}, {total})"


def why_unsure(fusion: Fusion, probability: float, *, resembles_none: bool = False, problems: str | None = None) -> str:
    """Why a verdict is unsure: that no case is like the record, what of it was not read, or the band of the ``fusion``.

    Parameters
    ----------
    resembles_none
        Whether the record is so unlike the cases of both labels that it is called neither.
    problems
        What is wrong with its fields.
    """
    if resembles_none:
        return "no case is like it, of either label, so that it is called neither normal nor anomalous"
    label = fusion.label(probability)
    if label != "unsure" and problems:
        return f"it would be {label}, but {problems}"
    if label == "normal":
        return "no case is like it, so that it is not called normal"
    low, high = fusion.band
    return f"from {low:.2f} to {high:.2f} either label would be wrong too often"


def why_by_clause(clause: str) -> str:
    """Which clause of a record decides, in words."""
    text = clause if len(clause) <= _CLAUSE_CHARS else clause[: _CLAUSE_CHARS - 1] + "…"
    return f"by its clause “{text}”, which no normal case has"


def collect_facts(text: str, telling: Sequence[str | None], signals: Mapping[str, Signal]) -> tuple[str, ...]:
    """The facts of a verdict, the most telling first.

    Parameters
    ----------
    text : str
        The record's text; that it holds a prompt injection is the first fact.
    telling : sequence of str or None
        Facts about the verdict as a whole; None for those that do not apply.
    signals : mapping
        By detector name.
    """
    facts = [fact for fact in telling if fact]
    if injections := find_injections(text):
        quoted = "; ".join(f"“{injection[:80]}”" for injection in injections[:3])
        facts.insert(0, f"the record contains a prompt injection, which was kept from the models: {quoted}")
    first = [name for name in signals if is_of_series(name)]
    order = [*first, *_FACT_ORDER, *signals]
    for name in dict.fromkeys(order):
        facts += signals.get(name, Signal()).facts
    return tuple(facts)


def is_grounded(sentence: str, grounds: str) -> bool:
    """Whether every case id and number of ``sentence`` occurs in ``grounds``."""
    cases = {found.lower() for found in _CASE.findall(grounds)}
    if any(found.lower() not in cases for found in _CASE.findall(sentence)):
        return False
    numbers = {_value(found) for found in re.findall(r"\d+(?:[.,]\d+)*", grounds)}
    return all(_value(found) in numbers for found in _NUMBER.findall(_CASE.sub(" ", sentence)))


def _value(written: str) -> float | str:
    plain = written.lstrip("+-").replace(",", "")
    try:
        return float(plain)
    except ValueError:
        return plain


def sentences(
    model: ChatBackend,
    max_tokens: int,
    verdict: Verdict,
    brief: str,
    facts: Sequence[str],
    masked: str,
    on_replaced: Callable[[str], None] | None = None,
) -> Iterator[str]:
    """Up to three checked sentences by the language model, each as soon as it is complete.

    Parameters
    ----------
    model : ChatBackend
    max_tokens : int
        How much of the ``masked`` record the model reads.
    verdict : Verdict
    brief : str
        Of the source.
    facts : sequence of str
        Of the verdict.
    masked : str
        The record's masked text.
    on_replaced : callable, optional
        Called at the end with the reason if a sentence contradicted the verdict.

    Raises
    ------
    ModelFailure, EngineBusy
        The model is unavailable.
    """
    text, _ = model.clip(masked, max_tokens)
    prompt = render("explain_facts", brief=brief, text=text, label=verdict.label, facts=facts, question=_QUESTION)
    grounds = "\n".join([prompt, verdict.record.text, facts_in_words(verdict.label, verdict.probability, facts)])
    check = _SentenceCheck(verdict, facts, grounds)
    from langchain_core.messages import HumanMessage, SystemMessage

    messages = [SystemMessage(render("explain_system")), HumanMessage(prompt)]
    for sentence in _complete_sentences(model.stream(messages, _TOKENS)):
        if (checked := check(sentence)) is not None:
            yield checked
        if len(check.shown) >= SENTENCES:
            break
    if check.contradicted and on_replaced is not None:
        contradictions = " and ".join(dict.fromkeys(check.contradicted))
        on_replaced(f"{REPLACED} {contradictions}: fixed words stand in its place")


def _complete_sentences(chunks: Iterator[str]) -> Iterator[str]:
    buffer = ""
    for chunk in chunks:
        buffer += chunk
        *complete, buffer = _SENTENCE.split(buffer)
        yield from complete
    # what the token limit cut off is not a sentence
    if buffer.rstrip().endswith((".", "!", "?")):
        yield buffer


class _SentenceCheck:
    """What is shown of each sentence; `contradicted` names in what the sentences contradicted the verdict."""

    def __init__(self, verdict: Verdict, facts: Sequence[str], grounds: str) -> None:
        self._verdict, self._facts, self._grounds = verdict, facts, grounds
        self.shown, self.contradicted = list[str](), list[str]()

    def __call__(self, sentence: str) -> str | None:
        sentence = sentence.strip()
        if len(sentence.split()) < _MIN_WORDS or not is_grounded(sentence, self._grounds):
            return None
        if contradicted := contradiction(sentence, self._verdict, self._facts):
            self.contradicted.append(contradicted)
            sentence = headline(self._verdict)
        if sentence in self.shown:
            return None
        self.shown.append(sentence)
        return sentence
