"""`language`: a language model's log-odds for the record, from one forward pass.

No verdict is generated and parsed: the log-probabilities of the first answer token are read, of "anomalous" against
"normal". The answer to a record without content is subtracted (contextual calibration, Zhao et al. 2021): it is the
effect of the prompt alone. For a source without labels, a batch of its records gives the reference instead
(`agent.training.batch_reference`).
"""

from __future__ import annotations

import hashlib
import math
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agent.core.prompts import PromptVariant, render
from agent.core.records import Signal
from agent.detectors.base import DetectorInput
from llm.base import ChatBackend
from llm.errors import EngineBusy, ModelFailure, NoLogProbabilities
from retrieval.store.caches import LLMCache
from retrieval.types import StoredCase

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

# prompts/ask_NAME.j2: which is best differs by source, the first is best on average
WORDINGS = ("belongs", "expert", "listed", "watch")
# how many of the nearest cases are in the prompt, and whether half of them are of each label: none or four, and if four
# are better than none, the others
EXAMPLES = ((0, False), (4, False), (2, False), (8, False), (4, True))
_DEFAULT_PROMPT = PromptVariant(WORDINGS[0])
NO_BRIEF = "Anomalous records tell of failures, errors, attacks, losses or abuse; everything routine is normal."
_EXAMPLE_CHARS, _TYPICAL_CHARS = 300, 120
_NO_CONTENT = "N/A"
_ATTEMPTS = 2
_MAX_LOG_ODDS = 4.0
ANSWERS = ("anomalous", "normal")
# a line's masked time and process number take a fifth of the tokens and carry no information
_LEADING_MASKS = re.compile(r"^(?:\W*<[a-z]+>)+\W*(?=\w)")


class NearCase(NamedTuple):
    """A case that may be an example in the prompt about a record; ``text`` is masked."""

    similarity: float
    label: str
    text: str


def build_messages(
    brief: str, text: str, examples: Sequence[NearCase] = (), prompt: PromptVariant = _DEFAULT_PROMPT
) -> list[BaseMessage]:
    """The messages of a query; the system message is the same for a whole source, so its KV cache is reused."""
    # takes longer to import than a cached verdict takes
    from langchain_core.messages import HumanMessage, SystemMessage

    shown = [case._replace(text=without_leading_masks(case.text)[:_EXAMPLE_CHARS]) for case in examples]
    described = brief or NO_BRIEF
    if prompt.typical:
        typical = [" ".join(without_leading_masks(text).split())[:_TYPICAL_CHARS] for text in prompt.typical]
        described = render("typical_records", brief=described, typical=typical)
    return [
        SystemMessage(render(f"ask_{prompt.wording}", brief=described)),
        HumanMessage(render("verdict_record", text=text, examples=shown)),
    ]


def without_leading_masks(masked: str) -> str:
    """A masked text without the masks at its beginning."""
    return _LEADING_MASKS.sub("", masked)


def examples_for(near: Iterable[NearCase], prompt: PromptVariant) -> list[NearCase]:
    """The examples of a prompt, the most similar last.

    Parameters
    ----------
    near : iterable of NearCase
        The nearest first.
    prompt : PromptVariant
        Says how many examples there are, and whether half of them are of each label.
    """
    left = Counter(dict.fromkeys(ANSWERS, prompt.examples // 2 if prompt.balanced else prompt.examples))
    chosen = list[NearCase]()
    for case in near:
        if len(chosen) < prompt.examples and left[case.label] > 0:
            left[case.label] -= 1
            chosen.append(case)
    return chosen[::-1]


class StructuredAnswer(BaseModel):
    """The answer of a model that gives no log-probabilities: the certainty that it states."""

    model_config = ConfigDict(extra="forbid")

    verdict: Literal["normal", "anomalous"]
    certainty: float = Field(ge=0.5, le=1.0)

    @property
    def log_odds(self) -> float:
        """Of *anomalous*, within ±4."""
        odds = math.log(self.certainty / (1 - self.certainty)) if self.certainty < 1 else _MAX_LOG_ODDS
        return math.copysign(min(odds, _MAX_LOG_ODDS), 1 if self.verdict == "anomalous" else -1)


_SCHEMA = StructuredAnswer.model_json_schema()


class LanguageDetector:
    """Queries a language model, and caches its answers by model and prompt.

    Parameters
    ----------
    model : ChatBackend
    cache : LLMCache
    record_tokens : int
        The most tokens of a record that the model reads.
    """

    def __init__(self, model: ChatBackend, cache: LLMCache, record_tokens: int) -> None:
        self.model, self._cache, self._record_tokens = model, cache, record_tokens
        self._by_schema = False
        self._lock, self._in_flight = threading.Lock(), dict[str, tuple[threading.Lock, int]]()

    def of(self, model: ChatBackend) -> LanguageDetector:
        """The same for another model."""
        return LanguageDetector(model, self._cache, self._record_tokens)

    def log_odds(
        self, brief: str, text: str, examples: Sequence[NearCase] = (), prompt: PromptVariant = _DEFAULT_PROMPT
    ) -> float:
        """Raw log-odds of *anomalous* for ``text``; equal queries at the same time are one.

        Raises
        ------
        ModelFailure, EngineBusy
            The model gave no answer.
        """
        messages = build_messages(brief, text, examples, prompt)
        query = f"{self.model.name}\0{self.model.sha256}\0{messages[0].content}\0{messages[1].content}"
        key = hashlib.sha256(query.encode()).hexdigest()
        with self._exclusive(key):
            log_odds = self._cache.get(key)
            if log_odds is None:
                log_odds = self._query(messages)
                self._cache.put(key, log_odds)
            return log_odds

    @contextmanager
    def _exclusive(self, key: str) -> Iterator[None]:
        """Let one thread query for ``key``; the others wait and then find the answer in the cache."""
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

    def _query(self, messages: Sequence[BaseMessage]) -> float:
        if not self._by_schema:
            try:
                log_probabilities = self.model.answer_log_probabilities(messages, ANSWERS)
                return log_probabilities["anomalous"] - log_probabilities["normal"]
            except NoLogProbabilities:
                # an old server, or a model that never gives them
                self._by_schema = True
        for attempt in range(_ATTEMPTS):
            with suppress(ValidationError):
                return StructuredAnswer.model_validate_json(self.model.structured(messages, _SCHEMA, attempt)).log_odds
        raise ModelFailure(f"{self.model.name} did not keep to the schema in {_ATTEMPTS} attempts")

    def content_free_log_odds(self, brief: str, prompt: PromptVariant) -> float:
        """The raw log-odds for a record without content, to be subtracted from those of records."""
        return self.log_odds(brief, _NO_CONTENT, (), prompt)

    def fitted(
        self, brief: str, text: str, prompt: PromptVariant, examples: Sequence[NearCase]
    ) -> tuple[str, Sequence[NearCase], int]:
        """A text and examples as they fit into the model's context, and how many tokens of the text do not."""
        room = self.model.room(build_messages(brief, "", (), prompt))
        clipped, dropped = self.model.clip(without_leading_masks(text), min(self._record_tokens, max(room, 1)))
        if examples and self.model.room(build_messages(brief, clipped, examples, prompt)) < 0:
            examples = ()
        return clipped, examples, dropped

    def query(
        self, brief: str, text: str, prompt: PromptVariant = _DEFAULT_PROMPT, examples: Sequence[NearCase] = ()
    ) -> Signal:
        """Return the signal; when the model was not queried or gave no answer, ``degraded`` says why."""
        try:
            clipped, examples, dropped = self.fitted(brief, text, prompt, examples)
            base = self.content_free_log_odds(brief, prompt) if prompt.reference is None else prompt.reference
            log_odds = self.log_odds(brief, clipped, examples, prompt) - base
        except (ModelFailure, EngineBusy, OSError) as error:
            return Signal(degraded=str(error))
        leaning = "anomalous" if log_odds > 0 else "normal"
        compared = f", compared with {prompt.templates} templates of this source" if prompt.templates else ""
        facts = [f"the language model leans {leaning} (log-odds {log_odds:+.1f}{compared})"]
        shortened = f"the record is long, {dropped} tokens in its middle were not read" if dropped else None
        return Signal(log_odds=log_odds, facts=tuple(facts), degraded=shortened, truncated=bool(dropped))


@dataclass(frozen=True)
class BatchReference:
    """What the reference of a source without labels was measured on; it holds for this prompt and this model only.

    Attributes
    ----------
    rate : float
        Share of anomalous records that was assumed.
    given : bool
        Whether a person gave the rate.
    templates, queried, records : int
        Size of the batch, and to how many of its templates the answers were compared.
    prompt_sha256 : str
        Of the system message, which holds the brief.
    model : str
    model_sha256 : str or None
    fusion : dict
        The `agent.scoring.fusion.Fusion` of the batch, as JSON.
    """

    rate: float
    given: bool
    templates: int
    queried: int
    records: int
    prompt_sha256: str
    model: str
    model_sha256: str | None
    fusion: dict[str, Any]

    def is_of_prompt(self, brief: str, prompt: PromptVariant) -> bool:
        """Whether the source still has the brief and the prompt that it was measured with."""
        return self.prompt_sha256 == system_message_sha256(brief, prompt)

    def is_of_model(self, model: ChatBackend) -> bool:
        """Whether it was measured with this language model."""
        return (self.model, self.model_sha256) == (model.name, model.sha256)


def system_message_sha256(brief: str, prompt: PromptVariant) -> str:
    """SHA-256 (hex) of the system message of a source's queries."""
    return hashlib.sha256(str(build_messages(brief, "", (), prompt)[0].content).encode()).hexdigest()


@dataclass(frozen=True)
class SourceLanguageDetector:
    """The signal `language` of one source: a language model with the source's ``brief`` and ``prompt``.

    ``masked`` gives the masked text of a case.
    """

    detector: LanguageDetector
    brief: str
    prompt: PromptVariant
    masked: Callable[[StoredCase], str]
    name: str = "language"

    def score(self, records: Sequence[DetectorInput]) -> list[Signal]:
        """See `agent.detectors.base.Scorer`; one query for each record."""
        return [self._signal(record) for record in records]

    def _signal(self, record: DetectorInput) -> Signal:
        near = (NearCase(near.similarity, near.case.label, self.masked(near.case)) for near in record.found.nearest)
        return self.detector.query(self.brief, record.masked, self.prompt, examples_for(near, self.prompt))
