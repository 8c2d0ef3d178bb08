"""The conversational agent behind `/chain` and `precedent chat`.

What a person wants is read from plain words by rules, not by a model: a pasted record must never be able to
ask for something. The language model speaks only where words are wanted: in explanations, sentence by
sentence, each checked.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import pairwise
from typing import Any, cast

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.runnables import Runnable, RunnableLambda
from pydantic import BaseModel, Field, ValidationError

from agent.core.cancellable_stream import stream_in_thread
from agent.core.errors import PrecedentError, UnknownSource, UnknownVerdict, UsageError, mapped
from agent.core.records import Label, Verdict
from agent.core.requests import JudgeRequest, format_validation_error, parse_request
from agent.core.terminal import plural
from agent.pipeline.context import AppContext
from agent.pipeline.history import load_verdict
from agent.pipeline.llm_explanation import sentences_for_stored_verdict
from agent.pipeline.service import with_history
from agent.training.feedback import correct, refit_if_due

_MOST_LINES = 50
_VERDICT = re.compile(r"^verdict (v[0-9a-f]{12})\b", re.MULTILINE)
_NAMED = re.compile(r"\b(v[0-9a-f]{12})\b")
_USING = re.compile(r"records are now judged as source ([\w.-]+)$")
_ASKED = re.compile(r"[\w',.?! ]{1,120}")
# a question about a verdict has one of its own words, and beside them only these: a record that holds one has others
_WHY = frozenset({"why", "how come", "explain", "explanation", "reason", "reasons"})
_PRECEDENTS = frozenset({"precedent", "precedents", "similar cases", "similar records", "nearest cases"})
_PLAIN = """
a about all am an and anomalous anomaly any are but by can cases come could did do does each exactly for give
had has have how i in is it its judge judged last line list look me more nearest normal not now of ok one or
please record records say see show similar so that the their them then these they think this to unsure verdict
was we were what what's which with would you your
"""
_BESIDE = frozenset(_PLAIN.split())
_FEEDBACK = re.compile(
    r"(?:no,? |actually,? |wrong,? )*(?:that|this|it|(?P<id>v[0-9a-f]{12}))(?:'s| is| was)?,? ?(?:really |actually )?"
    r"(?P<negated>not |n't )?(?:an? )?"
    r"(?P<label>normal|anomal\w*|abnormal|false alarm|false positive|ok(?:ay)?|fine)[.!]*",
    re.IGNORECASE,
)
_USE = re.compile(r"(?:use|switch to|source)\s+(?P<name>[\w.-]+)", re.IGNORECASE)
_SOURCES = re.compile(r"(?:list |show |which |what )?(?:the |my )?sources(?: are there)?\??", re.IGNORECASE)
_HELP = re.compile(r"(?:help|\?|hi|hello|hey|what can (?:you|i) do\??)[.!]*", re.IGNORECASE)
_PREFIX = re.compile(r"^(?P<name>[A-Za-z0-9][\w.-]*)>\s*(?P<rest>.+)$", re.DOTALL)
_NORMAL = ("normal", "false alarm", "false positive", "ok", "okay", "fine")

HELP = """Paste a record (or several, one a line) and I judge it by its precedents. Then ask:
- why?                          the facts, and what the language model makes of them
- show me the precedents        the nearest labelled cases
- that was normal               (or: that was anomalous) corrects the verdict; the next similar record follows it
- sources                       which sources there are
- use NAME                      judge records as that source; or write NAME> before a record
- help                          this list"""


class ChatInput(BaseModel):
    """The conversation so far; its last message is answered."""

    messages: list[HumanMessage | AIMessage | SystemMessage] = Field(
        ..., json_schema_extra={"widget": {"type": "chat", "input": "messages"}}
    )


def build_chat(context: AppContext, chain: Runnable[Any, Verdict]) -> Runnable[ChatInput, str]:
    """The agent: a conversation to its answer, in pieces as they come. It keeps no state but the conversation."""
    agent = _Agent(context, with_history(context, chain))

    async def answer_async(sent: Any) -> AsyncIterator[str]:
        async for piece in stream_in_thread(agent.answer(sent)):
            yield piece

    runnable = RunnableLambda(agent.answer, afunc=answer_async, name="chat")
    return cast(Runnable[ChatInput, str], runnable.with_types(input_type=ChatInput, output_type=str))


class _Agent:
    def __init__(self, context: AppContext, chain: Runnable[Any, Verdict]) -> None:
        self._context, self._chain = context, chain

    def answer(self, sent: Any) -> Iterator[str]:
        """The answer to the last message; what goes wrong is said in the conversation."""
        try:
            conversation = sent if isinstance(sent, ChatInput) else ChatInput.model_validate(sent)
            *before, last = conversation.messages or [HumanMessage("help")]
            yield from self._answer(str(last.text).strip(), before)
        except PrecedentError as error:
            yield str(error)
        except ValidationError as error:
            yield f"That is no record that I can judge: {format_validation_error(error)}."

    def _answer(self, said: str, before: Sequence[BaseMessage]) -> Iterator[str]:
        if not said or _HELP.fullmatch(said):
            yield HELP
        elif _SOURCES.fullmatch(said):
            yield from self._sources()
        elif use := _USE.fullmatch(said):
            yield self._use(use["name"])
        elif feedback := _FEEDBACK.fullmatch(said):
            normal = feedback["label"].lower() in _NORMAL
            label: Label = "normal" if normal != bool(feedback["negated"]) else "anomalous"
            yield from self._correct(feedback["id"] or self._last(before, said), label)
        elif _asks(said, _WHY):
            yield from self._why(self._last(before, said))
        elif _asks(said, _PRECEDENTS):
            yield from self._precedents(self._last(before, said))
        else:
            yield from self._judge(said, before)

    def _sources(self) -> Iterator[str]:
        for name in self._context.casebook.names():
            row = self._context.casebook.source(name)
            if row is not None:
                yield f"- {name}: {row.counts['normal']} normal and {row.counts['anomalous']} anomalous cases\n"
        if not self._context.casebook.names():
            yield "There is no source yet: `precedent learn FILE --source NAME --label COLUMN` makes one."

    def _use(self, name: str) -> str:
        if name not in self._context.casebook.names():
            raise UnknownSource(name, self._context.casebook.names())
        return f"records are now judged as source {name}"

    def _last(self, before: Sequence[BaseMessage], said: str) -> str:
        if named := _NAMED.search(said):
            return named[1]
        for message in reversed(before):
            if isinstance(message, AIMessage) and (found := _VERDICT.findall(str(message.text))):
                return str(found[-1])
        raise UsageError("There is no verdict yet to speak of: paste a record first.")

    def _correct(self, verdict_id: str, label: Label) -> Iterator[str]:
        case = correct(self._context, verdict_id, label)
        yield f"Noted: the record of {verdict_id} is now case {case.case_id}, {label}; the next one like it follows."
        if changes := refit_if_due(self._context, verdict_id):
            yield f"\nThe source was fitted again: {plural(changes, 'change')} of its casebook since the last fit."

    def _why(self, verdict_id: str) -> Iterator[str]:
        verdict = load_verdict(self._context, verdict_id)
        yield " ".join(verdict.explanation.split()) or f"{verdict.label}, probability {verdict.probability:.2f}."
        yield from self._sentences(verdict)

    def _sentences(self, verdict: Verdict) -> Iterator[str]:
        opening = "\n\nIn words:"
        try:
            with mapped():
                for sentence in sentences_for_stored_verdict(self._context, verdict):
                    yield f"{opening} {sentence}"
                    opening = ""
        except PrecedentError as error:
            yield f"\n\n(No more words: {error})"

    def _precedents(self, verdict_id: str) -> Iterator[str]:
        verdict = load_verdict(self._context, verdict_id)
        if not verdict.precedents:
            yield f"Verdict {verdict_id} had no precedents: the casebook of {verdict.source} is empty."
        for one in verdict.precedents:
            yield f"- {one.case_id} {one.label}, similarity {one.similarity:.2f}: {' '.join(one.text.split())[:200]}\n"

    def _judge(self, said: str, before: Sequence[BaseMessage]) -> Iterator[str]:
        prefix = _PREFIX.match(said)
        if prefix and prefix["name"] in self._context.casebook.names():
            source, said = prefix["name"], prefix["rest"].strip()
        else:
            source = self._source(before)
        questions = _questions(said, source, self._context.settings.max_record_chars)
        if len(questions) == 1:
            verdict = self._chain.invoke(questions[0])
            # on one line: nothing that a record says may begin a line, where verdicts are looked for
            yield f"verdict {verdict.id} (source {verdict.source}): {' '.join(verdict.explanation.split())}"
            if verdict.degraded:
                yield f"\nNot heard: {'; '.join(verdict.degraded)}"
            if verdict.label != "normal":
                yield from self._sentences(verdict)
            return
        for question in questions:
            verdict = self._chain.invoke(question)
            text = " ".join(verdict.record.text.split())[:100]
            yield f"verdict {verdict.id} {verdict.label} {verdict.probability:.2f}: {text}\n"

    def _source(self, before: Sequence[BaseMessage]) -> str | None:
        for message in reversed(before):
            if isinstance(message, AIMessage):
                text = str(message.text)
                if using := _USING.match(text):
                    return using[1]
                if verdict := _VERDICT.match(text):
                    try:
                        return load_verdict(self._context, verdict[1]).source
                    except UnknownVerdict:
                        continue
        names = self._context.casebook.names()
        if len(names) > 1:
            raise UsageError(
                f"Which source does it come from? Say `use NAME` once, or write NAME> before it: {', '.join(names)}"
            )
        return None


def _asks(said: str, about: frozenset[str]) -> bool:
    """Whether ``said`` is a question of this kind and nothing else."""
    if not _ASKED.fullmatch(said):
        return False
    words = [word for word in re.findall(r"[\w']+", said.lower()) if not _NAMED.fullmatch(word)]
    own = {word for phrase in about for word in phrase.split()}
    phrases = {*words, *(f"{one} {two}" for one, two in pairwise(words))}
    return bool(phrases & about) and set(words) <= own | _BESIDE


def _questions(said: str, source: str | None, most_chars: int) -> list[JudgeRequest]:
    """One question for a JSON object, else one for each line."""
    if (whole := _object(said)) is not None:
        return [_asked(whole, said, source, most_chars)]
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    if len(lines) > _MOST_LINES:
        raise UsageError(
            f"{len(lines)} lines are many for a conversation: `precedent judge FILE --source NAME` takes them all"
        )
    return [_asked(_object(line), line, source, most_chars) for line in lines]


def _object(said: str) -> dict[str, Any] | None:
    """The JSON object that was pasted, if it is one and says something."""
    if not said.startswith("{"):
        return None
    try:
        fields = json.loads(said)
    except (ValueError, RecursionError):
        return None
    return fields or None


def _asked(fields: dict[str, Any] | None, said: str, source: str | None, most_chars: int) -> JudgeRequest:
    if fields is None:
        return parse_request({"source": source, "text": said}, most_chars)
    if set(fields) <= {*JudgeRequest.model_fields, "record"} - {"explain"}:
        return parse_request({"source": source, **fields}, most_chars)
    return parse_request({"source": source, "text": said, "fields": fields}, most_chars)
