"""Facts to sentences, and the check that sentences say nothing that the facts do not.

A small model asked to explain invents: case ids, numbers, causes. So the facts are the explanation, given at
once; the model may add up to three sentences, and each is shown only when every case id and every number in
it stands in the facts or in the record.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from langchain_core.messages import HumanMessage, SystemMessage

from agent.core.prompts import render
from agent.core.records import Signal, Verdict, VerdictLabel
from agent.scoring.fusion import Fusion, LogOdds
from retrieval.text.prompt_injection import find_injections

if TYPE_CHECKING:
    from llm.base import ChatBackend

SENTENCES = 3
_TOKENS = 120
# words of a sentence
_FEWEST = 3
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z“\"])|\n+")
_NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:[.,]\d+)*")
_CASE = re.compile(r"\bc\d+\b", re.IGNORECASE)
_SIGNALS_IN_WORDS = {
    "language": "the language model",
    "neighbours": "the precedents' labels",
    "novelty": "the distance from the cases",
    "fields": "its fields",
    "bias": "the usual leaning of this source",
}
_ASK = "In at most three short sentences: why is the verdict so?"


def facts_in_words(label: VerdictLabel, probability: float, facts: Sequence[str]) -> str:
    """The explanation that needs no model."""
    shown = "under 0.01" if probability < 0.005 else "over 0.99" if probability > 0.995 else f"{probability:.2f}"
    head = f"{label} (probability of an anomaly {shown})"
    return f"{head}: {'; '.join(facts)}." if facts else f"{head}: no witness had anything to say."


def top_contribution(fusion: Fusion, signals: LogOdds, label: VerdictLabel) -> str | None:
    """Which witness moved the log-odds most towards the label, of the way they went in all; None if none did.

    Log-odds add up, so that weight times signal is a witness's exact share (weight of evidence, Good 1950).
    """
    sign = {"anomalous": 1, "normal": -1, "unsure": 0}[label]
    shares = {name: weight * (signals.get(name) or 0.0) for name, weight in fusion.weights.items()}
    shares["bias"] = fusion.bias
    towards = {name: sign * share if sign else abs(share) for name, share in shares.items()}
    # that a source leans to a label decides only where no witness speaks for it
    name = max(towards, key=lambda one: (towards[one] > 0 and not (sign and one == "bias"), towards[one]))
    if towards[name] <= 0:
        return None
    how = "decided by" if sign else "weighing most:"
    total = f"in all {fusion.log_odds(signals):+.1f}"
    if abs(fusion.threshold) >= 0.05:
        total += f", threshold {fusion.threshold:+.1f}"
    return f"{how} {_SIGNALS_IN_WORDS[name]} (weighed {shares[name]:+.1f}, {total})"


def why_unsure(fusion: Fusion, probability: float) -> str:
    """Why a verdict is unsure: the band of the ``fusion``, or, where that would be sure, that no case is like it."""
    if fusion.label(probability) == "normal":
        return "no case is like it, so that it is not called normal"
    low, high = fusion.band
    return f"from {low:.2f} to {high:.2f} either label would be wrong too often"


def collect_facts(text: str, telling: Sequence[str | None], signals: Mapping[str, Signal]) -> list[str]:
    """The facts, most telling first; before all, that the record's ``text`` speaks to the judge."""
    facts = [fact for fact in telling if fact]
    if addressed := find_injections(text):
        cut = "; ".join(f"“{piece[:80]}”" for piece in addressed[:3])
        facts.insert(0, f"the record speaks to the judge, and this was kept from the models: {cut}")
    for name in ("neighbours", "novelty", "fields", "language"):
        facts += signals.get(name, Signal()).facts
    return facts


def is_grounded(sentence: str, grounds: str) -> bool:
    """Whether every case id and number of ``sentence`` stands in ``grounds``; percentages may be probabilities."""
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
    ask: str = _ASK,
) -> Iterator[str]:
    """Up to three checked sentences by the language model, each as soon as it is complete.

    ``max_tokens``: how much of the ``masked`` record it reads.

    Raises:
        ModelFailure, EngineBusy: the model could not be heard.
    """
    text, _ = model.clip(masked, max_tokens)
    asked = render("explain_facts", brief=brief, text=text, label=verdict.label, facts=facts, question=ask)
    grounds = "\n".join([asked, verdict.record.text, facts_in_words(verdict.label, verdict.probability, facts)])
    buffer, told = "", list[str]()

    def tells(sentence: str) -> bool:
        return len(sentence.split()) >= _FEWEST and sentence.strip() not in told and is_grounded(sentence, grounds)

    messages = [SystemMessage(render("explain_system")), HumanMessage(asked)]
    for chunk in model.stream(messages, _TOKENS):
        buffer += chunk
        *complete, buffer = _SENTENCE.split(buffer)
        for sentence in complete:
            if len(told) < SENTENCES and tells(sentence):
                told.append(sentence.strip())
                yield told[-1]
        if len(told) >= SENTENCES:
            return
    # what the token limit cut off is no sentence
    if buffer.rstrip().endswith((".", "!", "?")) and tells(buffer):
        yield buffer.strip()
