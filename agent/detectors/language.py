"""`language`: what a language model reads in the record, from ONE forward pass.

The verdict is not generated and parsed: the log-probabilities of the first answer token are read, those that
begin "anomalous" against those that begin "normal". The answer to a record without content is subtracted
(contextual calibration, Zhao et al. 2021): it is what the prompt alone makes the model say.
"""

from __future__ import annotations

import hashlib
import math
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Literal

from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agent.core.prompts import PromptVariant, render
from agent.core.records import Signal
from agent.detectors.base import DetectorInput
from llm.base import ChatBackend
from llm.errors import EngineBusy, ModelFailure, NoLogProbabilities
from retrieval.store.caches import LLMCache
from retrieval.text.prompt_injection import remove_injections
from retrieval.types import StoredCase

NEAR = 0.90
# ways to put the question, prompts/ask_NAME.j2: which is best differs by source, the first is best on average
WORDINGS = ("belongs", "expert", "listed", "watch")
_USUAL = PromptVariant(WORDINGS[0])
NO_BRIEF = "Anomalous records tell of failures, errors, attacks, losses or abuse; everything routine is normal."
_EXAMPLES = 2
_EXAMPLE_CHARS = 300
_NOTHING = "N/A"
_ATTEMPTS = 2
_MOST = 4.0
_ANSWERS = ("anomalous", "normal")
# a line's time and process number, masked, cost a fifth of the tokens and say nothing
_LEADING_MASKS = re.compile(r"^(?:\W*<[a-z]+>)+\W*(?=\w)")


def build_messages(
    brief: str, text: str, examples: Sequence[Mapping[str, str]] = (), way: PromptVariant = _USUAL
) -> list[BaseMessage]:
    """The messages; the system message is the same for the whole source, so that its KV cache serves every record."""
    return [
        SystemMessage(render(f"ask_{way.wording}", brief=brief or NO_BRIEF)),
        HumanMessage(render("verdict_record", text=text, examples=examples)),
    ]


def examples_for(near: Iterable[tuple[float, StoredCase]]) -> list[dict[str, str]]:
    """Near precedents as examples, from similarities and cases, the nearest first.

    None when there are not near ones of both labels, for far ones mislead small models.
    """
    close = [(similarity, case) for similarity, case in near if similarity >= NEAR]
    if {case.label for _, case in close} != set(_ANSWERS):
        return []
    chosen = [one for label in _ANSWERS for one in [near for near in close if near[1].label == label][:_EXAMPLES]]
    return [
        {"text": " ".join(remove_injections(case.text).split())[:_EXAMPLE_CHARS], "label": case.label}
        for _, case in sorted(chosen, key=lambda one: one[0])
    ]


class StructuredAnswer(BaseModel):
    """The answer of a model that gives no log-probabilities: its own figure instead."""

    model_config = ConfigDict(extra="forbid")

    verdict: Literal["normal", "anomalous"]
    certainty: float = Field(ge=0.5, le=1.0)

    @property
    def log_odds(self) -> float:
        """Of *anomalous*; no word of a model is worth more than ±`_MOST`."""
        odds = math.log(self.certainty / (1 - self.certainty)) if self.certainty < 1 else _MOST
        return math.copysign(min(odds, _MOST), 1 if self.verdict == "anomalous" else -1)


_SCHEMA = StructuredAnswer.model_json_schema()


class LanguageDetector:
    """Asks a model, remembers every answer by model, prompt and question."""

    def __init__(self, model: ChatBackend, heard: LLMCache, record_tokens: int) -> None:
        self.model, self._heard, self._record_tokens = model, heard, record_tokens
        self._by_schema = False
        self._lock, self._in_flight = threading.Lock(), dict[str, tuple[threading.Lock, int]]()

    def log_odds(
        self, brief: str, text: str, examples: Sequence[Mapping[str, str]] = (), way: PromptVariant = _USUAL
    ) -> float:
        """Raw log-odds of the model for ``text``, from memory when it was asked before, by anybody meanwhile too.

        Raises:
            ModelFailure, EngineBusy: the model could not be heard.
        """
        messages = build_messages(brief, text, examples, way)
        asked = f"{self.model.name}\0{self.model.sha256}\0{messages[0].content}\0{messages[1].content}"
        key = hashlib.sha256(asked.encode()).hexdigest()
        with self._alone(key):
            remembered = self._heard.get(key)
            if remembered is None:
                remembered = self._asked(messages)
                self._heard.put(key, remembered)
            return remembered

    @contextmanager
    def _alone(self, key: str) -> Iterator[None]:
        """Whoever asks the same at the same time waits, and then finds the answer."""
        with self._lock:
            lock, waiting = self._in_flight.get(key, (threading.Lock(), 0))
            self._in_flight[key] = lock, waiting + 1
        try:
            with lock:
                yield
        finally:
            with self._lock:
                lock, waiting = self._in_flight.pop(key)
                if waiting > 1:
                    self._in_flight[key] = lock, waiting - 1

    def _asked(self, messages: Sequence[BaseMessage]) -> float:
        if not self._by_schema:
            try:
                found = self.model.answer_log_probabilities(messages, _ANSWERS)
                return found["anomalous"] - found["normal"]
            except NoLogProbabilities:
                # an older server, or a model that gives none: it will not give them next time either
                self._by_schema = True
        for attempt in range(_ATTEMPTS):
            with suppress(ValidationError):
                return StructuredAnswer.model_validate_json(self.model.structured(messages, _SCHEMA, attempt)).log_odds
        raise ModelFailure(f"{self.model.name} keeps to no schema, asked {_ATTEMPTS} times")

    def content_free_log_odds(self, brief: str, way: PromptVariant = _USUAL) -> float:
        """The log-odds for a record that says nothing: what to subtract."""
        return self.log_odds(brief, _NOTHING, (), way)

    def query(
        self, brief: str, text: str, way: PromptVariant = _USUAL, examples: Sequence[Mapping[str, str]] = ()
    ) -> Signal:
        """Return the signal; when the model was not queried or gave no answer, ``degraded`` says why."""
        try:
            room = self.model.room(build_messages(brief, "", (), way))
            clipped, dropped = self.model.clip(_LEADING_MASKS.sub("", text), min(self._record_tokens, max(room, 1)))
            if examples and self.model.room(build_messages(brief, clipped, examples, way)) < 0:
                examples = ()
            base = self.content_free_log_odds(brief, way) if way.reference is None else way.reference
            log_odds = self.log_odds(brief, clipped, examples, way) - base
        except (ModelFailure, EngineBusy, OSError) as error:
            return Signal(degraded=str(error))
        leaning = "anomalous" if log_odds > 0 else "normal"
        facts = [f"the language model leans {leaning} (log-odds {log_odds:+.1f})"]
        shortened = f"the record is long, {dropped} tokens in its middle were not read" if dropped else None
        return Signal(log_odds=log_odds, facts=tuple(facts), degraded=shortened, truncated=bool(dropped))


@dataclass(frozen=True)
class SourceLanguageDetector:
    """The signal `language` of one source: a language model with the source's ``brief`` and ``prompt``."""

    detector: LanguageDetector
    brief: str
    prompt: PromptVariant
    name: str = "language"

    def score(self, records: Sequence[DetectorInput]) -> list[Signal]:
        """See `agent.detectors.base.Scorer`; one query for each record."""
        return [self._signal(record) for record in records]

    def _signal(self, record: DetectorInput) -> Signal:
        near = ((neighbour.similarity, neighbour.case) for neighbour in record.found.nearest)
        examples = examples_for(near) if self.prompt.examples else ()
        return self.detector.query(self.brief, record.masked, self.prompt, examples)
