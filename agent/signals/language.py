"""`language`: what a language model reads in the record, from ONE forward pass.

The verdict is not generated and parsed: the log-probabilities of the first answer token are read, those that
begin "anomalous" against those that begin "normal". The answer to a record without content is subtracted
(contextual calibration, Zhao et al. 2021): it is what the prompt alone makes the model say.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage

from agent.prompting import render
from agent.records import Signal
from llm.choose import ChosenModel
from llm.failures import EngineBusy, ModelFailure
from retrieval.casebook import Found
from retrieval.history import Heard

NEAR = 0.90
_EXAMPLES = 2
_EXAMPLE_CHARS = 300
_NOTHING = "N/A"
_FLOOR = -25.0
_ANSWERS = ("anomalous", "normal")
# a line's time and process number, masked, cost a fifth of the tokens and say nothing
_LEADING_MASKS = re.compile(r"^(?:\W*<[a-z]+>)+\W*(?=\w)")


def question(brief: str, text: str, examples: Sequence[Mapping[str, str]] = ()) -> list[BaseMessage]:
    """The messages; the system message is the same for the whole source, so that its KV cache serves every record."""
    return [
        SystemMessage(render("verdict_system", brief=brief or _NO_BRIEF)),
        HumanMessage(render("verdict_record", text=text, examples=examples)),
    ]


_NO_BRIEF = "Anomalous records tell of failures, errors, attacks, losses or abuse; everything routine is normal."


def first_token_log_odds(metadata: Mapping[str, Any]) -> float:
    """ln P(answer begins "anomalous") - ln P(answer begins "normal"), from ``response_metadata["logprobs"]``.

    Raises:
        ModelFailure: there are no log-probabilities, or neither answer is among the top tokens.
    """
    tokens = metadata.get("logprobs")
    if not tokens:
        raise ModelFailure("the model gave no log-probabilities")
    first = tokens[0]
    mass = dict.fromkeys(_ANSWERS, 0.0)
    for candidate in first.get("top_logprobs") or [first]:
        word = candidate["token"].strip().strip("\"'*`").lower()
        for answer in _ANSWERS:
            if word and answer.startswith(word):
                mass[answer] += math.exp(candidate["logprob"])
    if not any(mass.values()):
        raise ModelFailure("the model's answer begins neither with normal nor with anomalous")
    logs = {answer: math.log(share) if share > 0 else _FLOOR for answer, share in mass.items()}
    return logs["anomalous"] - logs["normal"]


def examples_for(found: Found) -> list[dict[str, str]]:
    """Near precedents as examples; none when the nearest is far, for far ones mislead small models."""
    near = [one for one in found.nearest if one.similarity >= NEAR]
    if {one.case.label for one in near} != set(_ANSWERS):
        return []
    chosen = [one for label in _ANSWERS for one in [n for n in near if n.case.label == label][:_EXAMPLES]]
    return [
        {"text": " ".join(one.case.text.split())[:_EXAMPLE_CHARS], "label": one.case.label}
        for one in sorted(chosen, key=lambda one: one.similarity)
    ]


class LanguageWitness:
    """Asks a model, remembers every answer by model, prompt and question."""

    def __init__(self, model: ChosenModel, heard: Heard, record_tokens: int) -> None:
        self.model, self._heard, self._record_tokens = model, heard, record_tokens

    def log_odds(self, brief: str, text: str, examples: Sequence[Mapping[str, str]] = ()) -> float:
        """Raw log-odds of the model for ``text``, from memory when it was asked before."""
        messages = question(brief, text, examples)
        asked = f"{self.model.name}\0{self.model.sha256}\0{messages[0].content}\0{messages[1].content}"
        key = hashlib.sha256(asked.encode()).hexdigest()
        remembered = self._heard.get(key)
        if remembered is None:
            remembered = first_token_log_odds(self.model.first_token(messages))
            self._heard.put(key, remembered)
        return remembered

    def without_content(self, brief: str) -> float:
        """The log-odds for a record that says nothing: what to subtract."""
        return self.log_odds(brief, _NOTHING)

    def hear(self, brief: str, text: str, reference: float | None, examples: Sequence[Mapping[str, str]]) -> Signal:
        """The signal; a model that cannot be heard gives a ``failure`` instead of an error."""
        clipped, dropped = self.model.clip(_LEADING_MASKS.sub("", text), self._record_tokens)
        try:
            base = self.without_content(brief) if reference is None else reference
            log_odds = self.log_odds(brief, clipped, examples) - base
        except (ModelFailure, EngineBusy, OSError) as error:
            return Signal(degraded=str(error))
        leaning = "anomalous" if log_odds > 0 else "normal"
        facts = [f"the language model leans {leaning} (log-odds {log_odds:+.1f})"]
        shortened = f"the record is long, {dropped} tokens in its middle were not read" if dropped else None
        return Signal(log_odds=log_odds, facts=tuple(facts), degraded=shortened)
